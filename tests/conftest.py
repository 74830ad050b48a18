"What the tests share: the list of the project's files, copies of it to work in, and commands run from it."
import os, shutil, subprocess, sys
from configparser import ConfigParser
from contextlib import contextmanager
from pathlib import Path

import pytest

root = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(root), str(root/'tools')]
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')      # as in tools/run_notebook.py
built = {'.git', '.venv', 'venv', '_proc', '_docs', '_site', '__pycache__', '.pytest_cache', '.ipynb_checkpoints', 'build', 'dist', '.quarto', 'dl4ia_tour', 'runs'}


def project_files():
    "Paths of the project's files relative to its top: what git tracks or would track; all but build products where there is no git"
    p = subprocess.run(['git', '-c', 'safe.directory=*', 'ls-files', '-co', '--exclude-standard', '-z'], cwd=root, capture_output=True) if (root/'.git').exists() else None
    if p and p.returncode == 0: names = p.stdout.decode().split('\0')
    else:
        names = [(Path(d)/f).relative_to(root).as_posix() for d, ds, fs in os.walk(root) for f in fs
                 if not any(o in built or o.endswith('.egg-info') for o in (Path(d)/f).relative_to(root).parts) and f != 'nbdev.yml' and not f.endswith('.pyc')]
    return sorted(o for o in names if o and os.path.lexists(root/o))


def copy_project(dest):
    "A copy of the project's files in `dest`"
    for o in project_files():
        (dest/o).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root/o, dest/o, follow_symlinks=False)
    return dest


def run_in(folder, *cmd, timeout=300, **env):
    "Run `cmd` in `folder`, whose package comes first on the path; returns the finished process, its output as text"
    e = {k: v for k, v in os.environ.items() if k not in ('IN_TEST', 'PYTEST_CURRENT_TEST')}
    e.update(PYTHONPATH=str(folder), PYTHONIOENCODING='utf-8', **env)
    return subprocess.run([str(o) for o in cmd], cwd=folder, env=e, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, encoding='utf-8', errors='replace', timeout=timeout)


@contextmanager
def loaded(loops):
    "A module's loops in machine code are loaded, if they can be, and afterwards all is as before"
    before = vars(loops).copy()
    try: yield loops.load()
    finally: vars(loops).update(before)


def without_and_with(loops, f):
    "What `f` returns without and with the loops"
    code, loops.code, loops.asked = loops.code, None, True
    a = f(); loops.code = code
    return a, f()


def settings():
    "settings.ini as a mapping"
    p = ConfigParser(delimiters=['='])
    p.read(root/'settings.ini', encoding='utf-8')
    return p['DEFAULT']


def sidebar_pages():
    "The notebooks that _quarto.yml lists in the sidebar, in order"
    import yaml
    def walk(o):
        if isinstance(o, str): yield o
        elif isinstance(o, dict): yield from walk(o.get('contents', o.get('href', [])))
        elif isinstance(o, list):
            for x in o: yield from walk(x)
    return list(walk(yaml.safe_load((root/'_quarto.yml').read_text(encoding='utf-8'))['website']['sidebar']['contents']))


@pytest.fixture
def project_copy(tmp_path): return copy_project(tmp_path/'project')


@pytest.fixture(scope='session')
def browser(tmp_path_factory):
    "Headless Chromium; without it a test skips, with DL4IA_REQUIRE_BROWSER=1 it fails"
    from browser import find_browser, open_browser
    found, why = find_browser()
    if not found: pytest.fail(why) if os.environ.get('DL4IA_REQUIRE_BROWSER') == '1' else pytest.skip(why)
    driver = open_browser(tmp_path_factory.mktemp('chromium'))
    yield driver
    driver.quit()

"The wheel: what is in it, and that it installs and works where nbdev is not, with the newest fastcore."
import os, re, subprocess, sys, sysconfig, venv, zipfile
from pathlib import Path

import pytest

from conftest import copy_project, run_in, settings

cfg = settings()
code = """
import importlib, pkgutil, sys, {pkg}
assert 'site-packages' in {pkg}.__file__ and {pkg}.__file__.startswith(sys.prefix), {pkg}.__file__
mods = [m.name for m in pkgutil.iter_modules({pkg}.__path__) if m.name[0] != '_']
for m in mods: importlib.import_module('{pkg}.' + m)
bad = sorted(set(m.split('.')[0] for m in sys.modules) & set('nbdev execnb ghapi ipywidgets pytest'.split()))
assert not bad, f'imported at run time: {{bad}}'
import fastcore
assert fastcore.__file__.startswith(sys.prefix), fastcore.__file__
print('fastcore', fastcore.__version__, 'modules', *mods)
""".format(pkg=cfg['lib_path'])


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    tmp = tmp_path_factory.mktemp('wheel')
    p = run_in(copy_project(tmp/'project'), sys.executable, '-m', 'build', '--no-isolation', '--outdir', tmp/'dist')     # the source distribution, and the wheel from it
    assert p.returncode == 0 and len(list((tmp/'dist').glob('*.tar.gz'))) == 1, p.stdout[-3000:]
    whl, = (tmp/'dist').glob('*.whl')
    return whl


def test_contents(wheel):
    names, pkg = zipfile.ZipFile(wheel).namelist(), cfg['lib_path']
    have = {o for o in names if o.startswith(pkg + '/')}
    root = Path(__file__).resolve().parent.parent
    assert have == {o.relative_to(root).as_posix() for o in (root/pkg).rglob('*.py')} | {f'{pkg}/py.typed'} | {o.relative_to(root).as_posix() for o in (root/pkg/'sheets').glob('*.ipynb')} | {f'{pkg}/weights/{n}_cifar10.safetensors' for n in ('simclr', 'deepcluster')}
    assert sum(o.startswith(f'{pkg}/sheets/') for o in have) == 10
    rest = {o for o in names if not o.startswith(pkg + '/')}
    assert all('.dist-info/' in o for o in rest), rest
    assert any(o.endswith('LICENSE') for o in rest)
    meta = zipfile.ZipFile(wheel).read(next(o for o in rest if o.endswith('/METADATA'))).decode()
    assert not re.search(r'\]\((?!https?:|#|mailto:)', meta), 'a link that PyPI cannot follow'
    assert f"Version: {cfg['version']}" in meta and re.search(r'^License(-Expression)?: Apache-2.0$', meta, re.M) and 'Author: ' + cfg['author'] in meta
    runtime = [l for l in meta.splitlines() if l.startswith('Requires-Dist') and 'extra ==' not in l]
    assert not any(o in l for l in runtime for o in ('nbdev', '<', '=='))          # lower bounds only


def test_installs_in_a_clean_environment(wheel, tmp_path):
    "A new environment that sees this one's torch, but has its own, newest fastcore"
    env = tmp_path/'env'
    venv.create(env, with_pip=True)
    bin = env/('Scripts' if os.name == 'nt' else 'bin')
    py = bin/('python.exe' if os.name == 'nt' else 'python')
    site = Path(subprocess.check_output([py, '-c', 'import sysconfig; print(sysconfig.get_path("purelib"))'], text=True).strip())
    outer = {sysconfig.get_path('purelib'), sysconfig.get_path('platlib')}
    (site/'outer.pth').write_text('\n'.join(outer) + '\n')
    e = {k: v for k, v in os.environ.items() if k not in ('PYTHONPATH', 'IN_TEST')}
    run = lambda *a: subprocess.run([str(o) for o in a], cwd=tmp_path, env=e, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    pip = [py, '-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--no-warn-conflicts']
    p = run(*pip, '--upgrade', 'fastcore')
    if p.returncode:
        msg = 'the package index cannot be reached: ' + p.stdout.strip()[-300:]
        pytest.fail(msg) if os.environ.get('DL4IA_REQUIRE_INDEX') else pytest.skip(msg)
    p = run(*pip, wheel)
    assert p.returncode == 0, p.stdout[-3000:]
    p = run(py, '-c', code)
    assert p.returncode == 0, p.stdout[-3000:]
    print(p.stdout)
    major = int(p.stdout.split('fastcore ')[1].split('.')[0])
    assert major >= 2, p.stdout
    for o in cfg['console_scripts'].split():
        p = run(bin/o.split('=')[0], '--help')
        assert p.returncode == 0 and 'usage' in p.stdout.lower(), p.stdout[-3000:]
    p = run(bin/'dl4ia_exercises', 'exercises')               # the notebooks come from the wheel
    assert p.returncode == 0 and len(list((tmp_path/'exercises').glob('*.ipynb'))) == 10, p.stdout[-3000:]

"""pytest collects every notebook under nbs/ as one test.

Each runs in a process of its own, through `tools/run_notebook.py` and so through nbdev's test runner: one notebook's crash,
threads or memory do not touch the next. `--slow` also runs the cells and tests marked slow.

Most of a chapter's time goes by on one core, so pytest-xdist (`-n auto` in pytest.ini) runs two files at a time, the notebooks
that say of themselves that they take longest first.
"""
import json, os, re, signal, subprocess, sys
from pathlib import Path

import pytest

root = Path(__file__).resolve().parent
sys.path.insert(0, str(root/'tools'))
from run_notebook import thread_counts
nbs, cores = root/'nbs', os.cpu_count() or 2
if 'PYTEST_XDIST_WORKER' in os.environ:                    # the cores are shared, and threads that wait for each other on a shared core cost a tenth
    share = cores//int(os.environ.get('PYTEST_XDIST_WORKER_COUNT', 2))
    for o in thread_counts: os.environ.setdefault(o, str(min(2, max(1, share))))
timeout, slow_timeout = int(os.environ.get('DL4IA_NB_TIMEOUT', 1200)), int(os.environ.get('DL4IA_NB_TIMEOUT', 4*3600))


def pytest_addoption(parser):
    parser.addoption('--slow', action='store_true', help='also run notebook cells and tests marked slow (and gpu cells, where there is a GPU)')


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    "Workers for `-n auto`: one for two cores, at least two and at most four; one file, and what is slow and may measure time, runs in this process"
    files = {o.split('::')[0] for o in config.args}
    if config.getoption('--slow') or len(files) == 1 and Path(*files).is_file(): return 0
    return max(2, min(4, cores//2))


def _runtime(item):
    "Seconds that a notebook's *Runtime* line states; a minute where it has none, 0 for other tests"
    if not isinstance(item, NotebookItem): return 0
    m = re.search(r'\*Runtime\*[^\d.\n]*(\d+) (s|minute)', item.path.read_text(encoding='utf-8'))
    return int(m[1])*(60 if m[2] == 'minute' else 1) if m else 60


def pytest_collection_modifyitems(config, items):
    if 'PYTEST_XDIST_WORKER' in os.environ: items.sort(key=_runtime, reverse=True)
    if config.getoption('--slow'): return
    for item in items:
        if item.get_closest_marker('slow'): item.add_marker(pytest.mark.skip(reason='slow: run with --slow'))


def pytest_collect_file(file_path, parent):
    if file_path.suffix != '.ipynb' or not file_path.is_relative_to(nbs): return
    parts = file_path.relative_to(nbs).parts
    if any(o[0] in '_.' for o in parts) or (file_path.parent/'.notest').exists(): return
    return NotebookFile.from_parent(parent, path=file_path)


class NotebookFile(pytest.File):
    def collect(self): yield NotebookItem.from_parent(self, name=self.path.stem)


class NotebookFailure(Exception): "A notebook's test failed; the message says where and why"


class NotebookItem(pytest.Item):
    "One notebook"
    def runtest(self):
        slow = self.config.getoption('--slow')
        report = self.config._tmp_path_factory.mktemp('notebook')/'report.json'
        cmd = [sys.executable, str(root/'tools'/'run_notebook.py'), str(self.path), '--report', str(report)] + (['--slow'] if slow else [])
        env = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(root), *filter(None, [os.environ.get('PYTHONPATH')])])}
        p = subprocess.Popen(cmd, cwd=root, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             text=True, encoding='utf-8', errors='replace', start_new_session=True)
        limit = slow_timeout if slow else timeout
        try: out, why = p.communicate(timeout=limit)[0], None
        except subprocess.TimeoutExpired:
            _kill(p)
            out, why = p.communicate()[0], f'did not finish in {limit} s'
        except BaseException:
            _kill(p)
            raise
        res = json.loads(report.read_text(encoding='utf-8')) if report.exists() else {}
        if res.get('done') and why is None:
            if not res['ok']: raise NotebookFailure(res['message'])
            return
        why = why or f'its process ended with status {p.returncode}'
        where = f", in cell {res['cell']}" if 'cell' in res else ''
        raise NotebookFailure(f'{self.path.relative_to(root).as_posix()}{where}: {why}\n' + '\n'.join(out.splitlines()[-40:]))

    def repr_failure(self, excinfo, style=None):
        return str(excinfo.value) if isinstance(excinfo.value, NotebookFailure) else super().repr_failure(excinfo, style)

    def reportinfo(self): return self.path, None, self.path.relative_to(root).as_posix()


def _kill(p):
    "End the process `p` and its children"
    try: os.killpg(p.pid, signal.SIGKILL)
    except (AttributeError, ProcessLookupError, PermissionError): p.kill()

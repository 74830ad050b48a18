"The benchmark of K-means: it runs, its implementations end at the same inertia, and what it prints is what it keeps"
import argparse, importlib.util, json, math, os, re, shlex, shutil, sys
from pathlib import Path

import pytest

from conftest import root, run_in


def test_lloyd(tmp_path):
    p = run_in(root, sys.executable, 'benchmarks/kmeans.py', 'lloyd', '--quick', '--repeats', '1', '--threads', '1', '--data', 'restless',
               '--impls', 'scikit-learn', 'faiss', 'dl4ia_nbdev', 'dl4ia_nbdev-none', '--json', tmp_path/'out.json', timeout=120)
    assert p.returncode == 0, p.stdout[-3000:]
    res = json.loads((tmp_path/'out.json').read_text(encoding='utf-8'))
    faiss = importlib.util.find_spec('faiss') is not None
    assert faiss or 'faiss is not installed' in p.stdout
    want, rows = {'scikit-learn', 'dl4ia_nbdev', 'dl4ia_nbdev-none'} | ({'faiss'} if faiss else set()), res['tables']['lloyd']
    for case in ('large', 'small'):
        rs = [r for r in rows if r['case'] == case]
        assert {r['implementation'] for r in rs} == want and f'{case}, restless: ' in p.stdout
        assert all(math.isfinite(r[o]) and r[o] > 0 for r in rs for o in ('ms/iteration', '× best peer', '× product', 'final inertia'))
        assert max(r['final inertia'] for r in rs) <= 1.001*min(r['final inertia'] for r in rs)
        assert all(0 < r['iterations'] <= 20 for r in rs)
    assert all(r['extra memory, MB'] >= 0 for r in rows[:len(want)])              # --quick measures the first fits
    assert {r['product'] for r in res['tables']['products']} >= {'numpy float32', 'torch float32'} and len(res['tables']['summary']) == 2
    for line in ('implementation', 'product', 'summary', *want): assert f'\n  {line}' in p.stdout or f'\n{line}' in p.stdout
    assert res['environment']['versions']['scikit-learn'] and res['settings']['threads'] == 1
    assert str(root) not in json.dumps(res) and str(tmp_path) not in json.dumps(res)


def test_deepvis(tmp_path):
    "The benchmark of deep visualization: it runs without the peer, and says so"
    p = run_in(root, sys.executable, 'benchmarks/deepvis.py', '--quick', '--threads', '1', '--json', tmp_path/'out.json', timeout=120)
    assert p.returncode == 0, p.stdout[-3000:]
    rows = json.loads((tmp_path/'out.json').read_text(encoding='utf-8'))['rows']
    assert 'no --lucent' in p.stdout and rows[0]['× floor'] == 1 and any(r['run'] == 'pixels' for r in rows) and rows[-1]['× nine runs'] < 1.5
    assert all(math.isfinite(r['ms/step']) and r['ms/step'] > 0 and r['× floor'] > .3 for r in rows)


def test_nt_xent(tmp_path):
    "The benchmark of the loss: it runs without the peers, and all implementations give one value"
    p = run_in(root, sys.executable, 'benchmarks/nt_xent.py', '--quick', '--threads', '1', '--json', tmp_path/'out.json', timeout=120)
    assert p.returncode == 0 and 'values differ' not in p.stdout, p.stdout[-3000:]
    rows = json.loads((tmp_path/'out.json').read_text(encoding='utf-8'))['rows']
    assert {'dl4ia_nbdev', 'textbook'} <= {r['implementation'] for r in rows} and all(math.isfinite(r['ms']) and r['ms'] > 0 for r in rows)


@pytest.mark.skipif(not Path('/proc/self/clear_refs').exists(), reason='reads the peak memory from Linux')
def test_nt_xent_memory():
    "At most 64 MiB beyond 4,096 pairs (their matrix alone has 256), and twice the pairs take at most twice that"
    sys.path.insert(0, str(root/'benchmarks')); from common import steady                 # noqa: E401
    def used(pairs):
        p = run_in(root, sys.executable, '-W', 'ignore', 'benchmarks/nt_xent.py', '--threads', '2', '--memory-child', 'dl4ia_nbdev', pairs, **{k: v for k, v in steady().items() if k.startswith('MALLOC')})
        assert p.returncode == 0, p.stdout[-3000:]
        return float(p.stdout.splitlines()[-1])
    for _ in range(3):                                                                     # a peak can hold more than ours (pages the kernel moves), never less
        small, large = used(4096), used(8192)
        if small <= 64 and large <= 2*small: break
    assert small <= 64 and large <= 2*small, f'MiB beyond the data: {small:.0f} for 4,096 pairs, {large:.0f} for 8,192'


def test_views(tmp_path):
    "The benchmark of the views: it runs without the peers, and finds torchvision"
    p = run_in(root, sys.executable, 'benchmarks/views.py', '--quick', '--threads', '1', '--json', tmp_path/'out.json', timeout=120)
    assert p.returncode == 0, p.stdout[-3000:]
    rows = json.loads((tmp_path/'out.json').read_text(encoding='utf-8'))['rows']
    assert {'dl4ia_nbdev', 'torchvision v2', 'torchvision v2, 1 workers'} <= {r['implementation'] for r in rows} and all(math.isfinite(r['ms']) and r['ms'] > 0 for r in rows)


def test_simclr(tmp_path):
    "The benchmark of the training step runs, and a step takes longer than its encoder alone"
    p = run_in(root, sys.executable, 'benchmarks/simclr.py', '--quick', '--threads', '1', '--json', tmp_path/'out.json', timeout=120)
    assert p.returncode == 0, p.stdout[-3000:]
    row, = json.loads((tmp_path/'out.json').read_text(encoding='utf-8'))['rows']
    assert math.isfinite(row['ms']) and 0 < row['encoder alone, ms'] < row['ms'] < 100*row['encoder alone, ms']


def test_evaluate(tmp_path):
    "The benchmark of the judges: neighbours are scikit-learn's, and the probe's objective is as low"
    p = run_in(root, sys.executable, 'benchmarks/evaluate.py', '--quick', '--threads', '1', '--json', tmp_path/'out.json', timeout=120)
    assert p.returncode == 0, p.stdout[-3000:]
    rows = json.loads((tmp_path/'out.json').read_text(encoding='utf-8'))['rows']
    assert all(math.isfinite(r['s']) and r['s'] > 0 for r in rows) and re.findall(r'^ *(\d+) of 500 rows', p.stdout, re.M) == ['0', '0']
    probe = {r['implementation']: r for r in rows if r['judge'] == 'linear probe'}
    assert probe['dl4ia_nbdev, λ = 1e-3']['objective'] < probe['scikit-learn, λ = 1e-3']['objective'] + 1e-4
    assert probe['dl4ia_nbdev, λ chosen']['test accuracy, %'] > probe['scikit-learn, C = 1']['test accuracy, %'] - 1


def test_minutes(tmp_path):
    "What CIFAR-10 teaches in so many minutes: it keeps to its time, and writes what it did"
    if not os.environ.get('DL4IA_DATA'): pytest.skip('needs CIFAR-10 in $DL4IA_DATA')
    for method, own in (('simclr', {}), ('deepcluster', dict(n_clusters=10, rounds=2))):
        p = run_in(root, sys.executable, 'benchmarks/minutes.py', method, '--minutes', '.03', '--images', '600', '--validate', '--no-linear', '--threads', '1', '--set', json.dumps(dict(width=[8, 16]) | own), '--json', tmp_path/'out.jsonl', timeout=120)
        assert p.returncode == 0, p.stdout[-3000:]
    p = run_in(root, sys.executable, 'benchmarks/minutes.py', 'deepcluster', '--epochs', '2', '--images', '600', '--validate', '--no-linear', '--threads', '1', '--set', json.dumps(dict(width=[8, 16], n_clusters=10, rounds=2)), timeout=120); assert p.returncode == 0 and (r := json.loads(p.stdout.splitlines()[-1]))['epochs'] == 2 and r['minutes'] == round(r['seconds']/60, 1), p.stdout[-3000:]
    rows = [json.loads(l) for l in (tmp_path/'out.jsonl').read_text(encoding='utf-8').splitlines()]
    assert [r['method'] for r in rows] == ['simclr', 'deepcluster'] and all(0 < r['seconds'] < 60 and r['epochs'] >= 1 and 0 < r['knn'] <= 100 and r['environment']['threads'] == 1 for r in rows)


def test_runs_of_the_pages(tmp_path):
    "One command makes all runs of the tables and knows those that are there; a run made again takes the place of the earlier one"
    sys.path.insert(0, str(root/'benchmarks')); import minutes                              # noqa: E401
    made: dict[str, list] = {}                                                              # what `all` would make in an empty folder
    with pytest.MonkeyPatch.context() as m:
        m.setattr(minutes, 'images', lambda *o: (None, None)); m.setattr(minutes, 'untrained', lambda *o: []); m.setattr(minutes, 'keep', lambda *o: None)
        m.setattr(minutes, 'trained', lambda a, own, *o: made.setdefault(a.results.stem, []).append(minutes.what(minutes.about(a, a.minutes) | dict(settings=own))) or (None, None)); minutes.main(['all', '--results', str(tmp_path)])
    args = lambda run: [*shlex.split(run), '--results', str(tmp_path/'rows.json'), '--new']
    for name, runs in minutes.RUNS.items():
        shutil.copy(root/'nbs'/'results'/f'{name}.json', tmp_path/'rows.json'); before = (tmp_path/'rows.json').read_bytes(); rows = [r for r in json.loads(before)['rows'] if r['judged_on'] == 'test set']
        with pytest.MonkeyPatch.context() as m:
            m.setattr(minutes, 'images', lambda *o: (None, None)); m.setattr(minutes, 'trained', lambda *o: pytest.fail(f'would be made again: {o[0]}'))
            for run in runs.splitlines(): minutes.main(args(run))
        assert (tmp_path/'rows.json').read_bytes() == before
        lost = [r['method'] for r in rows if r['minutes'] and 'run_minutes' not in r and minutes.what(r) not in made[name]]; assert not lost, lost
    a = argparse.Namespace(results=tmp_path/'new.json', json=None, method='simclr'); row = dict(method='simclr', minutes=5., seed=0, judged_on='test set', settings={}, knn=60.)
    for r in (row, row | dict(seed=1), row | dict(knn=61.)): minutes.keep(r, a)
    got = json.loads((tmp_path/'new.json').read_text(encoding='utf-8')); assert [(r['seed'], r['knn']) for r in got['rows']] == [(1, 60.), (0, 61.)] and 'cosine' in got['settings']['measure']


def test_plans(tmp_path):
    "A plan is kept beside its checkpoint alone, and no other run goes on with it"
    sys.path.insert(0, str(root/'benchmarks')); import minutes                              # noqa: E401
    a, b = tmp_path/'run.5', tmp_path/'run.15'; ask = lambda file, epochs, **asked: minutes.planned(file, lambda: dict(epochs=epochs), **asked)['epochs']
    assert ask(a, 3, minutes=5) == 3 and ask(a, 4, minutes=5) == 4                          # stopped before the checkpoint was there: planned anew
    a.touch(); assert ask(b, 9, minutes=15) == 9 and ask(a, 5, minutes=5) == 4 and ask(None, 5) == 5
    with pytest.raises(SystemExit, match="'minutes': 5.*got.*'minutes': 15"): ask(a, 9, minutes=15)
    for words in (['all', '--validate', '--results', str(tmp_path)], ['all'], ['simclr', '--search', '--epochs', '5', '--results', str(tmp_path/'x.json')]):
        with pytest.raises(SystemExit): minutes.main(words)


def test_studies_keep_what_is_done(tmp_path, monkeypatch, capsys):
    "A run that fails costs none of the others, and `--save` writes what `--json` has, whenever it was made"
    from concurrent.futures import Future
    sys.path.insert(0, str(root/'benchmarks')); import studies                             # noqa: E401
    class Pool:
        def __init__(self, *a, **k): pass
        def __enter__(self): return self
        def __exit__(self, *o): pass
        def submit(self, work, study, r, quick):
            f = Future(); f.set_exception(FloatingPointError('no loss')) if fails(study, r) else f.set_result(dict(study=study, knn=50., seconds=1.) | r); return f
    def run(*words): monkeypatch.setattr(sys, 'argv', ['studies.py', 'head', '--json', str(tmp_path/'new'/'runs.jsonl'), *words]); studies.main()
    monkeypatch.setattr(studies, 'ProcessPoolExecutor', Pool)
    fails = lambda study, r: study == 'base' and r['seed'] == 0
    with pytest.raises(SystemExit, match='^1 runs failed'): run()
    assert 'no loss' in capsys.readouterr().err and len((tmp_path/'new'/'runs.jsonl').read_text().splitlines()) == (n := sum(len(studies.plan(s)) for s in ('base', 'baselines', 'head'))) - 1
    fails = lambda study, r: (study, r['seed']) != ('base', 0)                              # nothing else is made again
    run(); run('--save', str(tmp_path)); assert len(json.loads((tmp_path/'ablations.json').read_text(encoding='utf-8'))['rows']) == n


def test_studies(tmp_path):
    "Runs of a study: two jobs give what one gives, what is in the file is not made again, and the results files can be read"
    if not os.environ.get('DL4IA_DATA'): pytest.skip('needs CIFAR-10 in $DL4IA_DATA')
    def run(jobs, file, *more):
        p = run_in(root, sys.executable, 'benchmarks/studies.py', 'head', '--quick', '--jobs', str(jobs), '--json', tmp_path/file, *more, timeout=120); assert p.returncode == 0, p.stdout[-3000:]
        return sorted((json.loads(l) for l in (tmp_path/file).read_text(encoding='utf-8').splitlines()), key=lambda r: (r['study'], r['seed'], r.get('method', '')))
    a, b = run(2, 'two.jsonl'), run(1, 'one.jsonl')
    plain = lambda rows: [{k: v for k, v in r.items() if k not in ('seconds', 'environment', 'curve')} for r in rows]
    assert plain(a) == plain(b) and [r['study'] for r in a] == ['base', 'base', 'baselines', 'baselines', 'head', 'head']
    assert len(run(1, 'two.jsonl')) == 6 and all(r['quick'] for r in a)                     # nothing new
    sys.path.insert(0, str(root/'benchmarks')); import studies                             # noqa: E401
    studies.collect(a, tmp_path); assert not (tmp_path/'ablations.json').exists()           # trials are no results
    studies.collect([{k: v for k, v in r.items() if k != 'quick'} for r in a], tmp_path); stored = json.loads((tmp_path/'ablations.json').read_text(encoding='utf-8'))
    assert len(stored['rows']) == 6 and stored['settings']['questions']['head'] and stored['settings']['measure'] and all(0 < r['knn'] < 100 and r['seconds'] > 0 and r['environment']['threads'] == 1 for r in stored['rows'] if r['study'] == 'head')
    p = run_in(root, sys.executable, 'benchmarks/studies.py', 'head', '--quick', '--json', tmp_path/'two.jsonl', '--save', tmp_path); assert p.returncode == 2 and 'trials' in p.stdout


def test_gpu(tmp_path):
    "What is for a GPU runs small on a CPU: K-means has no wrong label, and a run in pieces is the run without a stop"
    def run(*args):
        p = run_in(root, sys.executable, 'benchmarks/gpu.py', *args, '--quick', '--device', 'cpu', '--json', tmp_path/'out.jsonl', timeout=120); assert p.returncode == 0, p.stdout[-3000:]
        return p.stdout
    run('kmeans')
    if os.environ.get('DL4IA_DATA'):
        for method in ('simclr', 'deepcluster'):
            own = method, '--epochs', '2', '--set', '{"batch_size": 64}'; piece = '--run', str(tmp_path/f'{method}.pt'), '--piece', '.001'
            assert '1 of 2 epochs' in run(*own, *piece); run(*own, *piece); run(*own)
    km, *runs = [json.loads(l) for l in (tmp_path/'out.jsonl').read_text(encoding='utf-8').splitlines()]
    assert km['wrong_of_1000'] == 0 and 0 < km['iterations'] <= 20 and km['seconds'] > 0
    if runs: assert len(runs) == 4 and all(a[k] == b[k] for a, b in (runs[:2], runs[2:]) for k in ('method', 'loss', 'knn', 'knn200', 'linear', 'settings'))

"The loops in machine code: results to the bit with and without, when they are loaded, and where they must stay away"
import os, subprocess, sys, threading
from functools import partial
import numpy as np, pytest, torch
from conftest import loaded, without_and_with

pytest.importorskip('numba')
from dl4ia_nbdev.kmeans import KMeans, MiniBatchKMeans
from dl4ia_nbdev.nearest import _Loops, _loops


def points(n=3000, d=32, seed=0): return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(autouse=True)
def there():
    "The loops are there in each test"
    with loaded(_loops) as they_are: assert they_are; yield


both = partial(without_and_with, _loops)


def same(a, b):
    for name in ('cluster_centers_', 'labels_', 'inertia_', 'n_iter_'): np.testing.assert_array_equal(np.asarray(getattr(a, name)), np.asarray(getattr(b, name)), err_msg=name)
    for o, p in zip(a.history_, b.history_): assert {k: v for k, v in o.items() if k not in ('seconds', 'n_close')} == {k: v for k, v in p.items() if k not in ('seconds', 'n_close')}


weights = torch.rand(3000, generator=torch.Generator().manual_seed(1))
kinds = {'normal': points(), 'far off': points() + 1e4, 'float64': points().double(), 'half': points().half(), 'bytes': (40*points() + 128).clamp(0, 255).byte(), 'huge': points()*1e30,
         'columns first': points(32, 3000).T, 'twice': points(1500).repeat(2, 1), 'whole numbers': points().mul(2).round(), 'array': points().numpy()}

@pytest.mark.parametrize('screen', ['none', 'bfloat16', 'int8'])
@pytest.mark.parametrize('kind', kinds)
def test_the_same_bits(kind, screen):
    X = kinds[kind]
    same(*both(lambda: KMeans(40, init=X[:40], max_iter=8, tol=0., screen=screen).fit(X)))


@pytest.mark.parametrize('how', [dict(spherical=True), dict(n_init=2), dict(empty='drop'), dict(chunk_size=500), dict(max_points_per_cluster=30), dict(init='k-means||')], ids=str)
def test_the_same_bits_with_settings(how):
    X = points()
    same(*both(lambda: KMeans(40, **(dict(init='random', random_state=0, max_iter=8) | how)).fit(X)))


def test_the_same_bits_with_weights_and_batches():
    X = points()
    same(*both(lambda: KMeans(40, init=X[:40], max_iter=8, tol=0.).fit(X, sample_weight=weights)))
    same(*both(lambda: KMeans(40, init=X[:40], max_iter=8, tol=0.).fit(list(X.split(700)))))
    a, b = both(lambda: MiniBatchKMeans(40, init=X[:40], batch_size=300, max_iter=3, random_state=0).fit(X)); assert torch.equal(a.cluster_centers_, b.cluster_centers_)
    a, b = both(lambda: a.predict(X)); assert torch.equal(a, b)


def test_any_number_of_threads_gives_the_same_bits():
    X, threads = points(20_000), torch.get_num_threads()
    try:
        fits = []
        for n in (1, 2): torch.set_num_threads(n); fits.append(KMeans(50, init=X[:50], max_iter=8, tol=0., screen='none').fit(X))
    finally: torch.set_num_threads(threads)
    same(*fits)


def test_switching_half_way_through_changes_nothing():
    X = points(); want = KMeans(40, init=X[:40], max_iter=12, tol=0., screen='bfloat16').fit(X)
    class Half(KMeans):                                      # the loops come and go from one iteration to the next
        def _carry(self, *a): _loops.code = None if _loops.code else code; return KMeans._carry(*a)
    code = _loops.code
    same(want, Half(40, init=X[:40], max_iter=12, tol=0., screen='bfloat16').fit(X))


def test_from_several_threads_at_once():
    X = points(); want = KMeans(40, init=X[:40], max_iter=8, tol=0.).fit(X); got = []
    def fit():
        for _ in range(5): got.append(KMeans(40, init=X[:40], max_iter=8, tol=0.).fit(X))
    threads = [threading.Thread(target=fit) for _ in range(3)]
    for t in threads: t.start()
    for t in threads: t.join()
    assert len(got) == 15
    for g in got: same(want, g)


def test_loaded_after_a_second_of_work_and_once():
    class Asked(_Loops):
        times = 0
        def load(self): self.times += 1; self.asked = True; return False
    l = Asked("compiled", None)
    for _ in range(9): l.worked(.1)
    assert l.times == 0
    for _ in range(9): l.worked(.1)
    assert l.times == 1 and l.code is None


@pytest.mark.parametrize('fault', ['ImportError("Numba needs NumPy 2.3 or less")', 'SystemError("another LLVM")'])
def test_without_numba_or_with_one_that_fails(fault, tmp_path):
    (tmp_path/'numba.py').write_text(f'raise {fault}')
    code = f'''
import sys; sys.path.insert(0, {str(tmp_path)!r})
import torch
from dl4ia_nbdev.kmeans import KMeans
from dl4ia_nbdev.nearest import _loops
X = torch.randn(500, 8, generator=torch.Generator().manual_seed(0))
_loops.worked(2.); assert _loops.code is None and _loops.asked
print(KMeans(5, init=X[:5], max_iter=5).fit(X).inertia_)'''
    X = torch.randn(500, 8, generator=torch.Generator().manual_seed(0))
    out = subprocess.run([sys.executable, '-W', 'error', '-c', code], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    assert float(out.stdout) == KMeans(5, init=X[:5], max_iter=5).fit(X).inertia_


@pytest.mark.parametrize('name', ['_nearest', '_add', '_move', '_shares_threads'])
def test_loops_that_are_wrong_are_not_used(name, monkeypatch):
    from dl4ia_nbdev import compiled
    def wrong(*a):
        if name == '_nearest': a[-3][:] = 0; a[-2][:] = 0
    monkeypatch.setattr(compiled, name, wrong)
    assert not _loops.load() and _loops.code is None


def test_whatever_goes_wrong_in_loading_is_no_matter_of_the_fit(monkeypatch):
    from dl4ia_nbdev import compiled
    def fails(*a): raise OSError('no space left on device')
    monkeypatch.setattr(compiled, '_nearest', fails); threads = torch.get_num_threads()
    assert not _loops.load() and _loops.code is None and torch.get_num_threads() == threads


def test_loaded_inside_an_autocast():
    X = points(); want = KMeans(40, init=X[:40], max_iter=3, tol=0.).fit(X)
    _loops.code, _loops.asked, _loops.spent = None, False, 2.
    with torch.autocast('cpu'): same(want, KMeans(40, init=X[:40], max_iter=3, tol=0.).fit(X))
    assert _loops.code is not None


def test_float64_points_and_one_centre_load_nothing():
    _loops.code, _loops.asked, _loops.spent = None, False, 2.
    KMeans(5, random_state=0, max_iter=3).fit(points().double()); KMeans(1, max_iter=3).fit(points())
    assert not _loops.asked
    MiniBatchKMeans(5, random_state=0, max_iter=1).fit(points())
    assert _loops.asked


def test_no_place_to_keep_what_was_compiled(monkeypatch):
    import numba
    from dl4ia_nbdev import compiled
    def nowhere(self): raise RuntimeError('cannot cache function: no locator available')
    monkeypatch.setattr(type(numba.njit(lambda a: a)), 'enable_caching', nowhere)
    assert compiled._machine_code()(lambda a: a + 1)(2) == 3


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='no fork here')
def test_a_forked_process_goes_without():
    code = '''
import os, torch
from dl4ia_nbdev.kmeans import KMeans
from dl4ia_nbdev.nearest import _loops
torch.set_num_threads(1)
X = torch.randn(500, 8); assert _loops.load(); assert torch.get_num_threads() == 1       # numba's first call sets OpenMP's number
a = KMeans(5, init=X[:5], max_iter=3).fit(X)
child = os.fork()
if child == 0:
    b = KMeans(5, init=X[:5], max_iter=3).fit(X)
    os._exit(0 if _loops.code is None and torch.equal(a.cluster_centers_, b.cluster_centers_) else 3)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0 and _loops.code is not None'''
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=120)
    assert out.returncode == 0, out.stderr

"""K-means at the size the project promises: what it needs beyond the points, and that it repeats itself; and on tables of pandas."""
import subprocess, sys
from pathlib import Path

import numpy as np
import pytest

from conftest import root
from dl4ia_nbdev.kmeans import KMeans, MiniBatchKMeans

CODE = '''
import numpy as np, torch
from dl4ia_nbdev.kmeans import KMeans, MiniBatchKMeans, kmeans_plus_plus
def status(key): return int(next(l for l in open('/proc/self/status') if l.startswith(key)).split()[1])*1024/1e6
rng = np.random.default_rng(0)
X = rng.standard_normal((100_000, 256), dtype=np.float32)
small = X[:5000].copy()
for screen in ('int8','none'): KMeans(1000, init=small[:1000], max_iter=2, screen=screen).fit(small)
kmeans_plus_plus(small, 20, 0)
def extra(f):
    X.sum(); open('/proc/self/clear_refs', 'w').write('5')                 # all of X is in memory; the peak starts again from here
    before = status('VmRSS'); out = f(); return status('VmHWM') - before, out
for screen in ('auto','none'):
    mb, m = extra(lambda: KMeans(1000, init=X[:1000], max_iter=3, tol=0., screen=screen).fit(X))
    print(f'{screen} {mb:.1f}')
    again = KMeans(1000, init=X[:1000], max_iter=3, tol=0.).fit(X)
    assert (again.labels_ == m.labels_).all() and (again.cluster_centers_ == m.cluster_centers_).all() and again.inertia_ == m.inertia_, 'not the same twice'
print('plusplus %.1f' % extra(lambda: kmeans_plus_plus(X, 20, 0))[0])
for name, new in dict(start=lambda: KMeans(1000, max_iter=1, random_state=0), parallel=lambda: KMeans(1000, init='k-means||', max_iter=1, random_state=0), mini=lambda: MiniBatchKMeans(1000, max_iter=1, random_state=0)).items():
    print(f'{name} %.1f' % extra(lambda: new().fit(X))[0])
print('split %.1f' % extra(lambda: KMeans(4, init=np.r_[X[:1], np.full((3,256), 100, np.float32)], max_iter=2).fit(X))[0])    # the biggest cluster is all there is
X += 1e4
print('plusplus_far %.1f' % (extra(lambda: kmeans_plus_plus(X, 20, 0))[0] - X.nbytes/1e6))                                    # they are centred: one copy, and no second
'''

@pytest.mark.skipif(not Path('/proc/self/clear_refs').exists(), reason='reads the peak memory from Linux')
def test_memory_and_repeatability_at_full_size():
    "100,000×256 into 1000: at most 60 MB beyond the points, and bit-equal whichever way the nearest centre is found"
    # what K-means holds is asked, not what glibc keeps of memory that was given back: left to itself it moves its threshold as it
    # goes, keeps up to 150 MB for later, and no two processes agree (25 to 190 MB); with a fixed one they agree to 3 MB
    sys.path.insert(0, str(root/'benchmarks')); from kmeans import steady                 # noqa: E401
    for _ in range(3):                                                     # a peak can hold more than ours (pages the kernel moves), never less: the smallest of three processes
        run = subprocess.run([sys.executable, '-c', CODE], capture_output=True, text=True, env=steady())
        assert run.returncode == 0, run.stderr
        used = {l.split()[0]: float(l.split()[1]) for l in run.stdout.splitlines()}
        print(used)
        if max(used.values()) <= 60: break
    assert set(used) == {'auto','none','plusplus','start','parallel','mini','split','plusplus_far'} and max(used.values()) <= 60, f'MB beyond the points: {used}'


def test_data_frames():
    "Tables of pandas: names are kept, asked for again in the same order, and given to what comes out"
    pd = pytest.importorskip('pandas')
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 3)), columns=list('abc'))
    for kind in (KMeans, MiniBatchKMeans):
        m = kind(3, random_state=0).fit(X, sample_weight=pd.Series(np.ones(60)))
        assert list(m.feature_names_in_) == ['a', 'b', 'c'] and (m.labels_ == kind(3, random_state=0).fit(X.to_numpy()).labels_).all()
        with pytest.raises(ValueError, match='feature names should match'): m.predict(X[['c', 'b', 'a']])
        out = m.set_output(transform='pandas').transform(X)
        assert list(out.columns) == [f'{kind.__name__.lower()}{i}' for i in range(3)] and (out.to_numpy().argmin(1) == m.labels_).all()
    with pytest.raises(ValueError, match='X must hold real numbers'): KMeans(3).fit(X.assign(d='text'))

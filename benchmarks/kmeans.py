#!/usr/bin/env python
"""Time K-means against scikit-learn and faiss, and against the bare matrix product that no exact iteration can avoid.

    pip install faiss-cpu                                       # for the benchmark only; without it faiss's rows are left out
    python benchmarks/kmeans.py lloyd                           # 20 Lloyd iterations from the same centres
    python benchmarks/kmeans.py lloyd --cases large --data normal restless --repeats 3
    python benchmarks/kmeans.py init                            # what starts cost, and what they buy
    python benchmarks/kmeans.py minibatch                       # mini-batch K-means
    python benchmarks/kmeans.py memory                          # extra memory at the peak of a fit
    python benchmarks/kmeans.py all --quick --json OUT.json     # everything on a tenth of the points and clusters; results kept

benchmarks/README.md says how each number is measured.
"""
import argparse, importlib.util, math, subprocess, sys, tempfile, time
from functools import partial
from pathlib import Path
from statistics import mean, median

import numpy as np

from common import environment, headline, others_busy, pause, peak_memory, set_threads, show, steady, use_loops, write

cases = dict(large=(100_000, 256, 1000), small=(20_000, 64, 100))      # points, features, clusters
iters, ours, product = 20, 'dl4ia_nbdev', 'numpy float32'


# ---- data: by seed alone, nothing is downloaded ----

def features(rng, n, d):
    "What a random network of two layers with ReLU makes of heavy-tailed classes: correlated, skewed, not negative"
    z = rng.standard_t(4, (n, 32)) + 2*rng.standard_normal((50, 32))[rng.integers(50, size=n)]
    for m in (2*d, d): z = np.maximum(z.astype(np.float32) @ rng.standard_normal((z.shape[1], m), np.float32) * (2/z.shape[1])**.5, 0)
    return z


def make_data(name, n, d, k, seed=0):
    "The data set `name`, n×d float32"
    rng = np.random.default_rng(seed)
    if name == 'blobs':      # k blobs of unit spread, about 8 apart
        X = rng.standard_normal((n, d)) + rng.standard_normal((k, d))[rng.integers(k, size=n)] * 8/(2*d)**.5
    elif name == 'features': X = features(rng, n, d)
    elif name == 'whitened': # as DeepCluster clusters them: PCA-whitened, of length 1
        X = features(rng, n, d)
        X -= X.mean(0)
        w, V = np.linalg.eigh(np.cov(X, rowvar=False))
        X = X @ (V/np.sqrt(w + 1e-6*w[-1]))
        X /= np.linalg.norm(X, axis=1, keepdims=True)
    elif name == 'restless': # four dimensions, and a density over many scales: centres travel outwards to the end
        X = rng.standard_normal((n, 4)) * np.exp(2*rng.standard_normal((n, 1))) @ np.linalg.qr(rng.standard_normal((d, 4)))[0].T
    else: X = rng.standard_normal((n, d)) + dict(normal=0, offset=1e4)[name]
    return np.ascontiguousarray(X, np.float32)

datasets = 'normal blobs features whitened restless offset'.split()


def random_rows(X, k, seed): return X[np.random.default_rng(seed).choice(len(X), k, replace=False)]


def inertia(X, C, rows=8192):
    "Sum of squared distances to the nearest centre: float64 throughout, the same for every implementation"
    mu = X.mean(0, dtype=np.float64)
    C = np.asarray(C, np.float64) - mu
    c2, total = (C*C).sum(1), 0.
    for i in range(0, len(X), rows):
        x = X[i:i+rows] - mu
        total += ((x - C[(c2 - 2*x @ C.T).argmin(1)])**2).sum()
    return float(total)


# ---- implementations: (centres, iterations done, labels changed in the last one) from points and start ----

def fit_sklearn(X, C, iters):
    from sklearn.cluster import KMeans
    m = KMeans(len(C), init=C, n_init=1, max_iter=iters, tol=0, algorithm='lloyd').fit(X)
    return m.cluster_centers_, m.n_iter_, None


def fit_faiss(X, C, iters, **settings):
    import faiss
    m = faiss.Kmeans(X.shape[1], len(C), niter=iters, nredo=1, max_points_per_centroid=len(X), min_points_per_centroid=1, spherical=False, **settings)
    m.train(X, init_centroids=C)
    return m.centroids, len(m.obj), None


def fit_faiss_super(X, C, iters): return fit_faiss(X, C, iters, use_super_kmeans=True)      # new in faiss 1.15


def fit_ours(X, C, iters, screen='auto', compiled=True):
    from dl4ia_nbdev.kmeans import KMeans
    use_loops('nearest', compiled)
    m = KMeans(len(C), init=C, max_iter=iters, tol=0., screen=screen).fit(X)
    return m.cluster_centers_, m.n_iter_, m.history_[-1]['changed']

fits = {'scikit-learn': fit_sklearn, 'faiss': fit_faiss, 'faiss-super': fit_faiss_super, ours: fit_ours}
fits |= {f'{ours}-{o}': partial(fit_ours, screen=o) for o in ('none', 'int8', 'bfloat16')}              # each way of finding the nearest alone
fits |= {f'{ours}-torch': partial(fit_ours, compiled=False), f'{ours}-torch-none': partial(fit_ours, compiled=False, screen='none')}     # without numba


def products(X, C):
    "name -> function of a block size that multiplies all points with all centres, block by block, into memory that is there"
    import torch
    n, k = len(X), len(C)
    buf = np.zeros(n*k, np.float32)
    t, as_int8 = torch.from_numpy, lambda a: torch.from_numpy(np.round(a*(127/np.abs(a).max())).astype(np.int8))
    kinds = {product: (np.matmul, X, C, buf.reshape(n, k)),
             'torch float32': (torch.mm, t(X), t(C), t(buf).view(n, k)),
             'torch bfloat16': (torch.mm, t(X).bfloat16(), t(C).bfloat16(), t(buf).view(torch.bfloat16)[:n*k].view(n, k)),
             'torch int8': (torch._int_mm, as_int8(X), as_int8(C), t(buf).view(torch.int32).view(n, k))}

    def sweep(mm, x, c, out):
        def run(b):
            for i in range(0, n, b): mm(x[i:i+b], c.T, out=out[i:i+b])
        return run
    return {o: sweep(*a) for o, a in kinds.items()}


# ---- measuring ----

def timed(f, *args, warm=False):
    "Seconds, result; `warm`: of the second of two calls"
    time.sleep(pause)
    if warm: f(*args)
    t = time.perf_counter()
    res = f(*args)
    return time.perf_counter() - t, res


def memory_child(a):
    "In a process of its own: load points and start, fit a little to load libraries, fit, print the extra bytes"
    X, C = np.load(Path(a.folder)/'X.npy'), np.load(Path(a.folder)/'C.npy')
    fit, some = fits[a.impl], X[:5*len(C)].copy()           # as many clusters: what a way of working loads is loaded
    fit(some, C, 2)
    set_threads(a.threads)
    fit(some, C, 2)
    print(peak_memory(lambda: fit(X, C, iters)))


def extra_memory(X, C, impls, threads):
    "implementation -> extra megabytes at the peak of a fit, each in a fresh process"
    with tempfile.TemporaryDirectory() as tmp:
        for o, v in dict(X=X, C=C).items(): np.save(Path(tmp)/f'{o}.npy', v)
        run = lambda o: subprocess.run([sys.executable, __file__, 'memory-child', '--impl', o, '--folder', tmp, '--threads', str(threads)],
                                       check=True, stdout=subprocess.PIPE, text=True, env=steady()).stdout
        return {o: int(run(o).split()[-1])/1e6 for o in impls}


# ---- what is printed and kept ----

class Results:
    "Rows by table, and remarks; written to the file of `--json` after every addition"
    def __init__(self, a, env):
        self.path = a.json
        self.data = dict(settings={o: v for o, v in vars(a).items() if o not in ('json', 'run')}, environment=env, notes=[], tables={})

    def add(self, **tables):
        for name, rows in tables.items(): self.data['tables'].setdefault(name, []).extend(rows)
        write(self.path, self.data)

    def note(self, text):
        if text not in self.data['notes']: self.data['notes'].append(text)
        print(f'  {text}', flush=True)

    def busy(self, others, case, data):
        if others > .05: self.note(f'{case}, {data}: other processes took {others:.0%} of the processors meanwhile; do not trust these times')


# ---- the sub-commands ----

def runs(a):
    "Case, data set, points, random start, of every run asked for"
    for case in a.cases:
        n, d, k = (o if o == cases[case][1] else o//10 for o in cases[case]) if a.quick else cases[case]
        for data in a.data:
            X = make_data(data, n, d, k)
            print(f'{case}, {data}: {n:,} × {d}, k = {k:,}', flush=True)
            yield case, data, X, random_rows(X, k, 1)


def lloyd(a, res):
    "Lloyd's iterations from the same centres, interleaved with each other and with the bare products"
    summary = []
    for case, data, X, C in runs(a):
        blocks = [b for b in (256, 1024, 4096, 16384) if b < len(X)] + [len(X)]
        jobs = {(o, None): lambda o=o: fits[o](X, C, iters) for o in a.impls}
        for o in a.impls: fits[o](X, C, 1)                                               # warm up
        few, quick = products(X[:4096], C), None
        for o, f in products(X, C).items():
            try:
                t = min(timed(few[o], 1024, warm=True)[0] for _ in range(4 if case == 'large' else 20))
                quick = quick or t                                                       # the first is what the others are measured by
                if t > 5*quick and 'float32' not in o: res.note(f'{o}: left out, {t/quick:.0f} times as slow as {product} on {min(len(X), 4096):,} rows'); continue
                for b in blocks: f(b)
            except RuntimeError as e: res.note(f'{o}: no product here ({str(e).splitlines()[0]})')
            else: jobs |= {(o, b): lambda f=f, b=b: f(b) for b in blocks}
        times, last, others, turns, order = {j: [] for j in jobs}, {}, others_busy(), list(jobs), np.random.default_rng(0)
        for _ in range(a.repeats or (5 if case == 'large' else 15)):
            order.shuffle(turns)                                                         # (else each would always have the same one before it)
            for j in turns:
                t, last[j] = timed(jobs[j], warm=case == 'small')                         # (some milliseconds: after a pause processors begin slowly, and not equally slowly for all)
                times[j].append(t)
        others, med = others(), {j: median(t) for j, t in times.items()}

        best = {o: min((med[o, b], b) for b in blocks) for o in dict.fromkeys(o for o, b in jobs if b)}
        floor = best[product][0]
        prod_rows = [{'case': case, 'data': data, 'product': o, 'ms': t*1e3, f'× {product}': t/floor, 'best block, rows': b} for o, (t, b) in best.items()]

        fit = {o: last[o, None] for o in a.impls}
        it = {o: med[o, None]/fit[o][1] for o in fit}
        peer = min((it[o] for o in fit if not o.startswith(ours)), default=None)
        final = {o: inertia(X, fit[o][0]) for o in fit}
        memory = extra_memory(X, C, a.impls, a.threads) if a.memory and not (a.quick and summary) else {}
        rows = [{'case': case, 'data': data, 'implementation': o, 'fit, s': med[o, None], 'iterations': fit[o][1], 'ms/iteration': it[o]*1e3,
                 'spread, %': 100*(max(times[o, None]) - min(times[o, None]))/med[o, None], '× best peer': peer and it[o]/peer, '× product': it[o]/floor,
                 'final inertia': final[o], '% above lowest': 100*(final[o]/min(final.values()) - 1), 'extra memory, MB': memory.get(o)} for o in fit]
        show(rows, ('case', 'data'))
        show(prod_rows, ('case', 'data'))
        for o in fit:
            if fit[o][1] < iters: res.note(f'{case}, {data}: {o} stopped after {fit[o][1]} of {iters} iterations: converged')
        res.busy(others, case, data)
        changed = 100*fit[ours][2]/len(X) if ours in fit else None
        summary.append({'case': case, 'data': data, 'labels changed in the last iteration, %': changed, 'best peer × product': peer and peer/floor,
                        f'{ours} × product': it[ours]/floor if ours in it else None, f'{ours} × best peer': it[ours]/peer if peer and ours in it else None, 'processors taken by others, %': 100*others})
        res.add(lloyd=rows, products=prod_rows, summary=summary[-1:])
    print('summary')
    show(summary)


def memory(a, res):
    "Extra memory at the peak of a fit"
    for case, data, X, C in runs(a):
        rows = [{'case': case, 'data': data, 'implementation': o, 'extra memory, MB': m, '× data': m*1e6/X.nbytes} for o, m in extra_memory(X, C, a.impls, a.threads).items()]
        show(rows, ('case', 'data'))
        res.add(memory=rows)


def init(a, res):
    "What a start costs, how good it is, and what 20 of our iterations make of it"
    from sklearn.cluster import kmeans_plusplus
    from dl4ia_nbdev.kmeans import KMeans, kmeans_plus_plus

    def parallel(X, k, seed):
        "k-means|| has no function of its own: a fit of one iteration, less the same fit from given centres"
        one = lambda init, **kw: KMeans(k, init=init, max_iter=1, tol=0., random_state=seed, **kw).fit(X)
        t, m = timed(lambda: one('k-means||', trace=True))
        C = m.trace_[0]['centers']
        return max(0., t - timed(one, C)[0]), C
    starts = {'random': lambda *o: timed(random_rows, *o),
              'scikit-learn k-means++': lambda X, k, seed: timed(lambda: kmeans_plusplus(X, k, random_state=seed)[0]),
              f'{ours} k-means++': lambda X, k, seed: timed(lambda: kmeans_plus_plus(X, k, random_state=seed)[0]),
              f'{ours} k-means||': parallel}
    for case, data, X, C in runs(a):
        k, got = len(C), {}
        print(f'  greedy k-means++ with {2 + int(math.log(k))} trials; {a.seeds} seed{"s"*(a.seeds > 1)}')
        kmeans_plusplus(X[:1000], 5), kmeans_plus_plus(X[:1000], 5)                      # warm up
        others = others_busy()
        for seed in range(a.seeds):
            for o, f in starts.items():
                t, S = f(X, k, seed)
                got.setdefault(o, []).append((t, inertia(X, S), inertia(X, fit_ours(X, S, iters)[0])))
        t, first, last = ({o: [x[i] for x in v] for o, v in got.items()} for i in range(3))
        base, pp = mean(last['random']), 'scikit-learn k-means++'
        rows = [{'case': case, 'data': data, 'start': o, 'median, s': median(t[o]), f'× {pp}': median(t[o])/median(t[pp]), 'start inertia': mean(first[o]),
                 f'after {iters} iterations': mean(last[o]), '% below random': 100*(1 - mean(last[o])/base),
                 'seeds: from, %': 100*(1 - max(last[o])/base), 'to, %': 100*(1 - min(last[o])/base)} for o in got]
        show(rows, ('case', 'data'))
        res.busy(others(), case, data)
        res.add(init=rows)


def minibatch(a, res):
    "Five epochs of mini-batches of 4,096, with each library's own start and from the same given centres"
    from sklearn.cluster import MiniBatchKMeans as SK
    from dl4ia_nbdev.kmeans import MiniBatchKMeans
    settings = dict(batch_size=4096, max_iter=5, max_no_improvement=None)
    makers = {'scikit-learn': lambda k, **kw: SK(k, n_init=1, tol=0, **settings, **kw), ours: lambda k, **kw: MiniBatchKMeans(k, **settings, **kw)}
    for case, data, X, C in runs(a):
        k, got = len(C), {o: [] for o in makers}
        for make in makers.values(): make(k, init=C).fit(X[:4*len(C)])                  # warm up
        others = others_busy()
        for seed in range(a.seeds):
            for o, make in makers.items():
                t, m = timed(make(k, random_state=seed).fit, X)
                t0, m0 = timed(make(k, init=C, random_state=seed).fit, X)
                got[o].append((t, t0, inertia(X, m.cluster_centers_), inertia(X, m0.cluster_centers_)))
        cols = {o: [list(c) for c in zip(*v)] for o, v in got.items()}
        sk = cols['scikit-learn']
        rows = [{'case': case, 'data': data, 'implementation': o, 'total, s': median(c[0]), '× sklearn': median(c[0])/median(sk[0]),
                 'from given centres, s': median(c[1]), '× sklearn ': median(c[1])/median(sk[1]), 'final inertia': mean(c[2]), '% above sklearn': 100*(mean(c[2])/mean(sk[2]) - 1),
                 'final inertia, given': mean(c[3]), '% above sklearn ': 100*(mean(c[3])/mean(sk[3]) - 1)} for o, c in cols.items()]
        show(rows, ('case', 'data'))
        res.busy(others(), case, data)
        res.add(minibatch=rows)


def everything(a, res):
    "All of the above; memory is a column of lloyd"
    for f in (lloyd, init, minibatch):
        print(f'# {f.__name__}: {f.__doc__}\n')
        f(argparse.Namespace(**vars(a) | {o: v for o, v in defaults[f].items() if getattr(a, o) is None}), res)

main_data = 'normal blobs features restless offset'.split()
defaults = {lloyd: dict(cases=list(cases), data=main_data, seeds=0), init: dict(cases=['large'], data=['normal', 'whitened'], seeds=5),
            minibatch: dict(cases=['large'], data=['normal', 'features'], seeds=3), memory: dict(cases=list(cases), data=['normal'], seeds=0), everything: {}}


def main():
    p = argparse.ArgumentParser(description='Time K-means against scikit-learn and faiss.', epilog='benchmarks/README.md says how each number is measured.')
    subs = p.add_subparsers(required=True, metavar='COMMAND')
    for f in defaults:
        s = subs.add_parser('all' if f is everything else f.__name__, help=f.__doc__, description=f.__doc__)
        s.add_argument('--cases', nargs='+', choices=cases, help=', '.join(f'{o}: {n:,} × {d}, k = {k:,}' for o, (n, d, k) in cases.items()))
        s.add_argument('--data', nargs='+', choices=datasets)
        s.add_argument('--impls', nargs='+', choices=fits, default=['scikit-learn', 'faiss', ours], help='what lloyd and memory compare')
        s.add_argument('--repeats', type=int, help='of every fit and product in lloyd; default 5 for large, 15 for small')
        s.add_argument('--seeds', type=int, help='of init (default 5) and minibatch (default 3)')
        s.add_argument('--threads', type=int, help="default: torch's")
        s.add_argument('--no-memory', dest='memory', action='store_false', help='leave out the memory column of lloyd, which takes a process for each fit')
        s.add_argument('--quick', action='store_true', help='a tenth of the points and of the clusters; memory of the first fits only')
        s.add_argument('--json', help='file for the results')
        s.set_defaults(run=f, command='all' if f is everything else f.__name__)
    s = subs.add_parser('memory-child')
    for o, kind in dict(impl=str, folder=str, threads=int).items(): s.add_argument(f'--{o}', type=kind, required=True)
    s.set_defaults(run=memory_child)
    a = p.parse_args()
    if a.run is memory_child: return memory_child(a)

    for o, v in defaults[a.run].items():
        if getattr(a, o) is None: setattr(a, o, v)
    import sklearn.cluster, torch, dl4ia_nbdev.kmeans
    absent = importlib.util.find_spec('faiss') is None
    if absent: a.impls = [o for o in a.impls if not o.startswith('faiss')]
    else: import faiss
    if a.quick: globals().update(pause=.002)
    a.threads = a.threads or torch.get_num_threads()
    use_loops('nearest'); set_threads(a.threads)              # now that everything is loaded
    env = environment()
    res = Results(a, env)
    headline(env, a.threads)
    if absent: res.note('faiss is not installed (pip install faiss-cpu): its rows are left out')
    print()
    a.run(a, res)


if __name__ == '__main__': main()

#!/usr/bin/env python
"""Time of the judges, nearest neighbours and linear probe, on features as an encoder gives them, against scikit-learn.

    python benchmarks/evaluate.py
    python benchmarks/evaluate.py --quick --json OUT.json

benchmarks/README.md says how each number is measured.
"""
import argparse, sys, time
from pathlib import Path
from statistics import median

import numpy as np
import torch
import torch.nn.functional as F

here = Path(__file__).resolve().parent
sys.path.insert(0, str(here.parent)); sys.path.insert(0, str(here))        # the package of this checkout
classes = 10


def features(n, d, seed=0):
    "Features (n, d) and labels: ten overlapping classes in 64 directions, bent by a layer and a ReLU, so that the spectrum falls as an encoder's does"
    g = torch.Generator().manual_seed(seed); r = lambda *s: torch.randn(*s, generator=g)
    means, A, B = .45*r(classes, 64), r(64, 256)/8, r(256, d)/16
    y = torch.randint(classes, (n,), generator=g); z = (means[y] + r(n, 64))*torch.logspace(0, -1, 64)
    return F.relu(F.relu(z @ A) @ B + .05*r(n, d)), y


def timed(f): t = time.perf_counter(); got = f(); return time.perf_counter() - t, got


def in_turns(runs, repeats):
    "name -> (median seconds, spread in percent, what the last run gave)"
    times, last = {r: [] for r in runs}, {}
    for _ in range(repeats):
        for r, f in runs.items(): time.sleep(.05); s, last[r] = timed(f); times[r].append(s)
    return {r: (median(v), 100*(max(v) - min(v))/median(v), last[r]) for r, v in times.items()}


def neighbours(a, b, k, repeats):
    from sklearn.neighbors import NearestNeighbors
    from dl4ia_nbdev.evaluate import nearest
    m = a.mean(0); u, v = (F.normalize(o - m, dim=1) for o in (a, b)); U, V = u.numpy(), v.numpy(); S = torch.empty(512, len(u))
    def product():
        for c in v.split(512): torch.mm(c, u.T, out=S[:len(c)])
    def theirs(): return NearestNeighbors(n_neighbors=k, algorithm='brute', metric='euclidean').fit(U).kneighbors(V, return_distance=False)
    got = in_turns({'dl4ia_nbdev': lambda: nearest(a, b, k)[1].numpy(), 'scikit-learn': theirs, 'product': product}, repeats)
    mine, other = got['dl4ia_nbdev'][2], got['scikit-learn'][2]
    differ = [(i, x, y) for i in range(len(mine)) for x, y in [(np.setdiff1d(mine[i], other[i]), np.setdiff1d(other[i], mine[i]))] if len(x)]
    worst = max((abs(float((V[i] @ U[x].T).min() - (V[i] @ U[y].T).min())) for i, x, y in differ), default=0.)
    return [{'judge': f'{k} neighbours', 'implementation': r, 's': s, 'spread, %': sp, '/ product': s/got['product'][0], '/ scikit-learn': s/got['scikit-learn'][0]} for r, (s, sp, _) in got.items()], \
        f"{len(differ)} of {len(mine)} rows have other neighbours than scikit-learn's; largest difference of similarity there {worst:.1e}"


def probes(a, ya, b, yb, repeats):
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler
    from dl4ia_nbdev.evaluate import LinearProbe
    A, B, n, lam = a.numpy(), b.numpy(), len(a), 1e-3
    def objective(X, W, w0, l2):
        out = torch.as_tensor(X).double() @ torch.as_tensor(W).double().T + torch.as_tensor(w0).double()
        return F.cross_entropy(out, ya).item() + l2/2*float(np.square(np.asarray(W, dtype=np.float64)).sum())
    def sk(C):
        def run():
            s = StandardScaler().fit(A); return s, LogisticRegression(C=C, max_iter=1000).fit(s.transform(A), ya.numpy())
        return run
    got = in_turns({'dl4ia_nbdev, λ = 1e-3': lambda: LinearProbe(lam).fit(a, ya), 'scikit-learn, λ = 1e-3': sk(1/(lam*n)), 'dl4ia_nbdev, λ chosen': lambda: LinearProbe().fit(a, ya), 'scikit-learn, C = 1': sk(1.)}, repeats)
    rows, ref = [], StandardScaler().fit(A)
    for r, (s, sp, model) in got.items():
        if isinstance(model, tuple): right, W, w0, it, l2 = float((model[1].predict(model[0].transform(B)) == yb.numpy()).mean()), model[1].coef_, model[1].intercept_, int(model[1].n_iter_[0]), lam if 'λ' in r else 1/n
        else: right, W, w0, it, l2 = float((model.predict(b) == yb).double().mean()), model.coef_, model.intercept_, model.n_iter_, model.l2_
        rows.append({'judge': 'linear probe', 'implementation': r, 's': s, 'spread, %': sp, 'iterations': it, 'λ': l2, 'objective': objective(ref.transform(A), W, w0, l2), 'test accuracy, %': 100*right,
                     '/ scikit-learn': s/got['scikit-learn, λ = 1e-3' if '1e-3' in r else 'scikit-learn, C = 1'][0]})
    return rows


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog='benchmarks/README.md says how each number is measured.')
    p.add_argument('--rows', type=int, default=50_000); p.add_argument('--queries', type=int, default=10_000); p.add_argument('--dim', type=int, default=512); p.add_argument('--k', type=int, nargs='+', default=[10, 200])
    p.add_argument('--threads', type=int, default=2); p.add_argument('--repeats', type=int, default=3); p.add_argument('--quick', action='store_true', help='2,000 rows of 64, once'); p.add_argument('--json', help='file for the results')
    a = p.parse_args(); torch.set_num_threads(a.threads)
    if a.quick: a.rows, a.queries, a.dim, a.repeats = 2000, 500, 64, 1
    import sklearn.linear_model, sklearn.neighbors  # noqa: F401  (the limit holds for what is loaded)
    from threadpoolctl import threadpool_limits
    from common import environment, headline, keep, others_busy, show
    env, tables = environment(), []; headline(env, a.threads)
    X, y = features(a.rows + a.queries, a.dim); tr, te = slice(a.rows), slice(a.rows, None)
    with threadpool_limits(a.threads):
        others = others_busy()
        for k in a.k:
            rows, line = neighbours(X[tr], X[te], k, a.repeats)
            print(f"\n{k} nearest of {a.rows:,} × {a.dim} for {a.queries:,} queries, medians of {a.repeats}; {100*others():.0f} % of the processors taken by others"); show(rows); print(line); tables += rows; keep(a, env, tables)
        rows = probes(X[tr], y[tr], X[te], y[te], a.repeats)
        print(f"\nlogistic regression on {a.rows:,} × {a.dim}, {classes} classes, standardised; {100*others():.0f} % of the processors taken by others"); show(rows); tables += rows
    keep(a, env, tables)


if __name__ == '__main__': main()

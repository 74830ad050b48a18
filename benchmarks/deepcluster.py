#!/usr/bin/env python
"""What an epoch of DeepCluster costs, phase by phase, beside its two unavoidable parts and beside the usual recipe.

    pip install faiss-cpu                                # for the benchmark only; without it the recipe's rows are left out
    python benchmarks/deepcluster.py                     # 10,000 and 50,000 images, features 256 and 4,096 wide
    python benchmarks/deepcluster.py --images 10000 --widths 256 --repeats 1
    python benchmarks/deepcluster.py --quick --json OUT.json

benchmarks/README.md says how each number is measured.
"""
import argparse, importlib.util, sys, time
from pathlib import Path
from statistics import median

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))        # the package of this checkout
sys.path.insert(0, str(Path(__file__).resolve().parent))
from common import environment, headline, keep, others_busy, set_threads, show
from dl4ia_nbdev.alexnet import alexnet
from dl4ia_nbdev.data import dataset, photo_patches
from dl4ia_nbdev.deepcluster import DeepCluster, uniform_sample
from dl4ia_nbdev.evaluate import shift_flip
from dl4ia_nbdev.train import Progress

phases = ('features', 'PCA', 'K-means', 'sampling', 'compare', 'training')


def image_set(n):
    "CIFAR-10 where it is at hand, else patches of the embedded photographs; n images of 32×32"
    try: s = dataset('cifar10', 'train', download=False)
    except FileNotFoundError: s = None
    if s is None or len(s) < n: s = photo_patches(32, n)
    return s[torch.arange(n)]


def encoder(width): return alexnet('small', None, seed=0, sobel=True, hidden=width)


def ours(images, width, k, precision):
    "Two epochs; the second one's phases, and right after them the two parts alone"
    parts = {}

    def alone(dc, rec, hist):
        if rec['epoch'] != 1: return
        t = time.perf_counter(); dc._features(images); parts['forward alone'] = time.perf_counter() - t
        opts = dc._optimizers(dc.head_)
        t = time.perf_counter(); dc._train(images, dc.labels_, opts, Progress(1, enabled=False)); parts['training alone'] = time.perf_counter() - t
    dc = DeepCluster(encoder(width), n_clusters=k, epochs=2, pca_dim=256, batch_size=256, precision=precision, augment=shift_flip, progress=False).fit(images, callbacks=[alone])
    h = dc.history_[1]
    got = dict(zip(phases, (h[f'seconds_{o}'] for o in ('features', 'pca', 'kmeans', 'sampling', 'compare', 'training'))))
    return got | parts


def recipe(images, width, k):
    "The same epoch as scripts do it: float32, scikit-learn's PCA, faiss's K-means"
    import faiss
    from sklearn.decomposition import PCA
    net, got = encoder(width), {}
    head = nn.Linear(width, k); nn.init.normal_(head.weight, 0, .01); nn.init.zeros_(head.bias)
    opts = torch.optim.SGD(net.parameters(), .05, momentum=.9, weight_decay=1e-5), torch.optim.SGD(head.parameters(), .05, weight_decay=1e-5)
    for epoch in range(2):
        def lap(name, t0=[time.perf_counter()]): now = time.perf_counter(); got[name] = now - t0[0]; t0[0] = now
        net.eval()
        with torch.no_grad(): H = torch.cat([net(x) for x,_ in images.batches(256)]).numpy()
        lap('features')
        Z = PCA(min(256, width), whiten=True).fit_transform(H).astype(np.float32)
        Z = np.ascontiguousarray(Z/np.linalg.norm(Z, axis=1, keepdims=True))
        lap('PCA')
        km = faiss.Kmeans(Z.shape[1], k, niter=20, seed=epoch, min_points_per_centroid=1); km.train(Z)
        labels = torch.from_numpy(km.index.search(Z, 1)[1][:, 0])
        lap('K-means')
        order = uniform_sample(labels)
        lap('sampling'); got['compare'] = 0.
        net.train()
        for x,y in images.with_labels(labels).batches(256, order=order, drop_last=True):
            loss = F.cross_entropy(head(F.relu(net(shift_flip(x)))), y)
            for o in opts: o.zero_grad()
            loss.backward()
            for o in opts: o.step()
        lap('training')
    return got


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog='benchmarks/README.md says how each number is measured.')
    p.add_argument('--images', type=int, nargs='+', default=[10_000, 50_000]); p.add_argument('--widths', type=int, nargs='+', default=[256, 4096], help='of the features')
    p.add_argument('--repeats', type=int, default=3); p.add_argument('--per-cluster', type=int, default=20, help='images a cluster'); p.add_argument('--threads', type=int, default=torch.get_num_threads())
    p.add_argument('--quick', action='store_true', help='500 images, 256 wide, once'); p.add_argument('--json', help='file for the results')
    a = p.parse_args()
    if a.quick: a.images, a.widths, a.repeats = [500], [256], 1
    if importlib.util.find_spec('faiss'):
        import faiss, sklearn.decomposition  # noqa: F401  (threads are set of what is loaded)
    else: print('faiss is not installed: the rows of the recipe are left out')
    set_threads(a.threads)
    runs = {'dl4ia_nbdev': lambda *o: ours(*o, 'auto'), 'dl4ia_nbdev float32': lambda *o: ours(*o, 'float32')} | ({'recipe': recipe} if importlib.util.find_spec('faiss') else {})
    tables = []
    env = environment()
    headline(env, a.threads)
    for n in a.images:
        images = image_set(n)
        for width in a.widths:
            k, got, others = max(2, n//a.per_cluster), {o: [] for o in runs}, others_busy()
            for _ in range(a.repeats):
                for o, f in runs.items(): time.sleep(.2); got[o].append(f(images, width, k))
            print(f'\n{n:,} images of {images.name}, features {width:,} wide, k = {k:,}; seconds, medians of {a.repeats}; {100*others():.0f} % of the processors taken by others')
            rows = []
            for o, v in got.items():
                med = {p: median(x[p] for x in v) for p in phases}; total = sum(med.values())
                row = dict(implementation=o) | {f'{p}': x for p, x in med.items()} | dict(epoch=total)
                if 'forward alone' in v[0]:
                    row |= {'× forward + training': median(sum(x[p] for p in phases)/(x['forward alone'] + x['training alone']) for x in v), 'all else, %': 100*(total - med['features'] - med['training'])/total}
                rows.append(row)
            if 'recipe' in got:
                base = rows[-1]['epoch']
                for r in rows: r['× recipe'] = r['epoch']/base
            cols = list(dict.fromkeys(c for r in rows for c in r))
            show([{c: r.get(c) for c in cols} for r in rows])
            tables += [dict(images=n, data=images.name, width=width, k=k) | r for r in rows]; keep(a, env, tables)


if __name__ == '__main__': main()

#!/usr/bin/env python
"""Time and memory of the loss NT-Xent, forward and backward, against lightly, pytorch-metric-learning and the textbook version.

    pip install -r benchmarks/requirements-nt_xent.txt     # for the benchmark only; a peer that is missing is left out, and a line says so
    python benchmarks/nt_xent.py
    python benchmarks/nt_xent.py --quick --json OUT.json

benchmarks/README.md says how each number is measured.
"""
import argparse, importlib.util, json, math, random, subprocess, sys, time
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F

here = Path(__file__).resolve().parent
sys.path.insert(0, str(here.parent)); sys.path.insert(0, str(here))        # the package of this checkout
tau, d = .5, 128


def textbook(z1, z2):
    z = F.normalize(torch.cat([z1, z2]), dim=1); n = len(z)
    S = (z @ z.T/tau).masked_fill(torch.eye(n, dtype=torch.bool), -math.inf)
    return F.cross_entropy(S, torch.arange(n).roll(n//2))


def losses():
    "name -> function of (z1, z2), or None where the package is missing"
    from dl4ia_nbdev.simclr import nt_xent
    got = {'dl4ia_nbdev': lambda a, b: nt_xent(a, b, tau), 'textbook': textbook, 'textbook, compiled': torch.compile(textbook, dynamic=False), 'lightly': None, 'pytorch-metric-learning': None}
    if importlib.util.find_spec('lightly'):
        from lightly.loss import NTXentLoss
        got['lightly'] = NTXentLoss(temperature=tau)
    if importlib.util.find_spec('pytorch_metric_learning'):
        from pytorch_metric_learning.losses import NTXentLoss, SelfSupervisedLoss
        got['pytorch-metric-learning'] = SelfSupervisedLoss(NTXentLoss(temperature=tau))
    return got


def floor(u, S):
    "Two products of the matrix and one exponential of it, into memory that is there"
    torch.mm(u, u.T, out=S); S.exp_(); torch.mm(S, u)


def data(n):
    torch.manual_seed(0)
    return [torch.randn(n, d, requires_grad=True) for _ in range(2)]


def once(f, z):
    for o in z: o.grad = None
    t = time.perf_counter(); loss = f(*z); loss.backward()
    return time.perf_counter() - t


def memory_child(name, n, threads):
    "Peak resident memory during one call beyond what was there, after a small call"
    from common import peak_memory
    torch.set_num_threads(threads)
    f = losses()[name]; once(f, data(64 if 'compiled' not in name else n)); z = data(n)
    print(peak_memory(lambda: once(f, z))/2**20)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog='benchmarks/README.md says how each number is measured.')
    p.add_argument('--pairs', type=int, nargs='+', default=[256, 1024, 4096, 16384]); p.add_argument('--threads', type=int, default=2); p.add_argument('--repeats', type=int, default=0, help='0: by size')
    p.add_argument('--no-memory', action='store_true'); p.add_argument('--quick', action='store_true', help='64 pairs, once'); p.add_argument('--json', help='file for the results')
    p.add_argument('--memory-child', nargs=2, help=argparse.SUPPRESS)
    a = p.parse_args(); torch.set_num_threads(a.threads)
    if a.memory_child: return memory_child(a.memory_child[0], int(a.memory_child[1]), a.threads)
    if a.quick: a.pairs, a.repeats, a.no_memory = [64], 1, True
    from common import environment, headline, keep, others_busy, show, steady
    runs, env, tables = losses(), environment(), []
    if a.quick: runs.pop('textbook, compiled')
    for n in [n for n, f in runs.items() if f is None]: print(f'{n} is not installed: its rows are left out'); runs.pop(n)
    headline(env, a.threads)
    for n in a.pairs:
        names = [r for r in runs if r == 'dl4ia_nbdev' or n <= (256 if 'metric' in r else 4096)]       # the others need too much memory, or minutes
        z, k, others = data(n), a.repeats or next((k for most, k in ((256, 40), (1024, 12), (4096, 5)) if n <= most), 1), others_busy()
        values = {r: runs[r](*z).item() for r in names}                                            # warm, and the same value
        if max(values.values()) - min(values.values()) > 1e-4*max(values.values()): print(f'values differ: {values}')
        warm = {r: once(runs[r], z) for r in names}; apart = [r for r in names if warm[r] > 50*min(warm.values())]       # hundreds of times slower, and gigabytes: whoever comes next starts with cold caches
        u = F.normalize(torch.cat([o.detach() for o in z])); S = torch.empty(2*n, 2*n) if n <= 4096 else None
        got, base = {r: [] for r in names}, []
        turns = [r for r in names if r not in apart]
        for i in range(k):                                                                             # in another order each time
            for r in random.Random(i).sample(turns, len(turns)): got[r].append(once(runs[r], z))
            if S is not None: t = time.perf_counter(); floor(u, S); base.append(time.perf_counter() - t)
        for r in apart: got[r] = [once(runs[r], z) for _ in range(max(1, k//8))]                       # last, and fewer times
        busy, best = others(), min((median(v) for r, v in got.items() if r != 'dl4ia_nbdev'), default=None)      # (before the children that measure memory)
        rows = [dict(implementation=r, pairs=n) | {'ms': 1e3*median(v), '× best peer': median(v)/best if best else None, '× floor': median(v)/median(base) if base else None} for r, v in got.items()]
        if base: rows.append(dict(implementation='floor: two products and an exponential', pairs=n) | {'ms': 1e3*median(base)})
        if not a.no_memory and sys.platform == 'linux':
            for r in rows[:len(names)]:
                q = subprocess.run([sys.executable, '-W', 'ignore', __file__, '--threads', str(a.threads), '--memory-child', r['implementation'], str(n)], capture_output=True, text=True, env=steady())
                r['extra memory, MiB'] = json.loads(q.stdout.splitlines()[-1]) if q.returncode == 0 else None
        print(f'\n{n:,} pairs, d = {d}, float32, medians of {k}; {100*busy:.0f} % of the processors taken by others'); show(rows); tables += rows; keep(a, env, tables, 'memory_child')


if __name__ == '__main__': main()

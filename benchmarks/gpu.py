#!/usr/bin/env python
"""What one GPU makes of CIFAR-10 (SimCLR and DeepCluster with ResNet-18), of a training step, and of K-means at ImageNet's size.

    python benchmarks/gpu.py simclr --epochs 100 --run simclr.pt --piece 9 --json runs.jsonl       # in pieces of nine minutes: again, until it is done
    python benchmarks/gpu.py simclr --epochs 10 --validate --set '{"temperature": 0.1}'            # a setting, tried on a tenth of the training set, held out
    python benchmarks/gpu.py deepcluster --epochs 100 --run deepcluster.pt --piece 9 --json runs.jsonl
    python benchmarks/gpu.py parts                 # a step by its parts, images a second, the share of the measured peak, an epoch of views
    python benchmarks/gpu.py kmeans                # 1,281,167 points in 256 dimensions, 10,000 clusters, 20 iterations, labels checked

`--quick` runs everything small, on a CPU too. A run in pieces ends as one without a stop (bit for bit on a CPU; on a GPU as far as its kernels are deterministic). benchmarks/README.md says how each number is measured.
"""
import argparse, json, sys, time
from pathlib import Path
from statistics import median

import torch

BEGAN = time.perf_counter()
root = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(root), str(root/'benchmarks')]
from dl4ia_nbdev.data import ImageSet
from dl4ia_nbdev.deepcluster import DeepCluster
from dl4ia_nbdev.encoders import ConvNet, resnet
from dl4ia_nbdev.evaluate import _channels_last
from dl4ia_nbdev.kmeans import KMeans
from dl4ia_nbdev.nearest import pairwise_sq_dists
from dl4ia_nbdev.report import _plain, environment
from dl4ia_nbdev.simclr import SimCLR, nt_xent, projection_head
from dl4ia_nbdev.train import StopTraining, autocast, fork_seed, pick_device
from dl4ia_nbdev.views import Views
from minutes import Curve, images, judge, on_normalised, recipe_views

RECIPES = dict(simclr=dict(batch_size=512, optimizer='sgd', lr=.12, weight_decay=5e-4, temperature=.2, crop=.2, jitter=.5),
               deepcluster=dict(batch_size=256, lr=.05, n_clusters=300, recluster=1, crop=.2, jitter=.5))


def clock(device):
    "Seconds now, when the device has done all that it was told"
    if device.type == 'cuda': torch.cuda.synchronize(device)
    return time.perf_counter()


def best(f, device, times=5):
    "The shortest of some runs of `f`, in seconds"
    def once(): t = clock(device); f(); return clock(device) - t
    once(); return min(once() for _ in range(times))


def peak(device, dtype, quick):
    "Operations a second of a large square product: what the matrix unit really gives"
    n = 512 if quick else 8192 if device.type == 'cuda' else 2048
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2)); return 2*n**3/best(lambda: a@b, device)


def until(minutes):
    "Callback: asks to stop when the next epoch would end after so many minutes of the program"
    last = time.perf_counter()
    def piece(run, rec, history):
        nonlocal last
        now = time.perf_counter(); one, last = now - last, now
        if minutes is not None and now + one - BEGAN > minutes*60 and len(history) < run.epochs: raise StopTraining
    return piece


def train(a, device):
    "SimCLR or DeepCluster: a row when it is done, or none"
    s = RECIPES[a.method] | a.set; tr, te = images(a.validate, 200 if a.quick else a.images); views = recipe_views(s.pop('crop'), s.pop('jitter'), 32)
    with fork_seed(a.seed): net = (ConvNet((8, 16)) if a.quick else resnet(18, 32)).to(device)
    if a.method == 'simclr': run = SimCLR(net, epochs=a.epochs, views=views, random_state=a.seed, watch_every=None, progress=False, **s)
    else: run = DeepCluster.small(net, epochs=a.epochs, augment=on_normalised(views, tr), random_state=a.seed, progress=False, **(s | (dict(n_clusters=25) if a.quick else {})))
    run.fit(tr, callbacks=[Curve(tr, te, a.epochs, 40, whole=True), until(a.piece)], checkpoint=a.run, resume=a.run is not None); h = run.history_; curve, took = Curve.of(h)
    if len(h) < a.epochs: print(f"{len(h)} of {a.epochs} epochs in {took:.0f} s; neighbours so far {[o[3] for o in curve]}; the same command goes on"); return []
    row = dict(method=a.method, encoder='ConvNet of two layers' if a.quick else 'ResNet-18, CIFAR stem', seed=a.seed, epochs=a.epochs, seconds=round(took, 1), images_per_second=round(a.epochs*len(tr)/took), loss=round(h[-1]['loss'], 4), curve=curve, settings=RECIPES[a.method] | a.set, judged_on='a tenth of the training set, held out' if a.validate else 'test set')
    row['minutes_to_90'] = next((round(t/60, 2) for _, t, _, knn in curve if knn >= 90), None)
    if a.method == 'deepcluster': row['history'] = [{k: r[k] for k in ('epoch', 'nmi_previous', 'nmi_true', 'ari_true', 'evenness', 'smallest', 'largest') if k in r} for r in h if r['reclustered']][::max(1, a.epochs//10)]
    return [row | judge(net, tr, te)]


def parts(a, device):
    "One step of SimCLR by its parts, and what share of the peak its products are"
    from torch.utils.flop_counter import FlopCounterMode
    s = RECIPES['simclr'] | a.set; b = 16 if a.quick else s['batch_size']; n = 5*b; data = ImageSet((torch.rand(n, 3, 32, 32)*255).byte()); x = data.images.to(device)
    with fork_seed(a.seed): net = torch.nn.Sequential(ConvNet((8, 16)) if a.quick else resnet(18, 32), torch.nn.Flatten(), projection_head(16 if a.quick else 512)).to(device, memory_format=torch.channels_last).train()
    views = Views(recipe_views(s['crop'], s['jitter'], 32), normalize=data); opt = torch.optim.SGD(net.parameters(), 0., momentum=.9); times = {k: [] for k in ('views', 'forward', 'loss', 'backward', 'optimizer')}
    def step(i, mark=lambda k: None):
        v = _channels_last(views._both(x[(i % 5)*b:][:b], i)[0]); mark('views')
        with autocast('auto', device): z = net(v)
        mark('forward'); loss = nt_xent(*z.float().chunk(2), s['temperature']); mark('loss')
        opt.zero_grad(set_to_none=True); loss.backward(); mark('backward'); opt.step(); mark('optimizer')
    for i in range(2 if a.quick else 10):
        t = clock(device)
        def mark(k): nonlocal t; now = clock(device); times[k].append(now - t); t = now
        step(i, mark)
    some = 2 if a.quick else 20; whole = best(lambda: [step(i) for i in range(some)], device, 3)/some
    with FlopCounterMode(display=False) as f: net(torch.randn(2*b, 3, 32, 32, device=device))
    top = {str(d).split('.')[1]: peak(device, d, a.quick) for d in (torch.bfloat16, torch.float32)}; did = 3*f.get_total_flops()/whole
    many = torch.randint(256, (3*b if a.quick else 50_000, 3, 32, 32), dtype=torch.uint8, device=device); epoch, at_once = (best(f, device, 3) for f in (lambda: [views._both(o, i) for i, o in enumerate(many.split(b))], lambda: views._both(many, 0)))
    return [dict(method='parts', batch=b, ms_per_step=1e3*whole, images_per_second=b/whole, tflops=did/1e12, share_of_bfloat16=did/top['bfloat16'], share_of_float32=did/top['float32'], seconds_of_views_for_an_epoch=None if a.quick else epoch, seconds_of_views_at_once=None if a.quick else at_once) | {f'ms_{k}': 1e3*median(v) for k, v in times.items()} | {f'peak_{k}_tflops': v/1e12 for k, v in top.items()}]


def kmeans(a, device):
    "K-means at ImageNet's size; labels of a thousand rows are compared with float64 distances"
    n, d, k = (3000, 64, 50) if a.quick else (1_281_167, 256, 10_000); g = torch.Generator().manual_seed(a.seed)
    X = torch.nn.functional.normalize(torch.randn(n, d, generator=g), dim=1).to(device); start = X[torch.randperm(n, generator=g)[:k].to(device)]
    km = KMeans(k, init=start, max_iter=20, tol=0.); t = clock(device); km.fit(X); took = clock(device) - t; at = torch.linspace(0, n - 1, 1000, device=device).long()
    wrong = sum(int((pairwise_sq_dists(X[i].double(), km.cluster_centers_.double()).argmin(1) != km.labels_[i]).sum()) for i in at.split(50))
    work = 2*n*k*d*(km.n_iter_ + 1)/took; top = {str(o).split('.')[1]: peak(device, o, a.quick) for o in (torch.bfloat16, torch.float32)}
    return [dict(method='kmeans', n=n, d=d, k=k, iterations=km.n_iter_, seconds=took, wrong_of_1000=wrong, tflops=work/1e12, share_of_bfloat16=work/top['bfloat16'], share_of_float32=work/top['float32'], inertia=km.inertia_)]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('method', choices=('simclr', 'deepcluster', 'parts', 'kmeans')); p.add_argument('--epochs', type=int, default=100); p.add_argument('--seed', type=int, default=0); p.add_argument('--device', default='auto'); p.add_argument('--images', type=int, help='only so many, for a trial')
    p.add_argument('--run', type=Path, help='file of the run, written after every epoch; the same command goes on from there'); p.add_argument('--piece', type=float, help='stop after so many minutes, reading the images included (the judgement of a finished run comes on top); wants --run')
    p.add_argument('--validate', action='store_true', help='judge on images held out of the training set: for choices'); p.add_argument('--set', type=json.loads, default={}, help='settings that differ, as JSON'); p.add_argument('--quick', action='store_true', help='small, on a CPU too'); p.add_argument('--json', type=Path, help='file to which a line is added')
    a = p.parse_args(); device = pick_device(None if a.device == 'auto' else a.device)
    if a.piece is not None and a.run is None: p.error('--piece: a run in pieces needs a file, --run')
    if device.type == 'cpu' and not a.quick: print('no GPU here: this will take long; --quick shows that it runs', file=sys.stderr)
    name = torch.cuda.get_device_name(device) if device.type == 'cuda' else 'CPU'
    for r in dict(simclr=train, deepcluster=train, parts=parts, kmeans=kmeans)[a.method](a, device):
        r = _plain(dict(device=name) | {k: round(v, 4) if isinstance(v, float) else v for k, v in r.items()}); print(json.dumps(r), flush=True)
        if a.json:
            with open(a.json, 'a', encoding='utf-8') as f: f.write(json.dumps(r | dict(environment=environment())) + '\n')


if __name__ == '__main__': main()

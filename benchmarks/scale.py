#!/usr/bin/env python
"""What one device does in a second: the figures from which `sizing` works out a run on many.

    python benchmarks/scale.py                        # on the fastest device there is; minutes on two cores
    python benchmarks/scale.py --out mine             # and keep them in mine.json: sizing(load_results('mine', '.')['rows'][0], devices=8)

SimCLR with a ResNet-50 and DeepCluster with its AlexNet, both at 224 pixels: training steps, features, views and K-means, medians of
a few repeats; counted, not measured: operations and bytes that the backward pass keeps, for each image.
"""
import argparse, json, statistics, sys, time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))          # the package of this checkout
from dl4ia_nbdev.alexnet import alexnet
from dl4ia_nbdev.deepcluster import crop_flip
from dl4ia_nbdev.encoders import build_encoder
from dl4ia_nbdev.kmeans import KMeans
from dl4ia_nbdev.report import save_results
from dl4ia_nbdev.simclr import nt_xent, projection_head
from dl4ia_nbdev.train import autocast, pick_device, precision_dtype
from dl4ia_nbdev.views import Views, simclr_imagenet


def seconds(f, device, repeats):
    "Median time of f() after one trial"
    done = (lambda: torch.cuda.synchronize(device)) if device.type == 'cuda' else (lambda: None)
    f(); done(); times = []
    for _ in range(repeats): t = time.perf_counter(); f(); done(); times.append(time.perf_counter() - t)
    return statistics.median(times)


def kept_bytes(f):
    "Bytes that autograd keeps of one forward pass for the backward pass, each piece of memory once"
    seen = {}
    def pack(t):
        if not isinstance(t, nn.Parameter): seen[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t): f()
    return sum(seen.values())


def measure(method, device, batch, repeats, precision='auto', size=224):
    "Images a second in training and for features, and what an image costs"
    torch.manual_seed(0); raw = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8, device=device)
    if method == 'simclr': enc = build_encoder('resnet50', size).net; net = nn.Sequential(enc, projection_head(2048))
    else: enc = nn.Sequential(alexnet('deepcluster', None, sobel=True), nn.Flatten()); net = nn.Sequential(enc, nn.ReLU(), nn.Linear(enc(torch.zeros(1, 3, size, size)).shape[1], 10_000))
    net = net.to(device, memory_format=torch.channels_last); opt = torch.optim.SGD(net.parameters(), .01, momentum=.9); target = torch.randint(0, 10_000, (batch,), device=device)
    views = Views(simclr_imagenet(size)); prepared = raw.float()/255
    def views_of(): return torch.cat(views(raw)) if method == 'simclr' else crop_flip(prepared)
    x = views_of().to(memory_format=torch.channels_last)
    def loss():
        with autocast(precision, device): z = net(x)
        return nt_xent(*z.float().chunk(2), .5) if method == 'simclr' else F.cross_entropy(z.float(), target)
    def step(): opt.zero_grad(set_to_none=True); loss().backward(); opt.step()
    def features():
        with torch.no_grad(), autocast(precision, device): enc(x[:batch])
    with FlopCounterMode(display=False) as count: loss().backward()
    out = dict(method=method, size=size, batch=batch, precision=str(precision_dtype(precision, device)).removeprefix('torch.'), parameters=sum(p.numel() for p in net.parameters()), width=enc(x[:1]).shape[1],
               flop=count.get_total_flops()/batch, kept=kept_bytes(loss)/batch)
    out |= dict(train=batch/seconds(step, device, repeats), features=batch/seconds(features, device, repeats), views=batch/seconds(views_of, device, repeats))
    if method == 'deepcluster':
        n, d, k = (100_000, 256, 10_000) if device.type == 'cuda' else (20_000, 256, 1000) if size > 64 else (2000, 64, 100); Z = F.normalize(torch.randn(n, d, device=device), dim=1); C = Z[:k].clone()
        out |= dict(kmeans=20*n*k/seconds(lambda: KMeans(k, init=C, max_iter=20, tol=0., empty='keep').fit(Z), device, repeats), kmeans_k=k)
    return out


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0]); p.add_argument('--device', default=None); p.add_argument('--repeats', type=int, default=3)
    p.add_argument('--batch', type=int, default=None, help='images a step (default: 16 on a CPU, 128 on a GPU)'); p.add_argument('--out', default=None, help='name of a file, without .json'); p.add_argument('--size', type=int, default=224, help='side of the images')
    a = p.parse_args(); device = pick_device(a.device); rows = []; name = torch.cuda.get_device_name(device) if device.type == 'cuda' else 'CPU'
    for m in ('simclr', 'deepcluster'): rows.append(measure(m, device, a.batch or (16 if device.type == 'cpu' else 128), a.repeats, size=a.size)); print(json.dumps(rows[-1]))
    if a.out: print(save_results(Path(a.out).name, rows, Path(a.out).parent, device=name, repeats=a.repeats))


if __name__ == '__main__': main()

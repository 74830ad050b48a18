#!/usr/bin/env python
"""Time of two SimCLR views of 256 images against torchvision, lightly and kornia.

    pip install -e '.[fast]' -r benchmarks/requirements-views.txt     # for the benchmark only; a peer that is missing is left out, and a line says so
    python benchmarks/views.py
    python benchmarks/views.py --keep-memory             # for all of them, as while this package trains
    python benchmarks/views.py --sizes 24 --source 32    # views smaller than the images
    python benchmarks/views.py --quick --json OUT.json

benchmarks/README.md says how each number is measured.
"""
import argparse, contextlib, importlib.util, random, sys, time
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F

here = Path(__file__).resolve().parent
sys.path.insert(0, str(here.parent)); sys.path.insert(0, str(here))        # the package of this checkout
mean, std = (.485, .456, .406), (.229, .224, .225)


def setting(size): return dict(s=.5 if size < 64 else 1., blur=size >= 64, kernel=max(3, 2*round(.05*size) + 1))


class PerImage(torch.utils.data.Dataset):
    "Two views of image i by a transform that takes one image; `batches` walks over the set"
    def __init__(self, images, make, times=1): self.images, self.make, self.times = images, make, times
    def __len__(self): return len(self.images)*self.times
    def __getitem__(self, i): return self.make(self.images[i % len(self.images)])


def torchvision_views(images, size, s, blur, kernel):
    from torchvision.transforms import v2
    t = v2.Compose([v2.RandomResizedCrop(size, antialias=True), v2.RandomHorizontalFlip(), v2.RandomApply([v2.ColorJitter(.8*s, .8*s, .8*s, .2*s)], .8), v2.RandomGrayscale(.2)]
                   + [v2.RandomApply([v2.GaussianBlur(kernel, (.1, 2.))], .5)]*blur + [v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)])
    return lambda x: (t(x), t(x))


def lightly_views(images, size, s, blur, kernel):
    from lightly.transforms import SimCLRTransform
    from torchvision.transforms.functional import to_pil_image
    t = SimCLRTransform(input_size=size, cj_strength=s, gaussian_blur=.5*blur)
    return lambda x: tuple(t(to_pil_image(x)))


def batches_of(data, workers, batch):
    "Seconds a batch of a loader that runs: from when each of its processes has made one, over as many for each"
    n = len(data)//batch - workers; assert n > 0 and n % workers == 0          # (they finish together: else one that waits to be counted would come for nothing)
    for i, _ in enumerate(torch.utils.data.DataLoader(data, batch, num_workers=workers), 1):
        if i == workers: t = time.perf_counter()
    return (time.perf_counter() - t)/n


def runs(images, size, batches, threads):
    "name -> function that returns the seconds of two views of the batch"
    from dl4ia_nbdev.views import Views, simclr_cifar, simclr_imagenet
    from common import use_loops
    o, n = setting(size), len(images)
    def timed(f):
        def once(): t = time.perf_counter(); f(); return time.perf_counter() - t
        return once
    made = Views(simclr_imagenet(size) if o['blur'] else simclr_cifar(size), normalize=(mean, std))
    def ours(compiled): return timed(lambda: (use_loops('views', compiled), made(images)))
    if not (there := use_loops('views')): print('numba is not installed: views are made without machine code')
    tv = torchvision_views(images, size, **o)
    got = {'dl4ia_nbdev': ours(True), **({'dl4ia_nbdev, no numba': ours(False)} if there else {}), 'torchvision v2': timed(lambda: [torch.stack(v) for v in zip(*map(tv, images))]),
           f'torchvision v2, {threads} workers': lambda: batches_of(PerImage(images, tv, batches*threads), threads, n), 'lightly': None, f'lightly, {threads} workers': None, 'kornia': None}
    if importlib.util.find_spec('lightly'):
        li = lightly_views(images, size, **o)
        got['lightly'] = timed(lambda: [torch.stack(v) for v in zip(*map(li, images))]); got[f'lightly, {threads} workers'] = lambda: batches_of(PerImage(images, li, batches*threads), threads, n)
    if importlib.util.find_spec('kornia'):
        import kornia.augmentation as K
        s = o['s']
        t = torch.nn.Sequential(K.RandomResizedCrop((size, size), scale=(.08, 1.), ratio=(3/4, 4/3)), K.RandomHorizontalFlip(), K.ColorJitter(.8*s, .8*s, .8*s, .2*s, p=.8), K.RandomGrayscale(p=.2),
                                *[K.RandomGaussianBlur((o['kernel'], o['kernel']), (.1, 2.), p=.5)]*o['blur'], K.Normalize(torch.tensor(mean), torch.tensor(std)))
        def kornia(): x = images.float()/255; return t(x), t(x)
        got['kornia'] = timed(kornia)
    return got


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog='benchmarks/README.md says how each number is measured.')
    p.add_argument('--sizes', type=int, nargs='+', default=[32, 96, 224], help='sides of the views'); p.add_argument('--source', type=int, help='side of the images; default: that of the views'); p.add_argument('--images', type=int, default=256); p.add_argument('--threads', type=int, default=2); p.add_argument('--repeats', type=int, default=0, help='0: by size')
    p.add_argument('--keep-memory', action='store_true', help='memory that one gives back is kept for the next, as while this package trains')
    p.add_argument('--quick', action='store_true', help='16 images of 32 pixels, once'); p.add_argument('--json', help='file for the results')
    a = p.parse_args(); torch.set_num_threads(a.threads)
    if a.quick: a.sizes, a.images, a.repeats = [32], 16, 1
    from common import environment, headline, keep, others_busy, pause, show
    from dl4ia_nbdev.train import hold_memory
    env, tables = environment(), []; headline(env, a.threads)
    with hold_memory() if a.keep_memory else contextlib.nullcontext(): measure(a, tables, others_busy, show, lambda: keep(a, env, tables), .002 if a.quick else pause)


def measure(a, tables, others_busy, show, keep, pause):
    "Add the rows of all sizes to `tables`, show and keep them"
    for size in a.sizes:
        side = a.source or size; torch.manual_seed(0); small = torch.rand(a.images, 3, side//8, side//8)       # smooth, as images are, and noise on it
        images = (F.interpolate(small, (side, side), mode='bicubic').add_(.05*torch.randn(a.images, 3, side, side)).clamp_(0, 1)*255).byte()
        k = a.repeats or {32: 9, 96: 5}.get(size, 3); got = runs(images, size, 2 if a.quick else 3, a.threads)
        for n in [n for n, f in got.items() if f is None]: print(f'{n} is not installed: its rows are left out'); got.pop(n)
        theta = torch.tensor([[.7, 0, .1], [0, .7, -.1]]).repeat(a.images, 1, 1); grid, x = F.affine_grid(theta, (a.images, 3, size, size), align_corners=False), images.float()
        def floor():
            t = time.perf_counter()
            for _ in range(2): F.grid_sample(x, grid, align_corners=False)
            return time.perf_counter() - t
        got['floor: two grid_sample'] = floor
        first = {r: f() for r, f in got.items()}
        others, times = others_busy(), {r: [] for r in got}
        for i in range(k):
            for r in random.Random(i).sample(list(got), len(got)):                                     # in another order each time
                time.sleep(pause)
                if first[r] < 1: got[r]()                                                             # after a pause processors begin slowly
                times[r].append(got[r]())
        m = {r: median(v) for r, v in times.items()}; best = min(v for r, v in m.items() if not r.startswith(('dl4ia_nbdev', 'floor')))
        rows = [dict(implementation=r, size=size) | (dict(source=side) if side != size else {}) | {'ms': 1e3*m[r], 'spread, %': 100*(max(v) - min(v))/m[r], 'best peer / this': best/m[r], '× floor': m[r]/m['floor: two grid_sample']} for r, v in times.items()]
        print(f"\ntwo views of {a.images} images, {size} px{f' of images of {side}' if side != size else ''}, strength {setting(size)['s']}, {'blurred' if setting(size)['blur'] else 'no blur'}, medians of {k}; {100*others():.0f} % of the processors taken by others (a loader's workers count as others)"); show(rows); tables += rows; keep()


if __name__ == '__main__': main()

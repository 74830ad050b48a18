#!/usr/bin/env python
"""Time of a whole training step of SimCLR over that of the encoder's own forward and backward pass on the same views.

    python benchmarks/simclr.py
    python benchmarks/simclr.py --quick --json OUT.json

benchmarks/README.md says how each number is measured.
"""
import argparse, sys, time
from pathlib import Path
from statistics import median

import torch

here = Path(__file__).resolve().parent
sys.path.insert(0, str(here.parent)); sys.path.insert(0, str(here))        # the package of this checkout


def cases(quick):
    "name -> (encoder, side of the images, pairs)"
    from dl4ia_nbdev.alexnet import alexnet
    from dl4ia_nbdev.encoders import ConvNet, resnet

    class Maps(torch.nn.Module):
        "AlexNet up to the pooled maps of conv5: 9,216 features"
        def __init__(self): super().__init__(); self.net = alexnet('original', None, seed=0, norm='batch'); del self.net.fc6, self.net.fc7
        def forward(self, x):
            n = self.net
            for i in range(1, 6):
                x = getattr(n, f'conv{i}')(x)
                if i in (1, 2, 5): x = n.pool(x)
            return x.flatten(1)
    if quick: return {'ConvNet, 32 px, 16 pairs': (ConvNet((8, 16)), 32, 16)}
    return {'ResNet-18, 32 px, 128 pairs': (resnet(18, 32), 32, 128), 'AlexNet up to conv5, 224 px, 16 pairs': (Maps(), 224, 16), 'AlexNet with fc6 and fc7, 224 px, 16 pairs': (alexnet('original', None, seed=0), 224, 16), 'ConvNet, 32 px, 128 pairs': (ConvNet(), 32, 128)}


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog='benchmarks/README.md says how each number is measured.')
    p.add_argument('--threads', type=int, default=2); p.add_argument('--repeats', type=int, default=5); p.add_argument('--precisions', nargs='+', default=['auto', 'float32']); p.add_argument('--optimizer', default='lars'); p.add_argument('--only', default='', help='cases whose name begins so')
    p.add_argument('--quick', action='store_true', help='a small network, once'); p.add_argument('--json', help='file for the results')
    a = p.parse_args(); torch.set_num_threads(a.threads)
    if a.quick: a.repeats, a.precisions = 1, ['auto']
    from common import environment, headline, keep, others_busy, show, use_loops
    from dl4ia_nbdev.data import ImageSet
    from dl4ia_nbdev.evaluate import _channels_last
    from dl4ia_nbdev.simclr import SimCLR
    from dl4ia_nbdev.train import autocast
    use_loops('views')                                                     # as after a second of views
    env, rows = environment(), []; headline(env, a.threads); others = others_busy()
    for name, (enc, size, pairs) in cases(a.quick).items():
        if not name.startswith(a.only): continue
        steps = 3
        images = ImageSet((torch.rand(pairs*steps, 3, size, size)*255).byte()); images.mean
        for precision in a.precisions:
            s = SimCLR(enc, epochs=a.repeats + 1, batch_size=pairs, optimizer=a.optimizer, precision=precision, watch_every=None, progress=False)
            views = s._views_of(images); opt = torch.optim.SGD(enc.parameters(), 0.)
            v, _ = views._both(images.images[:pairs], 0); v = _channels_last(v); own = []

            def floor(*_):
                t = time.perf_counter()
                for _ in range(steps):
                    with autocast(precision): h = enc(v)
                    g = torch.ones_like(h); opt.zero_grad(set_to_none=True); h.backward(g)
                own.append((time.perf_counter() - t)/steps)
            enc.train().to(memory_format=torch.channels_last); floor(); own.clear()
            s.fit(images, callbacks=[floor])                                 # in turns: an epoch of three steps, then the floor
            step = [r['seconds']/steps for r in s.history_][1:]; ratios = [x/y for x, y in zip(step, own[1:])]
            t = time.perf_counter(); views._both(images.images[:pairs], 1); tv = time.perf_counter() - t
            rows.append(dict(step=name, precision=precision) | {'ms': 1e3*median(step), 'encoder alone, ms': 1e3*median(own[1:]), '× encoder': median(ratios), 'views, ms': 1e3*tv})
        mine = rows[-len(a.precisions):]; single = next((r['ms'] for r in mine if r['precision'] == 'float32'), None)
        for r in mine:
            if single and r['precision'] != 'float32': r['× float32'] = r['ms']/single
        keep(a, env, rows)
    print(f"\nmedians of {a.repeats} epochs of three steps, optimiser {a.optimizer}; {100*others():.0f} % of the processors taken by others"); show(rows)


if __name__ == '__main__': main()

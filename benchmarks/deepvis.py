#!/usr/bin/env python
"""What activation maximisation costs beside its floor, one forward and backward pass of the network up to the layer, and beside lucent.

    python -m venv peer && peer/bin/pip install -r benchmarks/requirements-lucent.txt     # an environment of its own: lucent pins an old kornia
    python benchmarks/deepvis.py --lucent peer/bin/python
    python benchmarks/deepvis.py                          # without it, lucent's rows are left out
    python benchmarks/deepvis.py --quick --json OUT.json

benchmarks/README.md says how each number is measured.
"""
import argparse, json, subprocess, sys, time, warnings
from pathlib import Path
from statistics import median

here = Path(__file__).resolve().parent
layer, channel, side, norm = 10, 5, 224, ((.485, .456, .406), (.229, .224, .225))      # AlexNet's conv5 is features.10


def network():
    "torchvision's AlexNet with random weights: what a pass costs does not depend on them"
    import torch
    from torchvision.models import alexnet
    torch.manual_seed(0)
    return alexnet(weights=None).eval()


# ---- the peer: a child process in its own environment that answers a line with the seconds a step took ----

def lucent_child(steps, threads):
    warnings.simplefilter('ignore')
    import torch
    from lucent.optvis import param, render, transform
    torch.set_num_threads(threads)
    net = network()
    kinds = {'lucent, Fourier and transformations': dict(),
             'lucent, pixels': dict(param_f=lambda: param.image(side, fft=False, decorrelate=False), transforms=[]),
             'lucent, Fourier, 224': dict(param_f=lambda: param.image(side), transforms=list(transform.standard_transforms), fixed_image_size=side)}
    print(json.dumps(dict(ready=list(kinds), torch=torch.__version__)), flush=True)
    for line in sys.stdin:
        t = time.perf_counter()
        render.render_vis(net, f'features_{layer}:{channel}', thresholds=(steps,), show_image=False, progress=False, **kinds[line.strip()])
        print(json.dumps((time.perf_counter() - t)/steps), flush=True)


class Lucent:
    def __init__(self, python, steps, threads):
        self.p = subprocess.Popen([python, '-W', 'ignore', str(here/'deepvis.py'), '--lucent-child', '--steps', str(steps), '--threads', str(threads)],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        said = self.p.stdout.readline()
        if not said: raise SystemExit(f'--lucent: {python} could not start lucent; is benchmarks/requirements-lucent.txt installed there?')
        said = json.loads(said); self.names, self.torch = said['ready'], said['torch']

    def __call__(self, name):
        self.p.stdin.write(name + '\n'); self.p.stdin.flush()
        return json.loads(self.p.stdout.readline())


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog='benchmarks/README.md says how each number is measured.')
    p.add_argument('--steps', type=int, default=64); p.add_argument('--repeats', type=int, default=9); p.add_argument('--threads', type=int, default=2)
    p.add_argument('--lucent', metavar='PYTHON', help='interpreter of an environment that has lucent'); p.add_argument('--lucent-child', action='store_true', help=argparse.SUPPRESS)
    p.add_argument('--quick', action='store_true', help='4 steps, once'); p.add_argument('--json', help='file for the results')
    a = p.parse_args()
    if a.quick: a.steps, a.repeats = 4, 1
    if a.lucent_child: return lucent_child(a.steps, a.threads)

    sys.path.insert(0, str(here.parent)); sys.path.insert(0, str(here))        # the package of this checkout
    import torch
    from common import environment, headline, keep, others_busy, show
    from dl4ia_nbdev.deepvis import Adam, Channel, Pixels, maximise
    torch.set_num_threads(a.threads)
    net = network(); upto = net.features[:layer + 1]

    def floor(n=1):
        for w in net.parameters(): w.requires_grad_(False)
        x = torch.rand(n, 3, side, side)
        t = time.perf_counter()
        for _ in range(a.steps):
            x.requires_grad_(); g, = torch.autograd.grad(upto(x)[:, channel].mean((1, 2)).sum(), x); x = x.detach()
        return (time.perf_counter() - t)/a.steps

    def ours(objectives=Channel(f'features.{layer}', channel, 'mean'), **kw):
        t = time.perf_counter(); maximise(net, objectives, steps=a.steps, normalize=norm, **kw)
        return (time.perf_counter() - t)/a.steps
    nine = [Channel(f'features.{layer}', c, 'mean') for c in range(9)]
    runs = {'Fourier and transformations, 128 seen at 224': lambda: ours(size=128, input_size=side), 'Fourier and transformations, 224': lambda: ours(size=side),
            'pixels': lambda: ours(size=side, param=Pixels(), r=()), 'pixels, Adam': lambda: ours(size=side, param=Pixels(), r=(), step=Adam()),
            'Fourier and transformations, 128 seen at 224, bfloat16': lambda: ours(size=128, input_size=side, precision='bfloat16')}
    if a.lucent:
        peer = Lucent(a.lucent, a.steps, a.threads)
        runs |= {n: (lambda n=n: peer(n)) for n in peer.names}
    else: print('no --lucent: its rows are left out')
    for f in runs.values(): f()                                        # warm
    env = environment(); others = others_busy()
    if a.lucent: env['versions']['torch beside lucent'] = peer.torch
    headline(env, a.threads)
    got, base, between = {n: [] for n in runs}, [floor()], []
    for _ in range(a.repeats):
        for n, f in runs.items():                                      # each run between two floors
            t = f(); base.append(floor()); got[n].append((t, t/((base[-1] + base[-2])/2)))
    many = []
    for _ in range(max(1, a.repeats//3)): many.append((ours(nine, size=128, input_size=side), ours(size=128, input_size=side), floor(9)))
    rows = [dict(run='floor: forward and backward to conv5, frozen weights') | {'ms/step': 1e3*median(base), '× floor': 1.}]
    rows += [dict(run=n) | {'ms/step': 1e3*median(t for t, _ in v), '× floor': median(q for _, q in v)} for n, v in got.items()]
    lucent = next((r['ms/step'] for r in rows if r['run'].startswith('lucent, Fourier and')), None)
    for r in rows:
        if lucent: r['lucent takes, times'] = lucent/r['ms/step']
    rows.append(dict(run='nine targets in one batch') | {'ms/step': 1e3*median(m[0] for m in many), '× floor': median(m[0]/m[2] for m in many), '× nine runs': median(m[0]/(9*m[1]) for m in many)})
    print(f'\nAlexNet, conv5, one channel, {a.steps} steps; medians of {a.repeats}; {100*others():.0f} % of the processors taken by others'); show(rows)
    keep(a, env, rows, 'lucent', 'lucent_child')


if __name__ == '__main__': main()

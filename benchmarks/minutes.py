#!/usr/bin/env python
"""What SimCLR, DeepCluster and lightly's SimCLR learn from CIFAR-10 in so many minutes on this machine.

    python benchmarks/minutes.py simclr --minutes 5                      # the recipe for five minutes
    python benchmarks/minutes.py simclr --minutes 1 --validate --set '{"lr": 0.002}'     # a setting tried on a tenth of the training set, held out
    python benchmarks/minutes.py deepcluster --minutes 5
    pip install lightly; python benchmarks/minutes.py lightly --minutes 5 --stem cifar --precision bfloat16
    python benchmarks/minutes.py baselines                               # raw pixels, the same networks untrained

The time is that of training: views, forward, backward, clustering; not reading the images and not the evaluation. First some steps are timed, then as many epochs are trained as fit.
Images come from `dataset('cifar10')`: $DL4IA_DATA, the user's cache, or torchvision's download. benchmarks/README.md says how each number is measured.
"""
import argparse, json, sys, time
from pathlib import Path
from statistics import median

import torch
from torch import nn

root = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(root))                    # the package of this checkout
from dl4ia_nbdev.data import dataset
from dl4ia_nbdev.deepcluster import DeepCluster
from dl4ia_nbdev.encoders import ConvNet, resnet
from dl4ia_nbdev.evaluate import LinearProbe, _right, _vote, embed, nearest
from dl4ia_nbdev.report import _plain, environment
from dl4ia_nbdev.simclr import SimCLR
from dl4ia_nbdev.train import fork_seed
from dl4ia_nbdev.views import Augment, RandomResizedCrop, simclr_cifar

recipe = dict(width=(32, 64, 128, 256), lr=4e-3, temperature=.1, batch_size=128, crop=.2, jitter=.5, size=32, projection_head=2, weight_decay=1e-2, warmup=.1)
clusters = dict(width=(32, 64, 128, 256), n_clusters=300, rounds=5, views=True, crop=.2, jitter=.5, lr=.05, batch_size=128, pca_dim=64)


def images(validate, most=None):
    "Training images and those that judge: CIFAR-10's test set, or with `validate` a tenth of the training set, always the same; `most` of each, for a trial"
    tr = dataset('cifar10', n=most)
    if not validate: return tr, dataset('cifar10', 'test', n=most)
    order = torch.randperm(len(tr), generator=torch.Generator().manual_seed(1234)); k = len(tr)//10
    return tr[order[k:]], tr[order[:k]]


def judge(encoder, tr, te, linear=True):
    "kNN (cosine, after centring) and the linear probe on frozen features, in percent"
    h, ht = (embed(encoder, o) for o in (tr, te)); y, yt = tr.labels, te.labels; t = time.perf_counter()
    s, i = nearest(h, ht, 200); got = dict(knn=_right(_vote(s[:, :10], i[:, :10], y, None), yt), knn200=_right(_vote(s, i, y, .1), yt))
    if linear: got['linear'] = _right(LinearProbe().fit(h, y).predict(ht), yt)
    return {k: round(100*v, 2) for k, v in got.items()} | dict(judged=round(time.perf_counter() - t, 1))


def recipe_views(crop, jitter, size):
    "SimCLR's views for CIFAR-10 with crops of at least the share `crop`"
    return Augment(RandomResizedCrop(size, scale=(crop, 1.)), *simclr_cifar(size, jitter).ops[1:])


def simclr(tr, minutes, seed, own):
    "Our SimCLR: (encoder, what was done)"
    s = recipe | own; width = s.pop('width'); views = recipe_views(s.pop('crop'), s.pop('jitter'), s.pop('size'))
    def new(epochs, images):
        with fork_seed(seed): net = ConvNet(tuple(width))
        return SimCLR.small(net, epochs=epochs, watch_every=None, views=views, random_state=seed, progress=False, **s).fit(images)
    b = s['batch_size']; n = len(tr)//b
    def timed(steps): t = time.perf_counter(); new(1, tr[torch.arange(steps*b) % len(tr)]); return (time.perf_counter() - t)/steps
    timed(5); step = median(timed(10) for _ in range(3)); epochs = max(1, int(minutes*60/(step*n)))         # the first run of anything is slow
    t = time.perf_counter(); made = new(epochs, tr); took = time.perf_counter() - t
    return made.encoder, dict(epochs=epochs, seconds=round(took, 1), ms_per_step=round(1e3*step, 1), images_per_second=round(epochs*n*b/took), loss=round(made.history_[-1]['loss'], 4), settings=recipe | own)


def deepcluster(tr, minutes, seed, own):
    "Our DeepCluster: (encoder, what was done). Rounds of equal length; the time of one epoch and one clustering is measured first"
    s = clusters | own; width, rounds, views, jittered = s.pop('width'), s.pop('rounds'), s.pop('views'), recipe_views(s.pop('crop'), s.pop('jitter'), 32); mean, std = (torch.as_tensor(o).view(1, -1, 1, 1) for o in (tr.mean, tr.std))
    if views: s['augment'] = lambda x: (jittered((x*std + mean).clamp(0, 1)) - mean)/std       # batches come normalised
    def new(epochs, recluster, images):
        with fork_seed(seed): net = ConvNet(tuple(width))
        return DeepCluster.small(net, epochs=epochs, recluster=recluster, random_state=seed, progress=False, **s).fit(images)
    new(1, 1, tr[:2*s['n_clusters'] + 200])                                                 # the first run of anything is slow
    t = time.perf_counter(); new(1, 1, tr); one = time.perf_counter() - t; t = time.perf_counter(); new(2, 2, tr); two = time.perf_counter() - t
    epoch, clustering = max(.1, two - one), max(.1, 2*one - two); every = max(1, int((minutes*60 - rounds*clustering)/rounds/epoch))
    t = time.perf_counter(); made = new(every*rounds, every, tr); took = time.perf_counter() - t
    return made.encoder, dict(epochs=every*rounds, recluster=every, seconds=round(took, 1), epoch_seconds=round(epoch, 1), clustering_seconds=round(clustering, 1), history=[{k: h[k] for k in ('nmi_before', 'evenness', 'loss') if k in h} for h in made.history_[every - 1::every]], settings=clusters | own)


def lightly(tr, minutes, seed, own):
    "lightly's SimCLR as its own example has it (transform without blur, ResNet-18, batches of 256, SGD with 0.06, temperature 0.5), until the time is over"
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead
    from lightly.transforms import SimCLRTransform
    from torchvision.transforms.functional import to_pil_image
    s = dict(stem='cifar', precision='bfloat16', workers=2, batch_size=256, lr=.06, temperature=.5) | own; torch.manual_seed(seed)
    net = resnet(18, 32, small=s['stem'] == 'cifar'); head = SimCLRProjectionHead(512, 512, 128); loss_fn = NTXentLoss(s['temperature'])
    opt = torch.optim.SGD([*net.parameters(), *head.parameters()], lr=s['lr'], momentum=.9, weight_decay=5e-4)
    view = SimCLRTransform(input_size=32, gaussian_blur=0.)
    class Pairs(torch.utils.data.Dataset):
        def __len__(self): return len(tr)
        def __getitem__(self, i): return view(to_pil_image(tr.images[i]))
    loader = torch.utils.data.DataLoader(Pairs(), s['batch_size'], shuffle=True, drop_last=True, num_workers=s['workers'], persistent_workers=s['workers'] > 0)
    net.to(memory_format=torch.channels_last).train(); t, steps, losses = time.perf_counter(), 0, []
    while time.perf_counter() - t < minutes*60:
        for a, b in loader:
            with torch.autocast('cpu', torch.bfloat16, enabled=s['precision'] == 'bfloat16'): z = [head(net(o.contiguous(memory_format=torch.channels_last)).flatten(1)) for o in (a, b)]
            loss = loss_fn(*(o.float() for o in z)); opt.zero_grad(); loss.backward(); opt.step(); steps += 1; losses.append(loss.item())
            if time.perf_counter() - t >= minutes*60: break
    took = time.perf_counter() - t
    return net.eval(), dict(epochs=round(steps*s['batch_size']/len(tr), 2), seconds=round(took, 1), ms_per_step=round(1e3*took/steps, 1), images_per_second=round(steps*s['batch_size']/took), loss=round(sum(losses[-20:])/len(losses[-20:]), 4), settings=s)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('method', choices=('simclr', 'deepcluster', 'lightly', 'baselines')); p.add_argument('--minutes', type=float, default=5.); p.add_argument('--seed', type=int, default=0)
    p.add_argument('--validate', action='store_true', help='judge on images held out of the training set: for choices'); p.add_argument('--set', type=json.loads, default={}, help='settings that differ, as JSON'); p.add_argument('--threads', type=int)
    p.add_argument('--stem', choices=('cifar', 'default')); p.add_argument('--precision', choices=('bfloat16', 'float32')); p.add_argument('--no-linear', action='store_true'); p.add_argument('--images', type=int, help='only so many, for a trial'); p.add_argument('--json', type=Path, help='file to which a line is added')
    a = p.parse_args(); own = a.set | {k: v for k, v in dict(stem=a.stem, precision=a.precision).items() if v}
    if a.threads: torch.set_num_threads(a.threads)
    tr, te = images(a.validate, a.images); base = dict(method=a.method, minutes=a.minutes, seed=a.seed, judged_on='a tenth of the training set, held out' if a.validate else 'test set')
    if a.method == 'baselines':
        with fork_seed(a.seed): nets = {'raw pixels': nn.Flatten(), 'ConvNet, untrained': ConvNet(tuple(recipe['width'])), 'ResNet-18, CIFAR stem, untrained': resnet(18, 32)}
        rows = [base | dict(representation=n, minutes=0) | judge(m, tr, te, not a.no_linear) for n, m in nets.items()]
    else:
        encoder, done = dict(simclr=simclr, deepcluster=deepcluster, lightly=lightly)[a.method](tr, a.minutes, a.seed, own)
        rows = [base | done | judge(encoder, tr, te, not a.no_linear)]
    for r in rows:
        r = _plain(r); print(json.dumps(r), flush=True)
        if a.json:
            with open(a.json, 'a', encoding='utf-8') as f: f.write(json.dumps(r | dict(environment=environment())) + '\n')


if __name__ == '__main__': main()

#!/usr/bin/env python
"""What SimCLR, DeepCluster and lightly's SimCLR learn from CIFAR-10 in so many minutes on this machine.

    python benchmarks/minutes.py simclr --minutes 5 --set '{"size": 24}' # the recipe for five minutes
    python benchmarks/minutes.py simclr --minutes 1 --validate --set '{"lr": 0.002}'     # a setting tried on a tenth of the training set, held out
    python benchmarks/minutes.py simclr --minutes 3 --search --results trials.json       # all of `searches`, one change at a time, likewise judged; a stopped search goes on
    python benchmarks/minutes.py deepcluster --minutes 5
    pip install -r benchmarks/requirements-minutes.txt; python benchmarks/minutes.py lightly --minutes 5 --stem default
    python benchmarks/minutes.py baselines                               # raw pixels, the same networks untrained
    python benchmarks/minutes.py simclr --epochs 50 --set '{"size": 24}'  # so many epochs, whatever they take: the run of another machine again
    python benchmarks/minutes.py deepcluster --minutes 5 --results nbs/results      # the row goes into the file that the page draws
    python benchmarks/minutes.py simclr --minutes 60 --checkpoint run.pt --save encoder.safetensors      # the same command after a stop goes on
    python benchmarks/minutes.py all --results again                     # every run of the two pages' tables, thirteen hours; after a stop, finished runs are kept

The time is that of training: views, forward, backward, clustering; not reading the images and not the evaluation. First some steps are timed, then as many whole epochs are trained as fit; those of a search fill the time, with a last epoch more and some images fewer.
Images come from `dataset('cifar10')`: $DL4IA_DATA, the user's cache, or torchvision's download. benchmarks/README.md says how each number is measured.
"""
import argparse, json, math, shlex, sys, time
from importlib.metadata import version
from pathlib import Path
from statistics import median

import torch
from torch import nn

root = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(root))                    # the package of this checkout
from dl4ia_nbdev.data import ImageSet, dataset
from dl4ia_nbdev.deepcluster import DeepCluster
from dl4ia_nbdev.encoders import ConvNet, build_encoder, resnet, save_encoder
from dl4ia_nbdev.evaluate import LinearProbe, _right, _vote, embed, knn_accuracy, nearest, supervised
from dl4ia_nbdev.report import _plain, environment, load_results, save_results
from dl4ia_nbdev.simclr import SimCLR
from dl4ia_nbdev.train import fork_seed
from dl4ia_nbdev.views import Augment, RandomResizedCrop, simclr_cifar

recipe = dict(encoder='convnet', width=(32, 64, 128, 256), lr=4e-3, temperature=.1, batch_size=128, crop=.2, jitter=.5, size=32, projection_head=2, weight_decay=1e-2, warmup=.1)
clusters = dict(width=(32, 64, 128, 256), size=32, n_clusters=300, rounds=5, views=True, crop=.2, jitter=.5, lr=.05, batch_size=128, pca_dim=64)
labels = dict(width=recipe['width'], lr=4e-3, batch_size=128)
example = dict(stem='cifar', precision='bfloat16', workers=2, batch_size=256, lr=.06, temperature=.5, strength=1.)          # of lightly
DEFAULTS = dict(simclr=recipe, deepcluster=clusters, supervised=labels, lightly=example, baselines={})
# The runs that the pages draw, by the file that holds them
RUNS = dict(
    cifar10_minutes="""baselines
supervised --minutes 5
simclr --minutes 5 --set '{"size": 24}'
deepcluster --minutes 5
lightly --minutes 5 --stem default
simclr --minutes 15 --set '{"size": 24}'
deepcluster --minutes 15 --set '{"rounds": 10}'
lightly --minutes 15 --stem default
simclr --minutes 60 --set '{"size": 24, "width": [64, 128, 256, 512]}'
deepcluster --minutes 60 --set '{"rounds": 20, "width": [64, 128, 256, 512]}'
lightly --minutes 60 --stem default""",
    cifar10_seeds="""simclr --minutes 5 --set '{"size": 24}'
simclr --minutes 5 --set '{"size": 24}' --seed 1
simclr --minutes 5 --set '{"size": 24}' --seed 2
simclr --minutes 15 --set '{"size": 24}'
simclr --minutes 15 --set '{"size": 24}' --seed 1
simclr --minutes 15 --set '{"size": 24}' --seed 2
simclr --minutes 60 --set '{"size": 24, "width": [64, 128, 256, 512]}'
deepcluster --minutes 5 --set '{"size": 24}'
deepcluster --minutes 5 --set '{"size": 24}' --seed 1
deepcluster --minutes 15 --set '{"size": 24, "rounds": 10}'
deepcluster --minutes 60 --set '{"size": 24, "rounds": 20, "width": [64, 128, 256, 512]}'
supervised --minutes 15
supervised --minutes 60 --set '{"width": [64, 128, 256, 512]}'
lightly --minutes 5 --stem default
lightly --minutes 5 --stem cifar
lightly --minutes 15 --stem default
lightly --minutes 60 --at 5 15 --stem cifar
lightly --minutes 5 --stem default --precision float32
lightly --minutes 5 --stem cifar --precision float32
lightly --minutes 15 --stem default --precision float32
lightly --minutes 60 --stem default --precision float32
lightly --minutes 60 --at 15 --stem cifar --precision float32
lightly --minutes 15 --at 5 --stem default --set '{"strength": 0.5}'""")
# What `--search` tries: one change at a time from the first entry (the stored search ended before the last three of DeepCluster)
searches = dict(
    simclr=(dict(size=24), dict(lr=2e-3), dict(lr=8e-3), dict(projection_head=1), dict(batch_size=64), dict(batch_size=512), dict(temperature=.05), dict(temperature=.2), dict(precision='float32'), dict(encoder='resnet18', stem='default'), dict(encoder='alexnet', size=32),
            dict(crop=.08), dict(crop=.4), dict(size=16), dict(size=32), dict(jitter=1.), dict(width=[16, 64, 128, 256]), dict(width=[48, 96, 192, 384]), dict(optimizer='lars', lr=None), dict(optimizer='sgd', lr=.1), dict(warmup=.02), dict(weight_decay=1e-1)),
    deepcluster=(dict(size=24), dict(size=32), dict(lr=.02), dict(lr=.1), dict(n_clusters=100), dict(n_clusters=1000), dict(rounds=2), dict(rounds=10), dict(jitter=.25), dict(batch_size=256), dict(views=False)))


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


def network(seed, width, encoder='convnet', stem=None):
    "The untrained encoder that these settings ask for"
    made = build_encoder(encoder, 32, seed=seed, **(dict(width=tuple(width)) if encoder == 'convnet' else {}), **(dict(small=stem == 'cifar') if stem else {}))
    return made.net if made.layer is None else made


def on_normalised(views, images):
    "Views as an augmentation of batches that come normalised by the mean and standard deviation of `images`"
    mean, std = (torch.as_tensor(o).view(1, -1, 1, 1) for o in (images.mean, images.std))
    def change(x): m, s = mean.to(x.device), std.to(x.device); return (views((x*s + m).clamp(0, 1)) - m)/s
    return change


def planned(checkpoint, measure, **asked):
    "What `measure()` finds by timing; beside a checkpoint it is kept with what was `asked`, for a run that goes on must not plan anew, and no other run may go on with it"
    kept, asked = checkpoint and checkpoint.with_name(checkpoint.name + '.plan.json'), _plain(asked)
    if kept and kept.exists() and checkpoint.exists():
        before = json.loads(kept.read_text())
        if before['asked'] != asked: raise SystemExit(f"--checkpoint: {checkpoint} is of a run of {before['asked']}, got {asked}")
        return before['plan']
    plan = measure()
    if kept: kept.write_text(json.dumps(dict(asked=asked, plan=plan)))
    return plan


class Curve:
    "Callback: neighbours of 2,000 of the images that judge among 10,000 training images (`whole`: of all among all), at most `points` times in a run; its own time does not count"
    def __init__(self, tr, te, epochs, points=10, whole=False): self.sets, self.epochs, self.every = (tr, te) if whole else (tr[:10_000], te[:2000]), epochs, max(1, epochs//points)
    def __call__(self, run, rec, history):
        e = rec['epoch'] + 1
        if not e % self.every or e == self.epochs: rec['curve'] = self.judge(run.encoder if hasattr(run, 'encoder') else run[0])          # (`supervised` gives the encoder and its head)
    def judge(self, encoder):
        (h, y), (ht, yt) = ((embed(encoder, o), o.labels) for o in self.sets)
        return round(100*knn_accuracy(h, y, ht, yt), 2)
    @staticmethod
    def of(history):
        "[[epochs, seconds of training, loss, kNN], …] and the time of the epochs"
        t, got = 0., []
        for r in history:
            t += sum(v for k, v in r.items() if k.startswith('seconds') and k not in ('seconds_watch', 'seconds_knn'))
            if 'curve' in r: got.append([r['epoch'] + 1, round(t, 1), round(r['loss'], 4), r['curve']])
        return got, t


def simclr(tr, te, minutes, seed, own, checkpoint=None, epochs=None, watch=True):
    "Our SimCLR: (encoder, what was done). Several sizes in a list share the epochs, the first one first"
    s = recipe | own; sizes = s.pop('size'); where = {k: s.pop(k) for k in ('encoder', 'width', 'stem') if k in s}; sizes = sizes if isinstance(sizes, list) else [sizes]; crop, jitter = s.pop('crop'), s.pop('jitter')
    def new(epochs, images, sizes=sizes, callbacks=(), **kwargs):
        net, views = network(seed, **where), recipe_views(crop, jitter, sizes[0])
        def grow(run, rec, history): views.ops[0].size = (sizes[min(len(sizes) - 1, (rec['epoch'] + 1)*len(sizes)//epochs)],)*2
        return SimCLR.small(net, epochs=epochs, watch_every=None, views=views, random_state=seed, progress=False, **s).fit(images, callbacks=(*callbacks, grow), **kwargs)
    b = s['batch_size']; n = len(tr)//b
    def timed(steps, size): t = time.perf_counter(); new(1, tr[torch.arange(steps*b) % len(tr)], [size]); return (time.perf_counter() - t)/steps
    def measure():
        step = sum((timed(5, z), median(timed(10, z) for _ in range(3)))[1] for z in sizes)/len(sizes)      # the first run of anything is slow
        fit = minutes*60/(step*n)
        return dict(step=step, epochs=max(1, int(fit) if watch else math.ceil(fit)), fit=fit)
    plan = dict(epochs=epochs) if epochs else planned(checkpoint, measure, minutes=minutes, seed=seed, images=len(tr), settings=recipe | own); epochs = plan['epochs']
    if not watch: tr = tr[:int(len(tr)*min(1, plan['fit']/epochs))]; n = len(tr)//b            # a trial fills its time: one epoch more, of fewer images
    made = new(epochs, tr, callbacks=[Curve(tr, te, epochs)]*watch, checkpoint=checkpoint, resume=checkpoint is not None); curve, took = Curve.of(made.history_)
    return made.encoder, dict(epochs=epochs, seconds=round(took, 1), ms_per_step=round(1e3*plan.get('step', took/epochs/n), 1), images_per_second=round(epochs*n*b/took), loss=round(made.history_[-1]['loss'], 4), curve=curve, settings=recipe | own)


def deepcluster(tr, te, minutes, seed, own, checkpoint=None, epochs=None, watch=True):
    "Our DeepCluster: (encoder, what was done). Rounds of equal length; the time of one epoch and one clustering is measured first"
    s = clusters | own; where = {k: s.pop(k) for k in ('encoder', 'width', 'stem') if k in s}; rounds, views, changes = s.pop('rounds'), s.pop('views'), recipe_views(s.pop('crop'), s.pop('jitter'), s.pop('size'))
    if views: s['augment'] = on_normalised(changes, tr)
    def new(epochs, recluster, images, **kwargs):
        return DeepCluster.small(network(seed, **where), epochs=epochs, recluster=recluster, random_state=seed, progress=False, **s).fit(images, **kwargs)
    def measure():
        new(1, 1, tr[:2*s['n_clusters'] + 200])                                             # the first run of anything is slow
        t = time.perf_counter(); new(1, 1, tr); one = time.perf_counter() - t; t = time.perf_counter(); new(2, 2, tr); two = time.perf_counter() - t
        epoch, clustering = max(.1, two - one), max(.1, 2*one - two)
        fit = max(.1, (minutes*60 - rounds*clustering)/rounds/epoch)
        return dict(epoch=epoch, clustering=clustering, every=max(1, round(fit)) if watch else math.ceil(fit), fit=fit)
    if epochs and epochs % rounds: raise ValueError(f'epochs must be a multiple of the rounds ({rounds}), got {epochs}')
    plan = dict(every=epochs//rounds) if epochs else planned(checkpoint, measure, minutes=minutes, seed=seed, images=len(tr), settings=clusters | own); every = plan['every']
    if not watch: tr = tr[:int(len(tr)*min(1, plan['fit']/every))]
    made = new(every*rounds, every, tr, callbacks=[Curve(tr, te, every*rounds)]*watch, checkpoint=checkpoint, resume=checkpoint is not None); curve, took = Curve.of(made.history_)
    return made.encoder, dict(epochs=every*rounds, recluster=every, seconds=round(took, 1), **{f'{k}_seconds': round(plan[k], 1) for k in ('epoch', 'clustering') if k in plan}, curve=curve, history=[{k: h[k] for k in ('epoch', 'nmi_previous', 'nmi_true', 'ari_true', 'evenness', 'smallest', 'largest') if k in h} for h in made.history_[::every]], settings=clusters | own)


def with_labels(tr, te, minutes, seed, own):
    "The same network trained with labels: (encoder, what was done)"
    s = labels | own; width = s.pop('width')
    def new(epochs, images, callbacks=()):
        with fork_seed(seed): net = ConvNet(tuple(width))
        return net, supervised(net, images, epochs=epochs, seed=seed, progress=False, callbacks=callbacks, **s)
    few = tr[:20*s['batch_size']]; new(1, few); epoch = median(sum(h['seconds'] for h in new(1, few)[1]) for _ in range(3))*len(tr)/len(few); epochs = max(1, int(minutes*60/epoch))
    net, history = new(epochs, tr, [Curve(tr, te, epochs)]); curve, took = Curve.of(history)
    return net.eval(), dict(epochs=epochs, seconds=round(took, 1), images_per_second=round(epochs*len(tr)/took), loss=round(history[-1]['loss'], 4), curve=curve, settings=s | dict(width=width))


def lightly(tr, te, minutes, seed, own, at=(), look=None):
    "lightly's SimCLR as its own example has it (transform without blur, the colours of full `strength`, ResNet-18, batches of 256, SGD with 0.06, temperature 0.5), until the time is over; `look` sees the network and what was done after the minutes `at`, while the clock stands"
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead
    from lightly.transforms import SimCLRTransform
    from torchvision.transforms.functional import to_pil_image
    s = example | own; torch.manual_seed(seed)
    net = resnet(18, 32, small=s['stem'] == 'cifar'); head = SimCLRProjectionHead(512, 512, 128); loss_fn = NTXentLoss(s['temperature'])
    opt = torch.optim.SGD([*net.parameters(), *head.parameters()], lr=s['lr'], momentum=.9, weight_decay=5e-4)
    view = SimCLRTransform(input_size=32, gaussian_blur=0., cj_strength=s['strength'])
    class Pairs(torch.utils.data.Dataset):
        def __len__(self): return len(tr)
        def __getitem__(self, i): return view(to_pil_image(tr.images[i]))
    loader = torch.utils.data.DataLoader(Pairs(), s['batch_size'], shuffle=True, drop_last=True, num_workers=s['workers'], persistent_workers=s['workers'] > 0)
    net.to(memory_format=torch.channels_last).train(); t, steps, losses, at = time.perf_counter(), 0, [], sorted(at)
    def done(took): return dict(epochs=round(steps*s['batch_size']/len(tr), 2), seconds=round(took, 1), ms_per_step=round(1e3*took/steps, 1), images_per_second=round(steps*s['batch_size']/took), loss=round(sum(losses[-20:])/len(losses[-20:]), 4), settings=s)
    while time.perf_counter() - t < minutes*60:
        for a, b in loader:
            with torch.autocast('cpu', torch.bfloat16, enabled=s['precision'] == 'bfloat16'): z = [head(net(o.contiguous(memory_format=torch.channels_last)).flatten(1)) for o in (a, b)]
            loss = loss_fn(*(o.float() for o in z)); opt.zero_grad(); loss.backward(); opt.step(); steps += 1; losses.append(loss.item())
            took = time.perf_counter() - t
            if took >= minutes*60: break
            if at and took >= at[0]*60: look(net.eval(), at.pop(0), done(took)); net.train(); t = time.perf_counter() - took
    return net.eval(), done(took)


def about(a, minutes):
    "What every row begins with"
    return dict(method=a.method, minutes=minutes, seed=a.seed, judged_on='a tenth of the training set, held out' if a.validate else 'test set')


def as_trained(method, tr, te):
    "The sets as the method's views are normalised, by which its network must be judged: ours by the training set's mean and standard deviation, lightly's by ImageNet's"
    if method != 'lightly': return tr, te
    from lightly.transforms.utils import IMAGENET_NORMALIZE
    other = ImageSet(tr.images[:1], **IMAGENET_NORMALIZE); return tuple(o.with_normalization(other) for o in (tr, te))


def trained(a, own, tr, te):
    "One run and its judgement: (encoder, row)"
    base, more, sets = about(a, a.minutes), {}, as_trained(a.method, tr, te)
    if a.method == 'lightly' and a.at: more = dict(at=a.at, look=lambda net, minutes, done: keep(about(a, minutes) | dict(run_minutes=a.minutes) | done | judge(net, *sets, not a.no_linear), a))
    if a.method in ('simclr', 'deepcluster'): more = dict(checkpoint=a.checkpoint, epochs=a.epochs, watch=not a.search)
    encoder, done = dict(simclr=simclr, deepcluster=deepcluster, supervised=with_labels, lightly=lightly)[a.method](tr, te, a.minutes, a.seed, own, **more)
    if a.epochs: base['minutes'] = round(done['seconds']/60, 1)              # what the epochs took
    return encoder, base | done | judge(encoder, *sets, not a.no_linear)


def untrained(a, tr, te):
    "Rows of raw pixels and of the networks before training"
    new = {'raw pixels': nn.Flatten, 'ConvNet, untrained': lambda: ConvNet(tuple(recipe['width'])), 'ConvNet twice as wide, untrained': lambda: ConvNet((64, 128, 256, 512)), 'ResNet-18, CIFAR stem, untrained': lambda: resnet(18, 32), 'ResNet-18, ImageNet stem, untrained': lambda: resnet(18, 32, small=False)}; nets = {}
    for k, make in new.items():
        with fork_seed(a.seed): nets[k] = make()
    return [about(a, 0) | dict(representation=n, curve=[[0, 0., None, Curve(tr, te, 1).judge(m)]]) | judge(m, tr, te, not a.no_linear) for n, m in nets.items()]


MEASURE = 'kNN: cosine after centring, k = 10 with equal votes, and k = 200 with votes weighted by exp(s/0.1); linear: LinearProbe on standardised features; percent'


def kept(results):
    "(name, folder, what is stored there) of --results"
    name, folder = (results.stem, results.parent) if results.suffix == '.json' else ('cifar10_minutes', results)
    return name, folder, load_results(name, folder) if (folder/f'{name}.json').exists() else dict(rows=[], settings=dict(command='benchmarks/minutes.py', data='CIFAR-10 (lossy files)', measure=MEASURE), environment=None)


def what(r):
    "Which run a row is of, whatever came out"
    return _plain([*(r.get(k) for k in ('method', 'minutes', 'run_minutes', 'seed', 'judged_on', 'representation')), DEFAULTS[r['method']] | r.get('settings', {})])


def keep(row, a):
    "Print a row, and add it to the files that were asked for, in place of an earlier one of the same run on the same processor"
    r = _plain(row); print(json.dumps(r), flush=True); r = r | dict(environment=environment())
    if a.method == 'lightly': r['environment']['versions']['lightly'] = version('lightly')
    if a.results:
        name, folder, stored = kept(a.results); old = [dict(environment=stored['environment']) | o for o in stored['rows']]
        save_results(name, [o for o in old if what(o) != what(r) or o['environment']['cpu'] != r['environment']['cpu']] + [r], folder, **stored['settings'])
    if a.json:
        with open(a.json, 'a', encoding='utf-8') as f: f.write(json.dumps(r) + '\n')


def main(words=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('method', choices=(*DEFAULTS, 'all')); p.add_argument('--minutes', type=float, default=5.); p.add_argument('--seed', type=int, default=0)
    p.add_argument('--validate', action='store_true', help='judge on images held out of the training set: for choices'); p.add_argument('--set', type=json.loads, default={}, help='settings that differ, as JSON'); p.add_argument('--threads', type=int)
    p.add_argument('--search', action='store_true', help='of simclr and deepcluster: every change of `searches`, judged as with --validate; what --results has already is left out')
    p.add_argument('--stem', choices=('cifar', 'default')); p.add_argument('--precision', choices=('bfloat16', 'float32')); p.add_argument('--at', type=float, nargs='+', metavar='MINUTES', help='of lightly, whose learning rate is constant: judge the same run after these minutes, too'); p.add_argument('--no-linear', action='store_true'); p.add_argument('--images', type=int, help='only so many, for a trial'); p.add_argument('--json', type=Path, help='file to which a line is added'); p.add_argument('--new', action='store_true', help='do nothing if --results has the run already')
    p.add_argument('--checkpoint', type=Path, help='of simclr and deepcluster: written after every epoch; the same command goes on from there'); p.add_argument('--save', type=Path, help='of simclr and deepcluster, for the ConvNet: file for the encoder, in half precision')
    p.add_argument('--epochs', type=int, help='of simclr and deepcluster: train so many, in place of --minutes'); p.add_argument('--results', type=Path, help='results to which the rows are added: a file, or the folder of cifar10_minutes.json')
    a = p.parse_args(words); own = a.set | {k: v for k, v in dict(stem=a.stem, precision=a.precision).items() if v}
    if a.method not in ('simclr', 'deepcluster') and (a.save or a.checkpoint or a.epochs or a.search): p.error(f'--save, --checkpoint, --epochs and --search are for simclr and deepcluster, got {a.method}')
    if a.at and (a.method != 'lightly' or max(a.at) >= a.minutes): p.error(f'--at is for lightly, and for less than --minutes, got {a.method} and {a.at}')
    if a.search and (a.save or a.checkpoint or a.epochs or not a.results): p.error('--search needs --results, and takes none of --save, --checkpoint and --epochs')
    if a.save and own.get('encoder', 'convnet') != 'convnet': p.error(f"--save is for the ConvNet, got {own['encoder']}")
    if a.images and a.results: p.error('--results: a trial with few images is no result')
    if a.checkpoint and isinstance(own.get('size'), list): p.error('--checkpoint: a run with several sizes starts anew')
    if a.threads: torch.set_num_threads(a.threads)
    if a.method == 'all':
        if not a.results or a.results.suffix or vars(a) != vars(p.parse_args(['all', '--results', str(a.results)])): p.error('all needs --results FOLDER, and nothing else: each of its runs has settings of its own')
        for name, runs in RUNS.items():
            for run in runs.splitlines(): main([*shlex.split(run), '--results', str(a.results/f'{name}.json'), '--new'])
        return
    if a.new and a.results:
        rows = kept(a.results)[2]['rows']
        if any(r['method'] == 'baselines' for r in rows) if a.method == 'baselines' else what(about(a, a.minutes) | dict(settings=own)) in map(what, rows): return print(f'there already: {words}')
    a.validate |= a.search; tr, te = images(a.validate, a.images)
    if a.method == 'baselines':
        for row in untrained(a, tr, te): keep(row, a)
    elif a.search:
        first, *changes = searches[a.method]; done = [what(r) for r in kept(a.results)[2]['rows']]
        for change in ({}, *changes):
            s = first | own | change
            if what(about(a, a.minutes) | dict(settings=s)) not in done: keep(trained(a, s, tr, te)[1], a)
    else:
        encoder, row = trained(a, own, tr, te); keep(row, a)
        if a.save:
            made = build_encoder('convnet', 32, width=tuple(row['settings']['width'])); made.net.load_state_dict(encoder.state_dict())
            env = environment(); save_encoder(made, a.save, tr, half=True, method=a.method, data='CIFAR-10, lossy files', minutes=row['minutes'], epochs=row['epochs'], seed=a.seed, cpu=env['cpu'], torch=env['versions']['torch'], date=env['date'], settings=json.dumps(row['settings']), **{k: row[k] for k in ('knn', 'linear') if k in row})


if __name__ == '__main__': main()

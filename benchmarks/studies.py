#!/usr/bin/env python
"""Many short runs that each answer a question, stated with a prediction before they were made.

    python benchmarks/studies.py views temperature --jobs 2 --json runs.jsonl     # a stopped run goes on: what is in the file is not run again
    python benchmarks/studies.py deepcluster sheet --json runs.jsonl
    python benchmarks/studies.py --list                                           # the questions and the predictions

`views`, `jitter`, `temperature`, `batch`, `head`: SimCLR on 10,000 images of CIFAR-10, 8 epochs, judged on 5,000 other images of its training set. `deepcluster`: the small AlexNet on the same images, 30 epochs, with SimCLR's views as its augmentation unless it says shifts; `again`, `clusters`, `dropout`: the same on three seeds, judged on fc7 too.
`sheet`: AlexNet on ten classes of ImageNet at 224 pixels, every convolution judged; `longer`: the same for more epochs; `along`: the same again, judged along the way; `no_dropout`: the same without dropout; `choose`, `choose_epochs`: settings compared on 300 of the training photographs, `chosen`: what won, on all of them. Each run has one thread, so that the number of jobs changes no result.
"""
import argparse, base64, inspect, itertools, json, sys, time, warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch
import torch.nn.functional as F

root = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(root), str(root/'benchmarks')]
from dl4ia_nbdev.alexnet import alexnet
from dl4ia_nbdev.data import ImageSet, dataset
from dl4ia_nbdev.deepcluster import DeepCluster
from dl4ia_nbdev.encoders import ConvNet, Encoder
from dl4ia_nbdev.evaluate import embed, feature_std, knn_accuracy, linear_probe, mlp_probe, rankme, supervised
from dl4ia_nbdev.report import _plain, environment, load_results, save_results
from dl4ia_nbdev.simclr import SimCLR
from dl4ia_nbdev.train import fork_seed
from dl4ia_nbdev.views import Augment, ColorJitter, GaussianBlur, RandomGrayscale, RandomHorizontalFlip, RandomResizedCrop, RandomSolarize, simclr_imagenet
from minutes import Curve, images, on_normalised, recipe_views

QUESTIONS = dict(
    views=('Which augmentations must be composed (Chen et al. 2020, Fig. 5)?', 'One alone teaches little; cropping with colours is the best pair by several points, and every pair without cropping stays behind every pair with it.'),
    jitter=('How strongly should colours be distorted?', 'None loses five points or more; from a quarter to one the strength matters little for so small a network.'),
    temperature=('Does the temperature with the lowest training loss give the best features?', 'No: the loss falls with the temperature as such, down to the smallest; neighbours are best in the middle, near 0.1.'),
    batch=('Do small batches hurt, when each run sees as many images?', 'At so few epochs small batches win, for they take more steps; the number of negatives matters less than that.'),
    head=('How deep should the projection head be, and is h better than z?', 'Without a head h is worst; two layers do; h beats z by the linear probe, by neighbours z may be ahead in so short a run.'),
    deepcluster=('How does NMI with the clusters before, with labels, and the size of clusters go with time and with k; does Sobel matter?', 'NMI with the clusters before rises from round to round and falls with k beyond some hundred; neighbours are best where k is ten times the number of classes or more; without Sobel clusters follow colour: NMI with labels is lower, first-layer filters are blobs of colour.'),
    again=('On three seeds, and on the layer that is clustered as well: what is left of what one seed said about DeepCluster, Sobel and SimCLR?', 'By neighbours DeepCluster leaves conv5 within two points of the untrained network, and SimCLR is ten points or more ahead there, on every seed. On fc7 DeepCluster gains on the untrained network and stays behind a SimCLR whose head stands on fc7. The best of four looks is at most a point above the last.'),
    clusters=('On three seeds: which number of clusters gives the best neighbours?', 'On conv5 it makes no difference beyond two points; on fc7 100 or 300 clusters are best on every seed, and 10 worst.'),
    dropout=('Is it the dropout before fc6 and fc7 that costs SimCLR so much when its head stands on fc7, and does DeepCluster do better without?', 'Without it SimCLR makes up half or more of what it is behind with its head on conv5, on both layers; DeepCluster gains a point or two.'),
    longer=('On the same photographs, do three times the epochs pay?', 'SimCLR gains some points at conv4 and conv5 by both judges, and is then ahead of the untrained network by neighbours and level with it by the linear layer; DeepCluster gains at conv1 and conv2 and goes on losing where it is deep.'),
    along=('On the same photographs, is the last epoch the best?', 'By neighbours on conv5 it is for SimCLR and for labels; DeepCluster is best at the first look, after five epochs, and falls from there.'),
    no_dropout=('On the same photographs, what do twenty epochs without labels teach without the dropout before fc6 and fc7?', 'SimCLR, whose head stands on fc7, gains three points or more at conv5 by both judges and is then ahead of the untrained network by neighbours; DeepCluster loses less than it did at conv4 and conv5, and stays behind the untrained network by the linear layer.'),
    choose=('Which settings are best on the sheet\'s photographs, judged by 300 of the 1,500 training photographs that the runs do not see?', 'Without dropout SimCLR and DeepCluster are better, and labels no worse; three times the learning rate helps SimCLR, for its steps are few; DeepCluster is better on colours than behind Sobel.'),
    choose_epochs=('Do the 300 held-out training photographs choose twenty epochs and crops too, which were set after a look at the photographs that judge?', 'Yes: after six epochs SimCLR and labels are five points or more behind twenty on the mean of both judges at conv5, and DeepCluster a point or two; with shifts in place of crops DeepCluster is two points or more behind.'),
    chosen=('With the settings chosen on held-out training photographs, what do twenty epochs teach on all 1,500?', 'By neighbours at conv5 SimCLR is five points or more ahead of the untrained network and DeepCluster two or more, each with its own input; by the linear layer SimCLR is level with it and DeepCluster behind.'),
    sheet=('On the exercise sheet\'s data, 1,500 photographs at 224 pixels, what does each convolution of AlexNet know?', 'Random features fall from conv1 to conv5; trained ones rise to conv3 or conv4; with so few images SimCLR and DeepCluster gain some points on random and stay far below what labels give ImageNet networks; supervised leads, by less than on large data.'),
)
mini = dict(images=10_000, epochs=8, size=24, crop=.2, jitter=.5, grey=.2, lr=4e-3, batch_size=128, temperature=.1, projection_head=2)
views = dict(crop=lambda: RandomResizedCrop(24, scale=(.2, 1.)), flip=lambda: RandomHorizontalFlip(), colour=lambda: ColorJitter.strength(.5), grey=lambda: RandomGrayscale(.5), blur=lambda: GaussianBlur(p=.5), solarise=lambda: RandomSolarize(p=.5))
whole = lambda size: RandomResizedCrop(size, scale=(1., 1.), ratio=(1., 1.))


def plan(study):
    "The runs of a study: settings that differ, and a seed"
    two = lambda **kw: [kw | dict(seed=s) for s in (0, 1)]
    if study == 'views': return [dict(pair=list(p), seed=0) for p in itertools.combinations_with_replacement(views, 2)]
    if study == 'base': return two()                                          # what the next four have in common
    if study == 'baselines': return [dict(method=m, seed=0) for m in ('raw pixels', 'untrained', 'supervised')]
    if study == 'jitter': return [r for s in (0., .25, 1.) for r in two(jitter=s)]
    if study == 'temperature': return [r for t in (.02, .05, .2, .5, 1.) for r in two(temperature=t)]
    if study == 'batch': return [r for b in (32, 64, 256, 512) for r in two(batch_size=b, lr=4e-3*(b/128)**.5)]
    if study == 'head': return [r for l in (0, 1, 3) for r in two(projection_head=l)]
    if study == 'deepcluster': return [dict(method='deepcluster', k=k, sobel=s, augment=v, seed=0) for k, s, v in ((100, True, 'views'), (100, False, 'views'), (100, True, 'shifts'), (1000, True, 'views'), (300, True, 'views'), (30, True, 'views'), (10, True, 'views'))] + [dict(method=m, sobel=s, seed=0) for m in ('simclr', 'untrained', 'supervised') for s in (True, False)] + [dict(method='raw pixels', seed=0)]
    if study == 'again': return [r | dict(seed=s) for s in range(3) for r in (*(dict(method='deepcluster', k=100, sobel=b, augment=v) for b, v in ((True, 'views'), (False, 'views'), (True, 'shifts'))), *(dict(method=m, sobel=b, layer='conv5') for m in ('untrained', 'supervised') for b in (True, False)), *(dict(method='simclr', sobel=b, layer=l, epochs=16) for l in ('conv5', 'fc7') for b in (True, False)))]          # (16: as many as DeepCluster's seconds allowed on an idle machine in `deepcluster`; seconds on a busy one are worth little)
    if study == 'clusters': return [dict(method='deepcluster', k=k, sobel=True, augment='views', seed=s) for s in range(3) for k in (10, 30, 300, 1000)]
    if study == 'dropout': return [r | dict(sobel=False, dropout=0., seed=s) for r in (dict(method='simclr', layer='fc7', epochs=16), dict(method='deepcluster', k=100, augment='views')) for s in range(3)]
    if study == 'longer': return [dict(method=m, epochs=60, seed=s) for m, n in (('simclr', 2), ('deepcluster', 2), ('supervised', 1)) for s in range(n)]
    if study == 'along': return [dict(method=m, epochs=20, seed=s) for s in range(3) for m in ('simclr', 'deepcluster', 'supervised')]
    if study == 'no_dropout': return [dict(method=m, epochs=20, dropout=0., seed=s) for s in range(3) for m in ('simclr', 'deepcluster')]
    if study == 'choose': return [dict(method='untrained', sobel=b, seed=0) for b in (False, True)] + [dict(method=m, epochs=20, **s, seed=0) for m, s in (*(('simclr', dict(dropout=d, lr=lr)) for d, lr in ((.5, 1e-3), (0., 1e-3), (0., 3e-3))), *(('deepcluster', dict(dropout=d, sobel=b)) for d, b in ((.5, True), (0., True), (0., False))), *(('supervised', dict(dropout=d)) for d in (.5, 0.)))]
    if study == 'choose_epochs': return [dict(method='raw pixels', seed=0)] + [r | dict(dropout=0., seed=0) for r in (dict(method='deepcluster', epochs=20, sobel=True, augment='shifts'), dict(method='simclr', epochs=6, lr=1e-3), dict(method='deepcluster', epochs=6, sobel=True), dict(method='supervised', epochs=6))]
    if study == 'chosen': return [dict(method=m, epochs=20, **o, seed=s) for m, o in (('simclr', dict(dropout=0., lr=1e-3)), ('deepcluster', dict(dropout=0., sobel=True)), ('supervised', dict(dropout=0.))) for s in range(3)]      # (what `choose` found best at conv5, by the mean of both judges)
    if study == 'sheet': return [dict(method='raw pixels', seed=0)] + [r for s in range(3) for r in (*(dict(method=m, epochs=20, seed=s) for m in ('simclr', 'deepcluster', 'supervised')), *(dict(method='untrained', sobel=b, seed=s) for b in (False, True)))]


def measures(h, y, ht, yt, name=''):
    "Neighbours and the linear probe, in percent"
    return {f'knn{name}': 100*knn_accuracy(h, y, ht, yt, k=10), f'linear{name}': 100*linear_probe(h, y, ht, yt)}


def some(quick):
    "Images to learn from and to judge with, both of the training set, normalised alike"
    tr, te = images(True, 2000 if quick else None); tr = tr[:300 if quick else mini['images']]; return tr, te.with_normalization(tr)          # (2,000: so that decoding does not take a trial's time)


def contrast(r, quick):
    "One short SimCLR"
    tr, te = some(quick); s = mini | {k: v for k, v in r.items() if k not in ('study', 'pair')} | (dict(epochs=2) if quick else {})
    if 'pair' in r: changes = Augment(*([] if 'crop' in r['pair'] else [whole(24)]), *(views[v]() for v in dict.fromkeys(r['pair'])))
    else: changes = recipe_views(s['crop'], s['jitter'], s['size'])
    with fork_seed(s['seed']): net = ConvNet()
    run = SimCLR.small(net, views=changes, epochs=s['epochs'], batch_size=s['batch_size'], lr=s['lr'], temperature=s['temperature'], projection_head=s['projection_head'], random_state=s['seed'], watch_every=None, progress=False).fit(tr, callbacks=[Curve(tr, te, s['epochs'], whole=True)])
    curve, took = Curve.of(run.history_); (h, ht), (z, zt) = ([f(o) for o in (tr, te)] for f in (run.transform, run.project))
    return dict(seconds=took, curve=curve, loss=run.history_[-1]['loss'], collapsed=run.history_[-1]['collapsed'], std_z=feature_std(z), rank_h=rankme(h)) | measures(h, tr.labels, ht, te.labels) | measures(z, tr.labels, zt, te.labels, '_z')


def baseline(r, quick):
    "Raw pixels, the same network untrained, or trained with labels for as many epochs"
    tr, te = some(quick)
    if r['method'] == 'raw pixels': net = torch.nn.Flatten()
    else:
        with fork_seed(r['seed']): net = ConvNet()
    epochs = 2 if quick else mini['epochs']; curve, took = Curve.of(supervised(net, tr, epochs=epochs, seed=r['seed'], progress=False, callbacks=[Curve(tr, te, epochs, whole=True)]) if r['method'] == 'supervised' else [])
    h, ht = embed(net, tr), embed(net, te)
    return dict(seconds=took, curve=curve) | measures(h, tr.labels, ht, te.labels)


def filters(net):
    "The first 48 kernels of the first layer as text: shape, and float16 numbers in base64"
    w = net.conv1[0].weight[:48].detach().half().cpu(); return dict(shape=list(w.shape), float16=base64.b64encode(w.numpy().tobytes()).decode())


def on_small_images(encoder, tr, r, epochs, every=3, **kw):
    "SimCLR or DeepCluster as `small_alexnet` trains them"
    kw |= dict(epochs=epochs, random_state=r['seed'], progress=False)
    if r['method'] == 'simclr': return SimCLR.small(encoder, views=recipe_views(.2, .5, 32), watch_every=None, **kw)
    return DeepCluster.small(encoder, n_clusters=min(r['k'], len(tr)//2), recluster=every, **({} if r['augment'] == 'shifts' else dict(augment=on_normalised(recipe_views(.2, .5, 32), tr))), **kw)


def small_alexnet(r, quick, along=False):
    "DeepCluster, or SimCLR for as long (or so many epochs), or labels for as many epochs, or nothing, on the small AlexNet; judged on conv5, or `along` the way and on fc7 too"
    tr, te = some(quick); took, done = 0., {}
    if r['method'] == 'raw pixels': return baseline(r, quick)
    def new(): return alexnet('small', None, seed=r['seed'], sobel=r['sobel'], dropout=r.get('dropout', .5))
    net = new(); epochs, every = (2, 1) if quick else (30, 3); enc = Encoder(net, dict(kind='alexnet', size=32, channels=3), r.get('layer', 'conv5')); judged = ['conv5', 'fc7']
    def watch(epochs): return Layers(tr, te, epochs, judged) if along else Curve(tr, te, epochs)
    t = time.perf_counter()
    if r['method'] == 'deepcluster':
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', UserWarning)                      # few clusters for ten classes: that is a question here
            run = on_small_images(net, tr, r, epochs, every, knn_every=None if along else every).fit(tr, callbacks=[watch(epochs)] if along else ())
        curve, took = Curve.of(run.history_) if along else ([100*h['knn'] for h in run.history_ if 'knn' in h], time.perf_counter() - t); keys = ('epoch', 'nmi_previous', 'nmi_true', 'ari_true', 'evenness', 'smallest', 'largest', 'changed')
        done = dict(rounds=[{k: h[k] for k in keys if h.get(k) is not None} for h in run.history_ if h['reclustered']], curve=curve, losses=[h['loss'] for h in run.history_], sizes=torch.bincount(run.labels_, minlength=run.n_clusters).sort(descending=True).values.tolist())
    if r['method'] == 'simclr':
        def simclr(e, o, callbacks=()): return on_small_images(enc, o, r, e).fit(o, callbacks=callbacks)
        e = r.get('epochs')
        if e is None:
            n = 5*128 if not quick else len(tr); simclr(1, tr[:n]); t = time.perf_counter(); simclr(1, tr[:n]); e = max(1, round(r.get('seconds', 1.)*n/len(tr)/(time.perf_counter() - t)))
            net.load_state_dict(new().state_dict())      # the trial has trained it
        run = simclr(e, tr, [watch(e)]); curve, took = Curve.of(run.history_); done = dict(epochs=e, losses=[h['loss'] for h in run.history_], curve=curve)
    if r['method'] == 'supervised': curve, took = Curve.of(supervised(enc, tr, epochs=epochs, seed=r['seed'], progress=False, callbacks=[watch(epochs)])); done = dict(epochs=epochs, curve=curve)
    if along:
        h, ht = (embed(net, o, judged) for o in (tr, te))
        return {k: done[k][-1:] if k == 'rounds' else done[k] for k in ('epochs', 'curve', 'rounds') if k in done} | dict(seconds=took, layers={l: measures(h[l], tr.labels, ht[l], te.labels) for l in judged})
    h, ht = (embed(net, o, 'conv5') for o in (tr, te))
    return done | dict(seconds=took) | (dict(filters=filters(net)) if r.get('k', 100) == 100 and r['method'] != 'supervised' else {}) | measures(h, tr.labels, ht, te.labels)


class Layers(Curve):
    "Callback: neighbours after each of some layers, four times in a run"
    def __init__(self, tr, te, epochs, layers, *how, **more): super().__init__(tr, te, epochs, 4, whole=True); self.layers, self.how, self.more = layers, how, more
    def judge(self, encoder):
        a, b = (embed(encoder, o, self.layers, *self.how, **self.more) for o in self.sets)
        return {l: round(100*knn_accuracy(a[l], self.sets[0].labels, b[l], self.sets[1].labels, k=10), 2) for l in self.layers}


def on_photographs(net, tr, r, quick=False):
    "SimCLR or DeepCluster as `sheet` trains them"
    kw = dict(random_state=r['seed'], progress=False, epochs=1 if quick else r['epochs'])
    if r['method'] == 'simclr': return SimCLR.small(net, views=simclr_imagenet(224), batch_size=64, lr=r.get('lr', 1e-3), watch_every=None, **kw)
    return DeepCluster.small(net, n_clusters=25 if quick else 100, recluster=2, batch_size=32, **({} if r.get('augment') == 'shifts' else dict(augment=on_normalised(Augment(RandomResizedCrop(224), RandomHorizontalFlip()), tr))), **kw)


def sheet(r, quick, looks=False, end=True, held_out=False):
    "AlexNet with batch norm at 224 pixels, 1,500 photographs: kNN and the linear probe after every convolution at the `end`, neighbours in four `looks` on the way; `held_out`: judged by the last fifth of the training photographs, which is not trained on"
    tr = dataset('imagenette', 'train', n=60 if quick else 1500); n = len(tr)*4//5
    tr, te = (tr[:n], tr[n:]) if held_out else (tr, dataset('imagenette', 'test', n=60 if quick else 400))
    te = te.with_normalization(tr); epochs = 1 if quick else r.get('epochs', 0); took = 0.
    if r['method'] == 'raw pixels':
        a, b = (F.interpolate(o.images.float()/255, (32, 32), mode='area').flatten(1) for o in (tr, te))
        return dict(seconds=0., layers=dict(pixels=measures(a, tr.labels, b, te.labels)), mlp=100*mlp_probe(a, tr.labels, b, te.labels, seed=r['seed']))
    net = alexnet('deepcluster', None, seed=r['seed'], sobel=r.get('sobel', r['method'] == 'deepcluster'), hidden=1024, dropout=r.get('dropout', .5)); layers = [n for n in net.tap_names if n.startswith('conv')]
    watch, t, history = [Layers(tr, te, epochs, layers, 'paper', batch_size=64)] if looks else [], time.perf_counter(), []
    if r['method'] == 'supervised': history = supervised(net, tr, epochs=epochs, batch_size=32, lr=1e-3, seed=r['seed'], progress=False, callbacks=watch)
    elif r['method'] != 'untrained': history = on_photographs(net, tr, r, quick).fit(tr, callbacks=watch).history_
    if history: took = time.perf_counter() - t
    way = {}
    if looks: way['curve'], took = Curve.of(history)                         # (the looks cost no time of training)
    if not end: return dict(seconds=took) | way
    a, b = (embed(net, o, layers, 'paper', batch_size=64) for o in (tr, te))
    got = {l: measures(a[l], tr.labels, b[l], te.labels) | dict(features=a[l].shape[1]) for l in layers}
    return dict(seconds=took) | way | dict(layers=got, mlp=100*mlp_probe(a['conv5'], tr.labels, b['conv5'], te.labels, seed=r['seed']))


SETTINGS = ('pair', 'jitter', 'temperature', 'batch_size', 'projection_head', 'method', 'k', 'sobel', 'augment', 'layer', 'dropout', 'lr', 'epochs')          # what may differ between runs of a study
RESULTS = dict(ablations=('baselines', 'base', 'views', 'jitter', 'temperature', 'batch', 'head'), deepcluster_cifar10=('deepcluster',), deepcluster_seeds=('again', 'clusters', 'dropout', 'no_dropout'), alexnet_imagenette=('sheet', 'longer', 'along'), alexnet_chosen=('choose', 'choose_epochs', 'chosen'))


def short(v):
    "Four digits after the point"
    return round(v, 4) if isinstance(v, float) else [short(o) for o in v] if isinstance(v, list) else {k: short(o) for k, o in v.items()} if isinstance(v, dict) else v


def as_made(name):
    "What the methods of the file `name` are set to, where a row does not say otherwise"
    labels = {k: v.default for k, v in inspect.signature(supervised).parameters.items() if k in ('lr', 'weight_decay', 'batch_size', 'precision')} | dict(augment='shifts, mirrored')
    if name == 'ablations': return dict(base=mini, as_made=dict(network='ConvNet()', simclr='what base does not say: AdamW, weight decay 0.01, warm-up 0.1, precision auto', supervised=labels | dict(epochs=mini['epochs'])))
    given, simclr, deepcluster = (alexnet('small', None), ImageSet.from_arrays(torch.randint(256, (200, 3, 2, 2), dtype=torch.uint8))), dict(method='simclr', seed=0, epochs=20), dict(method='deepcluster', seed=0, epochs=20, k=100, augment='views')
    def told(run):
        return {k: v for k, v in run.settings().items() if k != 'random_state'} | (dict(projection_head=run.projection_head, views=repr(run.views)) if isinstance(run, SimCLR) else {})
    photographs = dict(network="alexnet('deepcluster', hidden=1024), behind Sobel for DeepCluster alone", simclr=told(on_photographs(*given, simclr)), deepcluster=told(on_photographs(*given, deepcluster)) | dict(augment='crops of 224 pixels, mirrored'), supervised=labels | dict(epochs=20, lr=1e-3, batch_size=32))
    small = dict(network="alexnet('small')", simclr=told(on_small_images(*given, simclr, 16)), deepcluster=told(on_small_images(*given, deepcluster, 30)) | dict(augment="SimCLR's views, as above"), supervised=labels | dict(epochs=30))
    return dict(as_made=photographs if 'alexnet' in name else small if name == 'deepcluster_cifar10' else dict(small=small, photographs=photographs))


MEASURE = 'kNN: cosine after centring, k = 10, equal votes; linear: LinearProbe on standardised features, its weight decay chosen on a fifth of the training images; percent'


def collect(rows, folder):
    "The results files that the pages draw, of studies that have runs; each run with the machine and the versions that it was made with"
    for name, studies in RESULTS.items():
        mine = {json.dumps([short(r.get(k)) for k in ('study', 'seed', *SETTINGS)]): short(r | ({'environment': {k: r['environment'][k] for k in ('cpu', 'threads', 'gpu', 'date', 'versions') if k in r['environment']}} if 'environment' in r else {})) for r in rows if r['study'] in studies and not r.get('quick')}; mine = list(mine.values())
        if mine: print(save_results(name, sorted(mine, key=lambda r: (studies.index(r['study']), json.dumps([v for k, v in r.items() if k != 'seconds' and not isinstance(v, (list, dict))]))), folder, command=f"benchmarks/studies.py {' '.join(s for s in studies if s not in ('baselines', 'base'))}", questions={k: v for k, v in QUESTIONS.items() if k in studies}, measure=MEASURE, data={'alexnet_imagenette': 'Imagenette', 'alexnet_chosen': 'Imagenette', 'deepcluster_seeds': 'CIFAR-10, lossy files; no_dropout: Imagenette'}.get(name, 'CIFAR-10, lossy files'), **as_made(name)))


def work(study, r, quick):
    "One run: what was set, and what came out"
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='.*few for n_clusters.*'); on_the_way = partial(small_alexnet, along=True); got = dict(baselines=baseline, deepcluster=small_alexnet, again=on_the_way, clusters=on_the_way, dropout=on_the_way, sheet=sheet, longer=sheet, no_dropout=sheet, chosen=partial(sheet, looks=True), choose=partial(sheet, held_out=True), choose_epochs=partial(sheet, held_out=True), along=partial(sheet, looks=True, end=False)).get(study, contrast)(r, quick)
    return dict(study=study) | r | (dict(quick=True) if quick else {}) | _plain(got) | dict(environment=environment())      # (asked here, where the threads are those of the run)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('study', nargs='*', help=f"any of {', '.join(QUESTIONS)}"); p.add_argument('--list', action='store_true', help='print the questions'); p.add_argument('--jobs', type=int, default=1); p.add_argument('--quick', action='store_true', help='a trial: few images, two runs of each study'); p.add_argument('--json', type=Path, required='--list' not in sys.argv, help='file to which a line a run is added')
    p.add_argument('--save', type=Path, help='folder of the results files that the pages draw: runs that are in them are not made again, and all runs are written there'); p.add_argument('--seeds', type=int, default=3, help='at most so many seeds of each run')
    a = p.parse_args()
    if bad := set(a.study) - set(QUESTIONS): p.error(f"study must be among {tuple(QUESTIONS)}, got {', '.join(sorted(bad))}")
    if a.quick and a.save: p.error('--save: the runs of --quick are trials, no results')
    if a.list: print('\n'.join(f'{k}: {q}\n    {guess}' for k, (q, guess) in QUESTIONS.items())); return
    studies = [*(['baselines', 'base'] if {'views', 'jitter', 'temperature', 'batch', 'head'} & set(a.study) else []), *a.study]
    a.json.parent.mkdir(parents=True, exist_ok=True); seen = [json.loads(l) for l in a.json.read_text(encoding='utf-8').splitlines()] if a.json.exists() else []
    new, failed = {o['study'] for o in seen if not o.get('quick')}, 0        # studies of which the folder may not have every run yet
    for name in RESULTS if a.save else ():
        if (a.save/f'{name}.json').exists(): stored = load_results(name, a.save); seen = [dict(environment=stored['environment']) | r for r in stored['rows']] + seen          # (a run of --json counts in place of one of the folder)
    is_done = lambda study, r: any(o['study'] == study and o.get('quick', False) == a.quick and all(short(o.get(k)) == short(v) for k, v in r.items()) for o in seen)        # (files keep four digits)
    with ProcessPoolExecutor(a.jobs, mp_context=get_context('spawn')) as pool:
        for later in (False, True):                                          # SimCLR gets the seconds that DeepCluster took
            todo = [(s, r) for s in studies for r in (plan(s)[:2] if a.quick and s != 'deepcluster' else plan(s)) if r['seed'] < a.seeds and (s == 'deepcluster' and r['method'] == 'simclr') == later and not is_done(s, r)]
            took = {o['sobel']: o['seconds'] for o in seen if o['study'] == 'deepcluster' and o.get('k') == 100 and o['augment'] == 'views' and o.get('quick', False) == a.quick}
            if later: todo = [(s, r | dict(seconds=took[r['sobel']])) for s, r in todo if r['sobel'] in took]          # (not there: it failed)
            for f in as_completed([pool.submit(work, s, r, a.quick) for s, r in todo]):
                try: o = f.result()
                except Exception as e: failed += 1; print(f'a run failed: {type(e).__name__}: {e}', file=sys.stderr, flush=True); continue          # the others shall not be lost with it
                seen.append(o); new.add(o['study']); print({k: round(v, 2) if isinstance(v, float) else v for k, v in o.items() if not isinstance(v, (list, dict)) or k == 'pair'}, flush=True)
                with open(a.json, 'a', encoding='utf-8') as out: out.write(json.dumps(o) + '\n')
    if a.save:
        touched = {s for studies in RESULTS.values() if new & set(studies) for s in studies}              # what stands in a file that has a new run
        collect([r for r in seen if r['study'] in touched], a.save)
    if failed: sys.exit(f'{failed} runs failed; the same command makes them again, and no others')


if __name__ == '__main__': main()

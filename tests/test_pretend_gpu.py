"What would fail on a GPU for want of a device fails here, on a GPU that is none (`pretend_gpu.py`); results are those of the CPU."
import numpy as np
import pytest
import torch
from torch import nn

from pretend_gpu import OnGPU, pretend_gpu, tasks, waits

pytestmark = pytest.mark.filterwarnings('ignore')


@pytest.fixture
def cuda():
    with pretend_gpu() as device: yield device


def there(t): assert isinstance(t, OnGPU) and t.device.type == 'cuda'; return t.cpu()


def test_the_pretence(cuda):
    x, i = torch.randn(5, 3).to(cuda), torch.tensor([0, 2])
    assert x.is_cuda and (x + 1).is_cuda and torch.ones(2, device=cuda).is_cuda and x[i].is_cuda and not x.cpu().is_cuda
    for bad in (lambda: x.index_select(0, i), lambda: x + torch.ones(3), lambda: x @ torch.ones(3, 2), lambda: torch.arange(5)[i.to(cuda)], lambda: x.index_put_((i,), torch.ones(2, 3)), lambda: torch.rand(2, device=cuda, generator=torch.Generator())):
        with pytest.raises(RuntimeError): bad()
    with pytest.raises(TypeError): x.numpy()
    x[i] = 1.; x[i] = torch.tensor(2.); assert x.cpu()[i].eq(2).all()
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1)).to(cuda); loss = net(x).square().mean(); loss.backward()
    assert net[0].weight.grad.is_cuda and isinstance(loss.item(), float)
    with pytest.raises(RuntimeError): net(torch.ones(2, 3))


X = torch.cat([torch.randn(60, 24, generator=torch.Generator().manual_seed(0))*.3 + 3*torch.randn(1, 24, generator=torch.Generator().manual_seed(j)) for j in range(6)])
W = torch.rand(len(X), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize('how', [dict(), dict(init='random'), dict(init='k-means||'), dict(n_init=2), dict(spherical=True), dict(empty='drop'), dict(trace=True)], ids=str)
@pytest.mark.parametrize('weighted', [False, True])
def test_kmeans(cuda, how, weighted):
    from dl4ia_nbdev.kmeans import KMeans
    w = W if weighted else None
    km = lambda: KMeans(6, max_iter=8, random_state=0, **how)
    on, off = km().fit(X.to(cuda), sample_weight=None if w is None else w.to(cuda)), km().fit(X, sample_weight=w)
    assert torch.equal(there(on.labels_), off.labels_) and torch.allclose(there(on.cluster_centers_), off.cluster_centers_, atol=1e-5)
    there(on.predict(X.to(cuda))), there(on.transform(X.to(cuda))), on.score(X.to(cuda))
    assert isinstance(KMeans(6, max_iter=3, device='cuda', **how).fit(X.numpy()).labels_, np.ndarray)
    for dtype in (torch.float16, torch.bfloat16, torch.float64): there(km().fit(X.to(cuda, dtype)).cluster_centers_)


@pytest.mark.parametrize('empty', ['split', 'farthest', 'random', 'keep', 'drop'])
def test_empty_clusters(cuda, empty):
    from dl4ia_nbdev.kmeans import KMeans
    C = torch.cat([X[:2], X.new_full((2, 24), 1e3)])
    fit = lambda X, C: KMeans(4, init=C, empty=empty, max_iter=4, random_state=0).fit(X)
    assert torch.equal(there(fit(X.to(cuda), C.to(cuda)).labels_), fit(X, C).labels_)


def test_around_kmeans(cuda):
    from dl4ia_nbdev.choose_k import choose_k
    from dl4ia_nbdev.kmeans import MiniBatchKMeans, assign, kmeans_plus_plus, pairwise_sq_dists
    from dl4ia_nbdev.deepcluster import PCAWhiten
    G = X.to(cuda)
    C, rows = kmeans_plus_plus(G, 5, random_state=0); there(C); l, d = assign(G, G[:5]); there(l), there(d), there(pairwise_sq_dists(G, G[:5]))
    mb = lambda x: MiniBatchKMeans(6, batch_size=64, random_state=0).fit(x)
    assert torch.equal(there(mb(G).labels_), mb(X).labels_); there(MiniBatchKMeans(6, random_state=0).partial_fit(G).partial_fit(G[:100]).cluster_centers_)
    for m in ('exact', 'random'): there(PCAWhiten(8, method=m).fit(G).transform(G))
    choose_k(G, (2, 4, 6), n_init=1, n_refs=2, random_state=0)


def patches(n=48, size=24, split='train'):
    from dl4ia_nbdev.data import photo_patches
    return photo_patches(size, n, split=split, seed=0)


@pytest.mark.parametrize('size', [24, 16])
def test_views(cuda, size):
    from dl4ia_nbdev.views import Augment, ColorJitter, GaussianBlur, Normalize, RandomCrop, RandomGrayscale, RandomHorizontalFlip, RandomResizedCrop, RandomSolarize, Views, exercise_sheet, simclr_cifar, simclr_imagenet
    images = patches().images
    for recipe in (simclr_imagenet(size), simclr_cifar(size), exercise_sheet(16, size)):
        if recipe.ops[-1].__class__.__name__ == 'GaussianBlur' and size == 16: recipe = Augment(*recipe.ops[:-1])
        on, off = Views(recipe, normalize=([.5], [.2]))(images.to(cuda), seed=3), Views(recipe, normalize=([.5], [.2]))(images, seed=3)
        for a, b in zip(on, off): assert (there(a) - b).abs().mean() < .02*(1/.2)                # (bytes are resized in whole numbers on a CPU)
    for op in (RandomResizedCrop(size), RandomCrop(12, size), RandomHorizontalFlip(), ColorJitter.strength(1.), RandomGrayscale(), RandomSolarize(), GaussianBlur(5), Normalize([.5], [.2])):
        x = images.float()/255; a, p = op(x.to(cuda), seed=1, return_params=True)
        assert torch.allclose(there(a), op(x, seed=1), atol=1e-4), op
        if not isinstance(op, (RandomCrop, RandomResizedCrop, ColorJitter, Normalize)): there(op.change(x.to(cuda), next(iter(p.values()))))


def test_nobody_waits_for_views(cuda):
    "The next batch's views are asked for, by few tasks, while the GPU still trains on the last"
    from dl4ia_nbdev.views import Augment, RandomHorizontalFlip, RandomSolarize, Views, exercise_sheet, simclr_cifar, simclr_imagenet
    x = patches(256).images.to(cuda)
    for recipe, most in ((simclr_cifar(24), 125), (simclr_imagenet(24), 155), (exercise_sheet(16, 24), 105), (Augment(RandomHorizontalFlip(), RandomSolarize(p=.5)), 20)):
        v = Views(recipe, normalize=([.5, .4, .3], [.2]*3)); v(x, seed=0); waits.clear(); tasks.clear()
        v(x, seed=1); assert not waits and len(tasks) <= most, (recipe, waits, len(tasks))
    v(x.float()/255, seed=2); assert len(waits) == 2                           # floats must lie in [0, 1]
    waits.clear(); x + 1; x.float().max().item(); x[x > 3]; torch.ones(3).to(cuda); x.cpu(); x[0, 0, 0].tolist(); torch.equal(x, x); assert len(waits) == 6            # (it does see them)


def test_images_that_share_memory(cuda):
    "Grey images expanded to three channels, and images that are pinned already"
    from dl4ia_nbdev.data import ImageSet
    grey = patches().images[:, :1].expand(-1, 3, -1, -1); s = ImageSet(grey)
    for o in (s, ImageSet(grey.contiguous().pin_memory())):
        for how in (dict(), dict(shuffle=True)):
            for (a, _), (b, _) in zip(o.batches(20, cuda, **how), s.batches(20, **how)): assert torch.allclose(there(a), b, atol=1e-6)


def test_a_step_waits_for_its_loss_alone(cuda):
    from dl4ia_nbdev.alexnet import alexnet
    from dl4ia_nbdev.deepcluster import DeepCluster
    from dl4ia_nbdev.encoders import ConvNet
    from dl4ia_nbdev.evaluate import shift_flip, supervised
    from dl4ia_nbdev.simclr import SimCLR
    how = dict(epochs=1, batch_size=8, precision='float32', progress=False); x = patches(32, 32)
    def simclr(net): SimCLR(net, watch_every=None, **how).fit(x)
    def labels(net): supervised(net, x, **how)
    def clusters(net): DeepCluster.small(net, n_clusters=4, augment=shift_flip, **how).fit(x)
    for train, net, most in ((simclr, ConvNet((8, 16)), 4), (labels, ConvNet((8, 16)), 1), (clusters, alexnet('small', None, seed=0, sobel=True), 1)):         # the loss's value; NT-Xent's range of lengths, and whether it is finite
        at, net = [], net.to(cuda); net.register_forward_pre_hook(lambda m, _: at.append(len(waits)) if m.training else None)
        train(net); assert np.diff(at[-4:]).tolist() == [most]*3, (train, at)


def test_losses(cuda):
    from dl4ia_nbdev.infonce import GaussianPair, NetCritic, info_nce, train_critic
    from dl4ia_nbdev.simclr import LARS, attraction, nt_xent
    z = [torch.randn(40, 16, generator=torch.Generator().manual_seed(j)) for j in (0, 1)]
    for f in (nt_xent, lambda a, b: nt_xent(a, b, .02), lambda a, b: nt_xent(a, b, .1, tile=16), attraction, info_nce, lambda a, b: info_nce(a, b, .1, positive=torch.arange(40).flip(0).to(a.device))):
        got = []
        for d in ('cpu', cuda):
            zs = [o.clone().to(d).requires_grad_() for o in z]; loss = f(*zs); loss.backward(); got.append([o.cpu().detach() for o in (loss, *(o.grad for o in zs))])
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*got))
    train_critic(GaussianPair(2, .5), NetCritic(2).to(cuda), n=16, steps=2)


@pytest.mark.parametrize('how', [dict(), dict(weight_decay=1e-3, trust=.02), dict(momentum=0.)], ids=str)
def test_lars(cuda, how):
    "Parameters together, by few tasks and without waiting, as each alone; of several kinds of numbers, one without a gradient, one of zeros"
    from dl4ia_nbdev.simclr import LARS
    g = torch.Generator().manual_seed(0); start = [torch.randn(*s, generator=g) for s in [(6, 4), (6,), (5, 3, 2, 2), (3,)]*6] + [torch.randn(4, 4, generator=g).bfloat16(), torch.zeros(3, 2), torch.ones(2, 2)]
    def after(device):
        ws = [nn.Parameter(w.clone().to(device)) for w in start]; opt = LARS([dict(params=ws[:9]), dict(params=ws[9:], lr=.3)], .1, **how)
        for i in range(3):
            for j, w in enumerate(ws[:-1]): w.grad = (start[j]*.1*(i + j % 3)).to(device)
            waits.clear(); tasks.clear(); opt.step(); count = len(waits), len(tasks)
        return count, [w.detach().cpu() for w in ws]
    (waited, asked), on = after(cuda); assert not waited and 0 < asked <= 65          # (alone: some 230)
    for a, b, w in zip(on, after('cpu')[1], start): assert torch.allclose(a, b, atol=1e-2 if w.dtype == torch.bfloat16 else 1e-6), (a, b)
    assert torch.equal(on[-1], start[-1])


def test_training(cuda):
    from dl4ia_nbdev.alexnet import alexnet
    from dl4ia_nbdev.deepcluster import DeepCluster
    from dl4ia_nbdev.encoders import ConvNet, resnet
    from dl4ia_nbdev.evaluate import shift_flip, supervised
    from dl4ia_nbdev.simclr import SimCLR
    tr, big = patches(), patches(48, 32); how = dict(epochs=2, batch_size=16, precision='float32', progress=False)
    for net, more in ((ConvNet((8, 16)), dict(watch_every=1)), (resnet(18, 24), dict(watch_every=None, optimizer='lars')), (ConvNet((8, 16)), dict(projection_head=0, optimizer='sgd'))):
        s = SimCLR.small(net.to(cuda), **how, **more).fit(tr)
        assert all(np.isfinite(h['loss']) for h in s.history_) and next(net.parameters()).is_cuda and torch.isfinite(s.transform(tr)).all(); s.project(tr)
    for more in (dict(), dict(head='match', recluster=1), dict(head='centroid', whiten=False), dict(balance=None, feature_dtype='float16')):
        dc = DeepCluster.small(alexnet('small', None, seed=0, sobel=True).to(cuda), n_clusters=8, augment=shift_flip, **how, **more).fit(big)
        assert all(np.isfinite(h['loss']) for h in dc.history_) and len(dc.predict(big)) == len(big)
    assert np.isfinite(supervised(ConvNet((8, 16)).to(cuda), tr, epochs=2, batch_size=16, precision='float32', progress=False)[-1]['loss'])


def test_judges(cuda):
    from dl4ia_nbdev import evaluate as E
    from dl4ia_nbdev.alexnet import Sobel
    from dl4ia_nbdev.encoders import ConvNet, Encoder
    from dl4ia_nbdev.look import map_2d, plot_confusion, plot_map, plot_similarities, plot_spectrum
    tr, te = patches(80), patches(40, split='test'); g = torch.Generator().manual_seed(0); H = {o: torch.randn(len(s), 12, generator=g) + s.labels[:, None] % 3 for o, s in (('tr', tr), ('te', te))}
    on = [H['tr'].to(cuda), tr.labels, H['te'].to(cuda), te.labels]; off = [H['tr'], tr.labels, H['te'], te.labels]; there_too = [on[0], tr.labels.to(cuda), on[2], te.labels.to(cuda)]
    for f in (E.knn_accuracy, lambda *a: E.knn_accuracy(*a, k=20, temperature=.1), lambda *a: E.linear_probe(*a, l2=1e-2, max_iter=30), lambda *a: E.mlp_probe(*a, epochs=3), E.retrieval, lambda a, ya, b, yb: E.cluster_scores(a, ya)['nmi'], lambda a, *_: E.feature_std(a), lambda a, *_: E.rankme(a), lambda a, *_: E.alignment(a, a.flip(0)), lambda a, *_: E.uniformity(a)):
        want = f(*off)
        for args in (on, there_too): got = f(*args); assert got == pytest.approx(want, abs=.06), f
    for a in E.nearest(on[0], on[2], 5): there(a)
    net = ConvNet((8, 16)).to(cuda); enc = Encoder(net, dict(kind='convnet', size=24, channels=3)).to(cuda)
    E.embed(Sobel().to(cuda), tr), E.embed(net, tr), E.embed(net, tr, ['0']) if '0' in dict(net.named_modules()) else None, enc.features(tr)
    t = E.evaluate({'mine': net, 'features': (on[0], on[2])}, tr, te, measures=('knn', 'clusters', 'rankme', 'std'), untrained=1, progress=False); assert len(list(t)) >= 4
    E.evaluate(enc, tr.with_normalization(enc), te, measures=('knn',), untrained=1, progress=False)
    map_2d(on[0]); plot_map(on[0], tr.labels); plot_spectrum({'a': on[0]}); plot_similarities(on[0], tr.labels)


def test_deep_visualization(cuda):
    from dl4ia_nbdev.alexnet import alexnet
    from dl4ia_nbdev import deepvis as D
    from dl4ia_nbdev.play import play_maps, play_neighbours
    net = alexnet('small', None, seed=0).to(cuda).eval(); tr = patches(20, 32); how = dict(size=32, steps=4, normalize=tr)
    for r in (dict(), dict(param=D.Pixels(), r=D.regularisers(.01, 1., 2, 10., 10.), step=D.Normalized(.05)), dict(param=D.Fourier(), r=())):
        for o in (D.Channel('conv3', 2), [D.Unit('conv2', 1), D.Logit(3, 'fc7')], D.Direction('conv2', torch.randn(net.taps(tr.normalize(tr.images[:1]).to(cuda), 'conv2')['conv2'].shape[1]))):
            made = D.maximise(net, o, **how, **r); assert torch.isfinite(made.images).all() and made.images.device.type == 'cpu'
    top = D.top_images(net, tr, 'conv3', k=4); D.top_patches(net, tr, 'conv3', D.most_selective(top, 2)); D.receptive_field(net, 'conv2'); D.responses(net, D.Channel('conv3', 2), tr); D.layers_of(net, 32)
    D.score(net, D.Channel('conv3', 2), D.maximise(net, D.Channel('conv3', 2), **how), tr); D.picture_scores(tr.images.to(cuda))
    play_maps(net, tr).draw(); play_neighbours(tr, {'a': torch.randn(20, 4).to(cuda)}, k=3).draw()

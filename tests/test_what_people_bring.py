"Networks, files, arrays and settings as people bring them: each of these once gave a wrong number, a raw error or a crash"
import errno, json, os, struct, sys, warnings
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import nn

import dl4ia_nbdev.apply as apply
import dl4ia_nbdev.folders as folders
from dl4ia_nbdev.alexnet import Sobel, alexnet, layer_table
from dl4ia_nbdev.apply import evaluate_folder
from dl4ia_nbdev.choose_k import gap_statistic, uniform_reference
from dl4ia_nbdev.data import ImageSet, digits, open_image
from dl4ia_nbdev.deepcluster import DeepCluster, PCAWhiten, uniform_sample
from dl4ia_nbdev.deepvis import Channel, Direction, Fourier, Logit, Objective, Operator, Pixels, Unit, explorer, layers_of, maximise, picture_scores, receptive_field, responses, score, show_top_images, top_images, top_patches
from dl4ia_nbdev.encoders import ConvNet, Encoder, build_encoder, export_encoder, headless, load_encoder, pretrained, resnet, save_encoder
from dl4ia_nbdev.evaluate import LinearProbe, _check_stem, _remember, embed, evaluate, knn_accuracy, layer_probes, nmi, retrieval, supervised, untrained
from dl4ia_nbdev.exercises import _answered, grade, main as exercises_main, write_exercises
from dl4ia_nbdev.infonce import GaussianPair, TablePair
from dl4ia_nbdev.look import map_2d, plot_confusion, plot_map, plot_similarities, show_cases
from dl4ia_nbdev.play import Player, play_kmeans, play_maps, play_neighbours
from dl4ia_nbdev.plot import plot_bars, plot_curves, show_grid, show_image
from dl4ia_nbdev.processes import World, _Sum, sizing, whole_batch_norm
from dl4ia_nbdev.report import load_results, save_results
from dl4ia_nbdev.shared_features import FactorPairs, digit_on_photo
from dl4ia_nbdev.simclr import SimCLR, attraction, nt_xent, projection_head
from dl4ia_nbdev.train import StopTraining, _built, _stamp, _told, load_run, save_run
from dl4ia_nbdev.views import Augment, ColorJitter, GaussianBlur, Normalize, Operator as ViewOperator, RandomCrop, RandomGrayscale, RandomHorizontalFlip, RandomResizedCrop, RandomSolarize, Views, simclr_cifar

quiet = dict(epochs=1, progress=False, batch_size=20)
y = np.arange(60) % 3
X = (np.random.default_rng(0).standard_normal((60, 4)) + y[:, None]).astype('f4')


def pictures(n, side=8, classes=None, seed=0):
    return ImageSet(np.random.default_rng(seed).integers(0, 256, (n, 3, side, side), dtype=np.uint8), None if classes is None else np.arange(n) % classes)


def flat(d=4, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(192, d))


# ---- networks ----

class LeNet(nn.Module):
    "Reads its maps by `view`, which memory with channels last does not allow"
    def __init__(self): super().__init__(); self.conv, self.fc = nn.Conv2d(3, 6, 3), nn.Linear(6*14*14, 16)
    def forward(self, x): x = self.conv(x).relu(); return self.fc(x.view(x.size(0), -1))


@pytest.mark.parametrize('precision', ('float32', 'bfloat16'))
def test_a_network_that_uses_view(precision):
    ims, x = pictures(40, 16, 4), torch.rand(2, 3, 16, 16)
    for train in (lambda e: SimCLR.small(e, precision=precision, **quiet).fit(ims), lambda e: DeepCluster.small(e, n_clusters=9, precision=precision, augment=None, **quiet).fit(ims),
                  lambda e: supervised(e, ims, epochs=1, batch_size=20, precision=precision, progress=False)):
        torch.manual_seed(0); e = LeNet(); before = e(x).detach()
        with warnings.catch_warnings(): warnings.simplefilter('ignore', UserWarning); train(e)
        assert not torch.equal(e(x), before)                                       # it has learned, and still takes images as they come
    e = LeNet(); direct = e(ims.normalize(ims.images)).detach()
    for layer in (None, 'fc'): torch.testing.assert_close(embed(e, ims, layer), direct, atol=1e-5, rtol=0)
    assert maximise(e, Unit('fc', 0), size=16, steps=2, r=()).activation.shape == (1,)
    assert top_images(e, ims, 'conv', k=2)['indices'].shape == (6, 2)


def test_a_network_of_another_precision():
    ims = pictures(9, 12); one = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()); two = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).double(); two.load_state_dict(one.state_dict())
    for layer in (None, '1'): torch.testing.assert_close(embed(two, ims, layer), embed(one, ims, layer), atol=1e-6, rtol=0)
    torch.testing.assert_close(responses(two, Channel('1', 1), ims), responses(one, Channel('1', 1), ims), atol=1e-5, rtol=1e-5)
    assert top_images(two, ims, '1', k=2)['indices'].tolist() == top_images(one, ims, '1', k=2)['indices'].tolist()
    for dtype in (torch.float32, torch.float64, torch.bfloat16): assert receptive_field(nn.Sequential(nn.Conv2d(3, 16, 5, 2, 2)).to(dtype), '0') == ((-2, 2, 5),)*2


def test_a_network_with_channels_of_its_own():
    class Net(nn.Module):
        def __init__(self): super().__init__(); self.channels, self.conv = 16, nn.Conv2d(3, 16, 3)
        def forward(self, x): return self.conv(x)
    assert maximise(Net(), Channel('conv', 1), size=12, steps=1).images.shape == (1, 3, 12, 12)
    assert layers_of(Net())


def test_networks_and_heads_that_do_not_fit():
    class Squeezed(nn.Module):
        def __init__(self): super().__init__(); self.net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1))
        def forward(self, x): return self.net(x).squeeze()
    with pytest.raises(ValueError, match='one row of features an image'): DeepCluster.small(Squeezed(), n_clusters=5, **quiet).fit(pictures(257))
    with pytest.raises(ValueError, match='projection_head must take .* 32 numbers'): SimCLR.small(flat(32), projection_head=nn.Linear(64, 16), **quiet).fit(pictures(40))


def test_untrained_is_untrained():
    with pytest.raises(ValueError, match='leaves weight_orig as it is'): untrained(nn.Sequential(nn.utils.spectral_norm(nn.Linear(8, 4))))
    tr, te = pictures(30, classes=3), pictures(12, classes=3, seed=1)
    rows = evaluate({'a': flat(4), 'b': flat(6)}, tr, te, measures='knn', untrained=partial(flat, 5), with_labels=dict(epochs=1), bootstrap=0)
    assert [(r['representation'], r['dimensions']) for r in rows] == [('chance', 0), ('raw pixels', 192), ('untrained', 5), ('a', 4), ('b', 6), ('supervised', 5)]


def test_kept_features_are_those_of_the_code_as_it_is(tmp_path):
    ims, got = pictures(4), []
    code = "from torch import nn\ndef helper(x): return x*{1}\nclass Gain:\n    def __call__(self, x): return x*{5}\nclass Net(nn.Module):\n    more = {3}\n    def __init__(self): super().__init__(); self.gain = Gain()\n    def body(self, x): return self.gain(helper(x.flatten(1)))*{0}*SCALE*self.more*TABLE['a']\n    def forward(self, x): return self.body(x)\nSCALE = {2}; TABLE = dict(a={4})"
    for factors in ((1, 1, 1, 1, 1, 1), (2, 1, 1, 1, 1, 1), (1, 3, 1, 1, 1, 1), (1, 1, 5., 1, 1, 1), (1, 1, 1, 7, 1, 1), (1, 1, 1, 1, 11, 1), (1, 1, 1, 1, 1, 13)):                       # a method, a function that it calls, a number, a class attribute, a table, what an object does: as in a notebook's cells run again
        names = dict(__name__='__main__'); exec(code.format(*factors), names); net = names['Net']()
        for _ in range(2): got.append(embed(net, ims, cache=tmp_path)); torch.testing.assert_close(got[-1], embed(net, ims))
    assert len(list(tmp_path.iterdir())) == 7


# ---- files ----

def exif(orientation):
    "With a second tag, written as text where a number belongs"
    return b'Exif\0\0II*\0\x08\0\0\0' + struct.pack('<H', 2) + struct.pack('<HHIHH', 274, 3, 1, orientation, 0) + struct.pack('<HHI4s', 531, 2, 2, b'1') + bytes(4)


def test_turned_photographs(tmp_path):
    a = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    for o in range(1, 9):
        for kind in ('png', 'tif', 'webp'):
            tag = Image.Exif(); tag[274] = o; Image.fromarray(a).save(tmp_path/f'right.{kind}', exif=tag, **(dict(lossless=True) if kind == 'webp' else {}))
            with Image.open(tmp_path/f'right.{kind}') as im:
                if kind == 'tif': im.filename = ''
                want = np.asarray(ImageOps.exif_transpose(im).convert('RGB'))
            assert np.array_equal(open_image(tmp_path/f'right.{kind}').numpy().transpose(1, 2, 0), want), (o, kind)
        Image.fromarray(a).save(tmp_path/'sloppy.jpg', exif=exif(o)); Image.fromarray(a).save(tmp_path/'plain.jpg')
        upright = open_image(tmp_path/'plain.jpg').numpy().transpose(1, 2, 0); turn = {1: lambda b: b, 2: np.fliplr, 3: lambda b: np.rot90(b, 2), 4: np.flipud, 5: lambda b: b.swapaxes(0, 1), 6: lambda b: np.rot90(b, 3), 7: lambda b: np.rot90(b, 2).swapaxes(0, 1), 8: np.rot90}[o]
        assert np.array_equal(open_image(tmp_path/'sloppy.jpg').numpy().transpose(1, 2, 0), turn(upright)), o


def test_damaged_files_are_left_out(tmp_path):
    im = Image.fromarray(np.zeros((20, 30, 3), np.uint8)); im.save(tmp_path/'good.png'); im.save(tmp_path/'bad.tif'); os.truncate(tmp_path/'bad.tif', 8)
    np.savez(tmp_path/'other.npz', a=np.zeros(3)); os.rename(tmp_path/'other.npz', tmp_path/'other.npy')
    with warnings.catch_warnings(): warnings.simplefilter('ignore'); ims = ImageSet.from_folder(tmp_path, on_error='skip')
    assert len(ims) == 1 and len(ims.skipped) == 2
    for _ in range(2):
        with warnings.catch_warnings(), pytest.raises(ValueError, match='pass on_error'): warnings.simplefilter('ignore'); ImageSet.from_folder(tmp_path, cache=tmp_path/'kept')
    assert not list(tmp_path.rglob('*.bin'))                                             # nothing is left of readings that failed


def classes(folder, names, empty=()):
    rng = np.random.default_rng(0)
    for c in (*names, *empty): (folder/c).mkdir(parents=True)
    for c in names:
        for i in range(3): Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder/c/f'{i}.png')
    return folder


def test_folders_whose_classes_differ(tmp_path):
    train = ImageSet.from_folder(classes(tmp_path/'train', 'abc'))
    with pytest.warns(UserWarning, match='folders without an image, which are no classes: b'): test = ImageSet.from_folder(classes(tmp_path/'test', 'ac', 'b'))
    with pytest.raises(ValueError, match="test must have train's class_names"): evaluate({'raw': nn.Flatten()}, train, test, measures='knn', untrained=0, bootstrap=0)


def test_two_readers_of_one_folder(tmp_path, monkeypatch):
    folder, finish, once = classes(tmp_path/'set', 'ab'), folders._Store.finish, []
    def meanwhile(self, *a):
        if not once: once.append(1); ImageSet.from_folder(folder, cache=tmp_path/'kept')
        return finish(self, *a)
    monkeypatch.setattr(folders._Store, 'finish', meanwhile)
    first = ImageSet.from_folder(folder, cache=tmp_path/'kept')
    assert torch.equal(first.images, ImageSet.from_folder(folder, cache=tmp_path/'kept').images)


def test_a_run_of_another_optimiser(tmp_path):
    net = nn.Linear(3, 2); save_run(tmp_path/'run.pt', net, torch.optim.Adam(net.parameters()))
    with pytest.raises(ValueError, match='another kind than that of the run: AdamW and not Adam'): load_run(tmp_path/'run.pt', net, torch.optim.AdamW(net.parameters()))
    load_run(tmp_path/'run.pt', net, torch.optim.Adam(net.parameters()))
    with pytest.raises(IsADirectoryError, match='checkpoint must be a file'): SimCLR.small(flat(), **quiet).fit(pictures(40), checkpoint=tmp_path)


def test_results_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path)); monkeypatch.setenv('USERPROFILE', str(tmp_path))
    (tmp_path/'res').mkdir(); save_results('own', [dict(a=1)], folder='~/res'); assert load_results('own', folder='~/res')['rows'] == [dict(a=1)]


# ---- arrays and numbers ----

def test_image_sets_share_nothing():
    ims = pictures(10); before = ims.images.clone(); next(ims.batches(4, normalize=False))[0].zero_(); assert torch.equal(ims.images, before)
    m = np.full(3, .5, np.float32); other = ImageSet(ims.images, mean=m, std=[.2]*3); m[:] = 0; assert other.mean.tolist() == [.5]*3
    assert ims.with_normalization(([.5], [.25]*3)).mean.tolist() == [.5]*3 and ims.with_normalization(other).std.tolist() == other.std.tolist()


def test_arrays_of_any_kind():
    acc = knn_accuracy(X, y, X, y)
    assert knn_accuracy(X[::-1], y[::-1], X, y) == knn_accuracy(X.astype('>f4'), y.astype('>i4'), X, y) == knn_accuracy(X.tolist(), y.tolist(), X, y) == acc
    big = np.stack([10**9 + 20*np.cos(2*np.pi*y/3), 10**9 + 20*np.sin(2*np.pi*y/3)], 1).astype(int)
    with pytest.raises(ValueError, match='float32 tells apart'): knn_accuracy(big, y, big, y)
    for f, name in ((lambda: knn_accuracy(X, np.array(list('abc'*20)), X, y), 'train_y'), (lambda: nmi(['a', 'b'], ['a', 'b']), 'u')):
        with pytest.raises(TypeError, match=f'^{name} must hold numbers'): f()
    t = torch.rand(6, 7, generator=torch.Generator().manual_seed(0)); assert abs(TablePair(t/t.sum()).information - TablePair((t.double()/t.double().sum())).information) < 1e-6


def test_numpy_numbers():
    tr, te = pictures(30, classes=3), pictures(12, classes=3, seed=1)
    assert retrieval(X, y, ks=np.array([1, 5])) == retrieval(X, y, ks=[1, 5])
    torch.testing.assert_close(LinearProbe(l2=np.float64(.1), max_iter=np.int64(50)).fit(X, y).coef_, LinearProbe(l2=.1, max_iter=50).fit(X, y).coef_)
    assert embed(nn.Sequential(nn.Conv2d(3, 4, 3)), te, '0', pool=np.int64(2)).shape == (12, 16)
    assert len(evaluate(flat(), tr, te, measures=['knn', 'few'], untrained=0, bootstrap=np.int64(10), few=(np.int64(2),)))
    assert layer_table(alexnet('small', None, seed=0), np.int64(32)) == layer_table(alexnet('small', None, seed=0), 32)
    show_grid(torch.rand(4, 3, 5, 5), ncol=np.int64(2)); plt.close('all')


def test_elongated_images():
    sets = [ImageSet(np.random.default_rng(i).integers(0, 255, (20, 1, 4, 64)).astype('u1'), np.arange(20) % 2) for i in range(2)]
    assert len(evaluate(nn.Sequential(nn.Flatten(), nn.Linear(256, 4)), *sets, measures=('knn', 'alignment'), untrained=0, bootstrap=0))


# ---- pictures ----

def test_pictures_of_collapse_and_names():
    assert not map_2d(torch.ones(40, 5), 'tsne').any() and map_2d(torch.randn(50, 1), 'tsne').shape == (50, 2)
    plot_confusion(y.astype('uint16'), y.astype('uint16'), class_names=np.array(['a', 'b', 'c']))
    assert [t.get_text() for t in plot_map(X, y, class_names=np.array(['a', 'b', 'c'])).get_legend().get_texts()] == ['a', 'b', 'c']
    with pytest.raises(ValueError, match='class_names must name the 3 classes'): plot_map(X, y, class_names=['a', 'b'])
    with pytest.raises(ValueError, match='train must have labels'): show_cases(pictures(60), pictures(60), X, X)
    plt.close('all')


def test_images_without_a_gradient():
    torch.manual_seed(0); net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    with torch.no_grad(): net[0].weight[2] = 0; net[0].bias[2] = -1
    with pytest.warns(UserWarning, match='1 of 4 images had no gradient'): m = maximise(net, [Channel('1', c) for c in range(4)], size=12, param=Pixels(), r=(), steps=5)
    assert m.dead.tolist() == [False, False, True, False]
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU6())
    with torch.no_grad(): net[0].weight.mul_(40)
    with warnings.catch_warnings(): warnings.simplefilter('error'); m = maximise(net, Unit('1', 0), size=12, steps=40, r=())
    assert m.activation.tolist() == [6.] and m.dead.tolist() == [False]                    # driven to its maximum, where the gradient is 0: not silent


def test_normalisation_in_other_limits():
    ims, net, seen = pictures(20, 12), nn.Sequential(nn.Conv2d(3, 4, 3)), []
    net[0].register_forward_pre_hook(lambda m, a: seen.append(a[0].detach().clone()))
    for limits in ((0., 1.), (0., 255.)): maximise(net, Channel('0', 0), size=12, steps=1, r=(), normalize=ims, limits=limits)
    torch.testing.assert_close(seen[0], seen[len(seen)//2], atol=1e-5, rtol=1e-4)
    m, other = maximise(net, Channel('0', 0), size=12, steps=1, r=(), normalize=([.5]*3, [.25]*3)), maximise(net, Channel('0', 0), size=12, steps=1, r=())
    with pytest.raises(ValueError, match='with_normalization'): score(net, Channel('0', 0), m, ims)
    for result, norm in ((m, ([.5]*3, [.25]*3)), (other, ([0.], [1.]))): assert len(score(net, Channel('0', 0), result, ims.with_normalization(norm))) == 1


def test_names_and_grey():
    a, b, c = (Objective(lambda acts: acts['input'].mean((1, 2, 3)), name=n) for n in 'ABC')
    assert (repr(a - (b + c)), repr(a - b + c), repr(a - b)) == ('A − (B + C)', 'A − B + C', 'A − B')
    assert maximise(alexnet('small', None, seed=0, in_channels=1), Channel('conv1', 0), size=8, steps=1, param=Fourier(colours=digits('test'))).images.shape == (1, 1, 8, 8)


def test_rules_of_ones_own():
    class Mask(Operator):
        def __init__(self, m): self.m, self.name, self.more = m, 'half', None
        def __call__(self, x, g, t): return x*self.m
    net = nn.Sequential(nn.Conv2d(3, 4, 3)); m = maximise(net, Channel('0', 0), size=12, steps=2, r=[Mask(torch.ones(12, 12))])
    assert m.settings['r'] == ["[Mask(m=Tensor(12, 12), name='half', more=None)]"]


def test_rectifiers_in_place():
    class Net(nn.Module):
        def __init__(self, how): super().__init__(); torch.manual_seed(0); self.conv, self.how = nn.Conv2d(3, 4, 3), how
        def forward(self, x): x = self.conv(x); y = self.how(x); return x if y is None else y
    def silent(how):
        net = Net(how)
        with torch.no_grad(): net.conv.weight[2] *= .1; net.conv.bias[2] = -.6
        return maximise(nn.Sequential(net), Unit('0', 2), size=12, steps=30, r=(), param=Pixels())
    want = silent(torch.relu)
    assert want.history[0][0]['woken']
    for how in (lambda x: (torch.relu_(x), None)[1], lambda x: (x.relu_(), None)[1], lambda x: (nn.functional.relu(x, inplace=True), None)[1], lambda x: (nn.functional.relu(x, True), None)[1]):
        torch.testing.assert_close(silent(how).images, want.images)


def test_arrays_all_the_way():
    net, ims = nn.Sequential(nn.Conv2d(3, 4, 3)), pictures(12, 12); x = ims.images.numpy()
    top = top_images(net, x, '0', k=4); patches = top_patches(net, x, '0', top); show_top_images(x, top); show_top_images(patches, top)
    with pytest.raises(TypeError, match='images must be an ImageSet'): score(net, Channel('0', 0), maximise(net, Channel('0', 0), size=12, steps=1), x)
    assert picture_scores(x[..., ::-1])[0]['total_variation'] == pytest.approx(picture_scores(x)[0]['total_variation'])
    assert maximise(net, Direction('0', np.arange(4.)[::-1]), size=12, steps=1, start=np.full((3, 12, 12), .5)[..., ::-1]).images.shape == (1, 3, 12, 12)
    explorer(net, size=12, steps=2, images=x[:5]).grow(None); plt.close('all')


def test_pictures_with_handles():
    with pytest.raises(ValueError, match='net must have taps'): play_maps(pretrained(), pictures(4, 32))
    with pytest.raises(ValueError, match='k must be below the number of pictures'): play_neighbours(pictures(6), {'a': X[:6]}, k=6)
    with pytest.raises(ValueError, match='states must hold'): Player(lambda fig, a: None, (1, 1), a=(0, 1)).strip([])


def test_two_channels_are_drawn():
    ax = show_image(torch.full((2, 4, 4), 255, dtype=torch.uint8)); assert ax.images[0].get_array().max() == pytest.approx(1.); plt.close('all')


def test_other_optimisers_of_small():
    for name, want in (('adamw', (2e-3, 1e-2)), ('lars', (None, 1e-6)), ('sgd', (None, 1e-6))): s = SimCLR.small(flat(), optimizer=name); assert (s.lr, s.weight_decay) == want
    assert SimCLR.small(flat(), optimizer='lars', lr=.3).lr == .3
    with pytest.raises(TypeError, match='z1 must be a floating point tensor'): attraction(X, X)
    with pytest.raises(ValueError, match='at least one pair'): attraction(torch.zeros(0, 4), torch.zeros(0, 4))


def test_resume_knows_the_dropout(tmp_path):
    ims = pictures(40)
    def net(p): torch.manual_seed(0); return nn.Sequential(nn.Flatten(), nn.Dropout(p), nn.Linear(192, 8))
    for i, make in enumerate((lambda p: SimCLR.small(net(p), **quiet), lambda p: DeepCluster.small(net(p), n_clusters=4, augment=None, **quiet))):
        make(.5).fit(ims, checkpoint=tmp_path/str(i))
        with pytest.raises(ValueError, match='encoder: .* there'): make(0.).fit(ims, checkpoint=tmp_path/str(i), resume=True)


def test_copies_on_both_sides(tmp_path):
    rng = np.random.default_rng(0)
    for c in 'ab':
        (tmp_path/c).mkdir()
        for i in range(20):
            p = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            for j in range(3): Image.fromarray(p).save(tmp_path/c/f'{i}_{j}.png')         # noise, each picture three times: nothing to learn but the copies
    with warnings.catch_warnings():
        warnings.simplefilter('error'); t = evaluate_folder(tmp_path, pretrained(), measures=('knn',), cache=False)
    assert '8 test images' in t.protocol


def test_exercises_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path)); monkeypatch.setenv('USERPROFILE', str(tmp_path))
    (path,) = write_exercises('~/ex', only='kmeans'); nb = json.loads(path.read_text(encoding='utf-8')); nb['cells'][3]['source'] = ['mine']; path.write_text(json.dumps(nb), encoding='utf-8')
    assert list(write_exercises('~/ex', only='kmeans').values()) == ['kept']
    for i, odd in enumerate(({'metadata': None, 'cells': []}, {'metadata': {}, 'cells': [dict(cell_type='code', source='', outputs=None)]})): (path.parent/f'odd{i}.ipynb').write_text(json.dumps(odd), encoding='utf-8')
    assert len(list(grade('~/ex')['unread'])) == 2


def test_sets_share_no_labels():
    labels = np.arange(12); s = ImageSet(pictures(12).images, labels); t = ImageSet(s.images, s.labels); labels[:] = 0
    for shuffle in (False, True): _, y = next(s.batches(4, shuffle=shuffle)); y += 1
    t.labels[:] = 5; assert s.labels.tolist() == list(range(12))


def test_images_of_any_layout():
    s, x = pictures(12), np.zeros((6, 40, 60, 2), np.uint8)
    assert torch.equal(s[np.argsort(X[:12, 0])[::-1]].images, s[np.argsort(X[:12, 0])[::-1].copy()].images) and len(next(s.batches(4, order=np.arange(12)[::-1]))[0]) == 4
    assert ImageSet(x).shape == (6, 2, 40, 60) and torch.equal(ImageSet([a[:, ::-1] for a in s.images.numpy()]).images, s.images.flip(2))
    assert ImageSet(torch.full((2, 3, 4, 4), 1 + 1e-7)).images.min() == 255
    with pytest.raises(ValueError, match='must lie in'): ImageSet(torch.full((2, 3, 4, 4), 1.01))


def test_judges_say_what_they_cannot():
    a, b = pictures(60, classes=3), pictures(60, classes=2, seed=1); a.class_names, b.class_names = ['a', 'b', 'c'], ['a', 'c']
    with pytest.raises(ValueError, match="train's class_names in their order"): layer_probes(nn.Sequential(nn.Conv2d(3, 4, 3)), a, b, ['0'])
    a, b = pictures(60, classes=3), pictures(60, classes=3, seed=1); H = [s.images.float().flatten(1) for s in (a, b)]
    t = evaluate({'mine': tuple(H)}, a, b, measures=('knn',), untrained=lambda s: flat(seed=s), with_labels=dict(epochs=1, batch_size=20)); assert [r['representation'] for r in t] == ['chance', 'raw pixels', 'untrained', 'mine', 'supervised']
    with pytest.raises(ValueError, match='with_labels trains a network'): evaluate({'mine': tuple(H)}, a, b, measures=('knn',), with_labels={})
    with pytest.raises(ValueError, match='views must give floats in'): evaluate(flat(), a, b, measures=('alignment',), untrained=0, views=Augment(RandomHorizontalFlip(), Normalize([.5]*3, [.1]*3)))
    enc = Encoder(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()), dict(kind='own', size=8, channels=3)); enc.mean.fill_(.25); grey = ImageSet(a.images[:, :1], a.labels)
    with pytest.raises((RuntimeError, ValueError)): supervised(enc, grey, **quiet)
    assert (enc.mean == .25).all()
    assert LinearProbe(holdout=.9).fit(X[:6], y[:6]).coef_.isfinite().all()


def test_one_number_and_graphs(tmp_path):
    assert RandomResizedCrop(8, ratio=1, scale=.5).ratio == (1., 1.)
    assert not PCAWhiten(2).fit(torch.from_numpy(X).requires_grad_()).mean_.requires_grad
    net = nn.Linear(3, 2); save_run(tmp_path/'run', net, torch.optim.SGD(net.parameters(), lr=np.logspace(-3, -1, 3)[0])); load_run(tmp_path/'run', net, torch.optim.SGD(net.parameters(), lr=.1))


@pytest.mark.skipif(os.name == 'nt', reason='links need rights there')
def test_a_folder_and_its_link(tmp_path):
    for c in ('cat', 'dog'):
        (tmp_path/c).mkdir(); Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path/c/'a.png')
    (tmp_path/'zebra').symlink_to(tmp_path/'cat'); (tmp_path/'ant').symlink_to(tmp_path/'cat')
    assert [n for n, *_ in folders.scan_folder(tmp_path)[0]] == ['cat/a.png', 'dog/a.png']


# ---- views and SimCLR ----

class Upside(RandomHorizontalFlip):
    "A flip of one's own"
    def change(self, x, params): return x.flip(-2)


def test_operators_of_ones_own_after_a_crop():
    x = pictures(4).images; whole = RandomResizedCrop(8, scale=(1., 1.), ratio=(1., 1.))
    assert torch.equal(Augment(whole, Upside(1.))(x), Augment(whole)(x).flip(-2))
    class Twice(RandomResizedCrop):
        def apply(self, x, params): return x*2
    with pytest.raises(TypeError, match='Twice'): Augment(Twice(8))
    class Second(RandomHorizontalFlip): name = 'flip_2'
    with pytest.raises(ValueError, match='flip_2'): Augment(RandomHorizontalFlip(), RandomHorizontalFlip(), Second())


def test_pairs_of_ones_own_have_their_own_draws():
    class Pairs(ImageSet):
        def pairs(self, rows, seed): drawn.append(torch.rand(len(rows), generator=torch.Generator().manual_seed(seed))); return torch.cat([self.images[rows]]*2)
    class Notes(RandomHorizontalFlip):
        def draw(self, n, shape, generator=None): seen.append(u := torch.rand(n, generator=generator)); return dict(applied=u < .5)
    drawn, seen = [], []; SimCLR.small(flat(), views=Augment(Notes()), watch_every=None, **quiet).fit(Pairs(pictures(40).images))
    assert len(drawn) == len(seen) > 1 and not any(torch.equal(a, b[:len(a)]) for a, b in zip(drawn[1:], seen[1:]))              # (the first is a trial of two)


def test_encoders_that_change_before_fit():
    e = flat(); s, d = SimCLR.small(e, **quiet), DeepCluster.small(e, n_clusters=3, **quiet); e.requires_grad_(False)
    for o in (s, d):
        with pytest.raises(ValueError, match='no parameter to train'), warnings.catch_warnings(): warnings.simplefilter('ignore'); o.fit(pictures(40))
    with pytest.raises(ValueError, match='one row of features an image'): SimCLR.small(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(0)), **quiet).fit(pictures(40))


def test_epochs_that_are_done(tmp_path):
    "A run of three epochs cannot be one of two"
    new = lambda e: SimCLR.small(flat(), batch_size=20, epochs=e, watch_every=None, progress=False); new(3).fit(pictures(40), checkpoint=tmp_path/'a.pt')
    with pytest.raises(ValueError, match='at least 3'): new(2).fit(pictures(40), checkpoint=tmp_path/'a.pt', resume=True)
    assert len(new(3).fit(pictures(40), checkpoint=tmp_path/'a.pt', resume=True).history_) == 3


def test_an_early_end_is_looked_at():
    def enough(*o): raise StopTraining
    assert 'rank_h' in SimCLR.small(flat(), batch_size=20, epochs=9, progress=False).fit(pictures(40, classes=2), callbacks=[enough]).history_[-1]


def test_resume_with_dropout_in_the_encoder(tmp_path):
    "Bit for bit, dropout and all"
    def new(): torch.manual_seed(0); return SimCLR.small(nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.Dropout(.5), nn.Linear(16, 4)), batch_size=20, epochs=2, watch_every=None, progress=False)
    def enough(*o): raise StopTraining
    whole = new().fit(pictures(40)); new().fit(pictures(40), callbacks=[enough], checkpoint=tmp_path/'a.pt'); again = new().fit(pictures(40), checkpoint=tmp_path/'a.pt', resume=True)
    assert all(torch.equal(a, b) for a, b in zip(whole.encoder.state_dict().values(), again.encoder.state_dict().values()))


def test_stems_cut_to_pieces():
    "A ResNet for large images is known by its first layers, not by its class"
    from torchvision.models import resnet18
    three = resnet18(); three.conv1 = nn.Conv2d(3, 64, 3, 2, 1, bias=False); parts = list(resnet18().children())
    for large in (nn.Sequential(*parts[:-1], nn.Flatten()), nn.Sequential(*parts[:3], nn.MaxPool2d(3, [2, 2], 1), *parts[4:-1], nn.Flatten()), nn.Sequential(nn.Conv2d(3, 3, 1), resnet18()), three):
        with pytest.warns(UserWarning, match='a quarter of 32 pixels'): _check_stem(large, 32)
    with warnings.catch_warnings():
        warnings.simplefilter('error'); _check_stem(resnet18(), 96)
        for small in (resnet(18, 32), alexnet('small', None), ConvNet(), nn.Sequential(nn.Conv2d(3, 8, 7), nn.ReLU(), nn.MaxPool2d(2))): _check_stem(small, 32)


def test_rates_grow_with_the_root_of_the_batch():
    for optimizer, rate in (('sgd', .05), ('adamw', 1e-3)):
        for n in (16, 64): assert SimCLR(flat(), optimizer=optimizer, batch_size=n, epochs=1, watch_every=None, progress=False).fit(pictures(64)).lr_ == pytest.approx(rate*(n/256)**.5)


def test_views_are_torchvisions():
    "Crop and flip as one, and a whole recipe: with the parameters that came back, what torchvision makes of them"
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as tv
    x = pictures(12, 40, seed=3).images
    def crop_flip(im, p, i, size):
        y, l, h, w = p['crop']['box'][i].tolist(); out = tv.resized_crop(im, y, l, h, w, [size, size], InterpolationMode.BILINEAR, antialias=True)
        return tv.hflip(out) if p['flip']['applied'][i] else out
    for size in (24, 40, 64):                                              # smaller than the images, as large, larger
        v, p = Augment(RandomResizedCrop(size), RandomHorizontalFlip())(x, seed=1, return_params=True); assert p['flip']['applied'].any() and not p['flip']['applied'].all()
        for im, got, i in zip(x.float()/255, v, range(12)): assert (crop_flip(im, p, i, size).clamp(0, 1) - got).abs().max() < (.0045 if size < 40 else 1e-4)       # (bytes are rounded to bytes, once a direction)
    both = Views(simclr_cifar(32)); a, b, ps = both(x, seed=2, return_params=True)
    for v, p in zip((a, b), ps):
        assert torch.allclose(both.first(x, params=p), v, atol=1e-6)
        for im, got, i in zip(x.float()/255, v, range(12)):
            out, c = crop_flip(im, p, i, 32).clamp(0, 1), p['colour']
            if c['applied'][i]:
                for step in c['order'][i].tolist(): out = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)[step](out, float(c[('brightness', 'contrast', 'saturation', 'hue')[step]][i]))
            if p['grey']['applied'][i]: out = tv.rgb_to_grayscale(out, 3)
            assert (out - got).abs().max() < .02, (out - got).abs().max()


def test_operators_that_do_nothing():
    "At its limit an operator leaves the images as they are, whichever way it goes; and the others change them"
    x = torch.from_numpy(np.random.default_rng(0).random((3, 3, 20, 20), dtype='f4')); large = torch.from_numpy(np.random.default_rng(1).random((2, 3, 140, 140), dtype='f4'))
    for o in (Normalize((0., 0., 0.), (1., 1., 1.)), RandomCrop(20)): assert torch.allclose(Augment(o)(x, seed=0), x, atol=1e-6)
    for y in (x, large):                                                   # blurred by products, and by neighbours
        assert torch.allclose(Augment(GaussianBlur(sigma=(1e-3, 1e-3), p=1.))(y, seed=0), y, atol=1e-5)
        assert (Augment(GaussianBlur(sigma=(1., 1.), p=1.))(y, seed=0) - y).abs().max() > .05
    for o in (Normalize((.5, .5, .5), (.2, .2, .2)), RandomCrop(12, 20)): assert (Augment(o)(x, seed=0) - x).abs().max() > .05


def test_the_loss_at_low_temperature():
    "Zero vectors, half precision and autocast at τ = 0.005: value and gradient of float64"
    g = torch.Generator().manual_seed(0); a, b = torch.randn(2, 40, 16, generator=g); a[3] = 0; b[5] = 0; tau = .005
    def loss_and_gradient(dtype, **how):
        z = [o.to(dtype, copy=True).requires_grad_() for o in (a, b)]
        with torch.autocast('cpu', dtype=torch.bfloat16, enabled=bool(how)): loss = nt_xent(*z, tau)
        loss.backward(); assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32); return loss.double(), torch.cat([o.grad for o in z]).double()
    exact, by = loss_and_gradient(torch.float64); assert not by[3].any() and not by[45].any()
    for how in ({}, dict(autocast=True)):
        loss, grad = loss_and_gradient(torch.float32, **how); assert loss.item() == pytest.approx(exact.item(), rel=1e-5) and (grad - by).abs().max() < 1e-4*by.abs().max()
    for dtype in (torch.float16, torch.bfloat16):
        a, b = a.to(dtype).float(), b.to(dtype).float(); exact, by = loss_and_gradient(torch.float64); loss, grad = loss_and_gradient(dtype)
        assert loss.item() == pytest.approx(exact.item(), rel=1e-4) and (grad - by).abs().max() < .01*by.abs().max()


def test_views_and_weights_are_channels_last():
    seen = []
    class Watched(nn.Conv2d):
        def forward(self, x): seen.append((x.is_contiguous(memory_format=torch.channels_last), self.weight.is_contiguous(memory_format=torch.channels_last))); return super().forward(x)
    SimCLR.small(nn.Sequential(Watched(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), watch_every=None, **quiet).fit(pictures(40, 16)); assert len(seen) > 2 and all(a and b for a, b in seen[2:])


def test_operators_that_expand():
    class Grey(ViewOperator):
        name = 'always grey'
        def change(self, x, params): return x.mean(1, keepdim=True).expand_as(x)
    class Inverse(GaussianBlur):
        def change(self, x, params): return 1 - x
    for side in (16, 160):                                                             # (blur has a way of its own for large images)
        x = pictures(5, side).images; grey = (x.float()/255).mean(1, keepdim=True).expand_as(x); m, s = (torch.tensor(o)[:, None, None] for o in ((.1, .2, .3), (.5, .6, .7)))
        torch.testing.assert_close(Augment(Grey(), Normalize((.1, .2, .3), (.5, .6, .7)))(x, seed=0), (grey - m)/s, rtol=0, atol=1e-5)
        torch.testing.assert_close(Augment(Inverse(5, p=1))(x, seed=0), 1 - x.float()/255, rtol=0, atol=1e-6)


def test_more_bands_than_pixels(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (3, 11, 11, 200), dtype=np.uint8)
    assert ImageSet(x).shape == (3, 200, 11, 11) and torch.equal(ImageSet(x).images, torch.from_numpy(x).permute(0, 3, 1, 2))
    for i, a in enumerate(x): np.save(tmp_path/f'{i}.npy', a)
    assert torch.equal(ImageSet.from_folder(tmp_path, channels=200, cache=False, progress=False).images, ImageSet(x).images)


def test_a_disk_without_room(tmp_path, monkeypatch):
    for i in range(3): Image.new('RGB', (8, 8), (i, 0, 0)).save(tmp_path/f'{i}.png')
    read = partial(ImageSet.from_folder, tmp_path, progress=False); store = tmp_path/'kept'; store.mkdir()
    def full(*_): raise OSError(errno.ENOSPC, 'No space left on device')
    if hasattr(os, 'posix_fallocate'):
        with monkeypatch.context() as m:
            m.setattr(os, 'posix_fallocate', full)
            with pytest.raises(OSError, match='no room for .* GB of decoded pictures'): read(cache=store)
    with monkeypatch.context() as m, pytest.raises(OSError, match='No space left'): m.setattr(np.memmap, 'flush', full); read(cache=tmp_path/'other')          # the index is written when the pixels are on the disk
    assert not list((tmp_path/'other').rglob('*.*'))
    with monkeypatch.context() as m:                                                   # where nothing can be reserved
        m.delattr(os, 'posix_fallocate', raising=False); m.setattr(folders.shutil, 'disk_usage', lambda _: type('U', (), dict(free=10)))
        with pytest.raises(OSError, match='no room for .* GB of decoded pictures'): read(cache=store)
    assert not list(store.rglob('*.bin')) and torch.equal(read(cache=store).images, read(cache=False).images) and len(list(store.rglob('*.bin'))) == 1


def test_networks_of_five_dimensions():
    class Deep(nn.Module):
        def __init__(self): super().__init__(); self.conv, self.flat = nn.Conv3d(1, 4, 3), nn.Conv2d(4, 4, 3)
        def forward(self, x): return self.flat(self.conv(x[:, None]).squeeze(2)).mean((2, 3))
    ims = pictures(40, 8, 2)
    for train in (lambda e: SimCLR.small(e, **quiet).fit(ims), lambda e: DeepCluster.small(e, n_clusters=9, augment=None, **quiet).fit(ims), lambda e: supervised(e, ims, epochs=1, batch_size=20, progress=False)):
        torch.manual_seed(0); e = Deep(); before = e.conv.weight.detach().clone(); train(e); assert not torch.equal(e.conv.weight, before)


def test_losses_with_a_memory(tmp_path):
    class Centred(nn.Module):
        def __init__(self): super().__init__(); self.register_buffer('centre', torch.zeros(64))
        def forward(self, z1, z2):
            with torch.no_grad(): self.centre.mul_(.9).add_(z1.mean(0)[:64], alpha=.1)
            return nt_xent(z1 - self.centre, z2 - self.centre, .2)
    def run(epochs, **kw): return SimCLR.small(flat(64), loss=Centred(), projection_head=0, watch_every=None, **quiet | dict(epochs=epochs)).fit(pictures(40), **kw).encoder
    whole = run(4); file = tmp_path/'run.pt'
    def stop(s, rec, hist):
        if rec['epoch'] == 1: raise StopTraining
    run(4, checkpoint=file, callbacks=[stop]); went_on = run(4, checkpoint=file, resume=True)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), went_on.parameters()))


def test_digests_of_what_has_no_order():
    assert list({0, 8}) != list({8, 0}) and _stamp({0, 8}) == _stamp({8, 0}) != _stamp({0, 9})


def test_labels_that_are_large():
    def table(y): a, b = pictures(40), pictures(20, seed=1); return evaluate({}, ImageSet(a.images, torch.tensor(y).repeat(10)), ImageSet(b.images, torch.tensor(y).repeat(5)), measures='knn', bootstrap=0)
    assert table([10**12, 10**12, 7, 10**12]).rows[0]['knn'] == table([1, 1, 0, 1]).rows[0]['knn'] == .75


def test_output_of_any_name(tmp_path):
    "Standard output of another encoding, and a name that is no UTF-8"
    with open(tmp_path/'out', 'w', encoding='cp1252', newline='') as f:
        old, sys.stdout = sys.stdout, f
        try: apply._out('λ × \udcff\r\n')
        finally: sys.stdout = old
    assert (tmp_path/'out').read_bytes() == 'λ × '.encode() + b'\xff\r\n'


def test_pictures_of_networks_with_a_head():
    "Batch norms of one dimension stay as they are; so does a network that a script holds"
    torch.manual_seed(0); enc = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()); net = nn.Sequential(enc, projection_head(8, 2, 16)).eval(); ims = pictures(12)
    assert top_images(net, ims, '0.0', 4)['indices'].shape == (8, 4) and len(layers_of(net, 8)) > 5 and receptive_field(net, '0.0', 8)[0][2] == 3
    torch.testing.assert_close(maximise(net, Logit(3), size=8, steps=4, seed=0).activation, maximise(torch.jit.script(net), Logit(3), size=8, steps=4, seed=0).activation, rtol=1e-3, atol=1e-5)


def test_switches_of_cudnn_stay():
    c = torch.backends.cudnn; before = c.enabled, c.benchmark, c.deterministic; c.enabled = False; conv = getattr(c, 'conv', None); was = getattr(conv, 'fp32_precision', None)
    try:
        if was is not None: conv.fp32_precision = 'ieee'                               # set for one operator there is no word for all
        net = nn.Sequential(nn.Conv2d(3, 4, 3)); seen = []; maximise(net, Channel('0', 1), size=8, steps=2, callback=lambda *_: seen.append(c.enabled)); receptive_field(net, '0', 8); assert seen and not any(seen) and not c.enabled and (was is None or conv.fp32_precision == 'ieee')
    finally:
        if was is not None: conv.fp32_precision = was
        c.enabled, c.benchmark, c.deterministic = before


def test_networks_that_count_their_channels():
    class Tutorial(nn.Module):
        def __init__(self): super().__init__(); self.in_channels = 3; self.conv = nn.Conv2d(self.in_channels, 8, 3); self.in_channels = 64
        def forward(self, x): return self.conv(x)
    for net in (Tutorial(), nn.Sequential(alexnet('small', None, seed=0, sobel=True)), nn.Sequential(Sobel(), nn.Conv2d(2, 4, 3), nn.AdaptiveAvgPool2d(1))): assert len(layers_of(net, 32)) and maximise(net, Logit(0) if isinstance(net, nn.Sequential) else Channel('conv', 0), size=32, steps=1, r=()).images.shape == (1, 3, 32, 32)


def test_networks_that_draw():
    class Noisy(nn.Module):
        def __init__(self): super().__init__(); torch.manual_seed(0); self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
        def forward(self, x): h = self.a(x); return self.b(h + torch.randn_like(h))
    net = Noisy(); torch.manual_seed(5); one = maximise(net, Channel('b', 1), size=8, steps=4).images; drawn = torch.rand(1); torch.manual_seed(5); assert torch.equal(torch.rand(1), drawn) and torch.equal(maximise(net, Channel('b', 1), size=8, steps=4).images, one)


def test_no_twins_on_both_sides():
    a, b = digit_on_photo('digit', n=40), digit_on_photo('digit', split='test', n=40); assert not torch.equal(a.values['background'], b.values['background'])


def test_patches_of_other_filters():
    net, ims = alexnet('small', None, seed=0), pictures(300, 32); top = top_images(net, ims, 'conv3', 9); p = top_patches(net, ims, 'conv3', top); few = {k: v[:4] for k, v in top.items()}
    with pytest.raises(ValueError, match='^images must be the patches of these 4 filters'): show_top_images(p, few)
    torch.testing.assert_close(top_patches(net, ims, 'conv3', few)[1], p[1][:4], rtol=0, atol=1e-5); assert (p[1].amax((1, 2, 3)) > .5).double().mean() > .9; show_top_images(p, top); plt.close('all')


def test_figures_in_figures():
    fig = plt.figure(); show_grid(torch.rand(4, 3, 5, 5), titles=list('abcd'), ax=fig.subfigures(1, 2)[0].subplots()); plt.close(fig)
    Player(lambda fig, seed: show_grid(torch.rand(2, 3, 5, 5), titles=list('ab'), ax=fig.subplots()), (3, 3), seed=(0, 3)).strip([{}, {}]); plt.close('all')
    for bad in (lambda: play_kmeans().strip([dict(sede=1)]), lambda: Player(lambda fig, seed: 1/0, (3, 3), seed=(0, 3)).draw()):
        with pytest.raises((ValueError, ZeroDivisionError)): bad()
    assert not plt.get_fignums(); play_kmeans(X[:5, :2]).draw(); plt.close('all')


def test_what_is_missing_and_what_is_frozen():
    plot_bars([dict(k=1, y=None, sd=None), dict(k=2, y=.5, sd=.1)], 'k', 'y', err='sd'); plt.close('all')
    net = alexnet('small', None, seed=0); assert layer_table(net.requires_grad_(False), 32) == layer_table(alexnet('small', None, seed=0), 32)


def test_pictures_of_networks_in_half_precision():
    class Big(nn.Module):                                          # sums over its map leave float16's range
        def __init__(self): super().__init__(); self.conv = nn.Conv2d(3, 2, 1)
        def forward(self, x): return self.conv(x) + 30
    net = Big().half(); got = responses(net, Channel('conv', 0), pictures(3, 64))
    assert torch.isfinite(got).all()
    with torch.no_grad(): net.conv.weight.zero_(); net.conv.bias.fill_(30.)
    assert responses(net, Channel('conv', 0), pictures(2, 64)).flatten().tolist() == [30.*64*64]*2


def test_layers_that_are_no_maps_of_the_images():
    class Named(nn.Module):
        def __init__(self): super().__init__(); self.input, self.rest = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
        def forward(self, x): return self.rest(self.input(x))
    for f in (lambda n: maximise(n, Channel('input', 0), size=12, steps=1), lambda n: top_images(n, pictures(4, 12), 'input', 2)):
        with pytest.raises(ValueError, match="'input'"): f(Named())
    with pytest.raises(ValueError, match="which means the images"): top_images(nn.Sequential(nn.Conv2d(3, 4, 3)), pictures(4, 12), 'input', 2)
    maximise(nn.Sequential(Named()), Channel('0.input', 0), size=12, steps=1)

    class Crops(nn.Module):                                        # two rows an image
        def __init__(self): super().__init__(); self.conv = nn.Conv2d(3, 4, 3)
        def forward(self, x): return self.conv(torch.cat([x, x.flip(-1)]))
    for f in (lambda: maximise(Crops(), Channel('conv', 0), size=12, steps=1), lambda: maximise(Crops(), [Channel('conv', 0), Channel('conv', 1)], size=12, steps=1), lambda: top_images(Crops(), pictures(4, 12), 'conv', 2)):
        with pytest.raises(ValueError, match='one an image is wanted'): f()

    class Last(nn.Module):                                         # channels last, as in ConvNeXt's blocks
        def __init__(self): super().__init__(); self.conv, self.norm = nn.Conv2d(3, 8, 3), nn.LayerNorm(8)
        def forward(self, x): return self.norm(self.conv(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    with pytest.raises(ValueError, match='N×H×W×C'): maximise(Last(), Channel('norm', 0), size=12, steps=1)
    assert list(layers_of(Last(), 12)) == ['conv']


def test_a_square_for_the_network_and_an_oblong_picture():
    with pytest.raises(ValueError, match='input_size is the side of a square'): maximise(nn.Sequential(nn.Conv2d(3, 4, 3)), Channel('0', 0), size=(12, 24), input_size=12, steps=1)
    with pytest.raises(ValueError, match='4 channels'): explorer(nn.Sequential(nn.Conv2d(4, 4, 3)), size=12)


def test_similarities_of_a_collapse_are_drawn():
    ax = plot_similarities(torch.tensor([[6., 6, 6], [-6, -6, -6]]*10), [0, 1]*10)          # cosines a hair above 1
    assert sum(p.get_height() > 0 for p in ax.patches) == 2; plt.close(ax.figure)


def test_the_gap_of_points_in_half_precision():
    X = torch.tensor([1000., 1000.5, 1003., 1003.5]).repeat(20)[:, None]
    a, b = (gap_statistic(X.to(t), [1, 2], n_refs=2, random_state=0)[1]['log_w'] for t in (torch.float16, torch.float32)); assert abs(a - b) < 1e-4


def test_losses_that_are_still_tensors_are_drawn():
    ax = plot_curves([dict(epoch=i, loss=torch.tensor(1./(i + 1), requires_grad=True)) for i in range(3)]); assert [len(o.get_xdata()) for o in ax.lines] == [3]; plt.close(ax.figure)
    with pytest.raises(ValueError, match='no number to draw'): plot_curves([dict(epoch=0, note='a')])


def test_grades_of_several_folders(tmp_path):
    for s in 'ab': (tmp_path/s).mkdir(); (tmp_path/s/'kmeans.ipynb').write_text(json.dumps(_answered('kmeans')), encoding='utf-8')
    t = grade([tmp_path/'a', tmp_path/'b', tmp_path/'b'/'kmeans.ipynb'])['kmeans']
    assert len(t.rows) == 2 == len({r['notebook'] for r in t.rows})


def test_names_outside_the_machines_encoding(tmp_path, monkeypatch):
    write_exercises(tmp_path/'in'/'Мария', only='kmeans')
    with open(tmp_path/'out', 'w', encoding='cp1252') as f, monkeypatch.context() as m: m.setattr(sys, 'stdout', f); code = exercises_main(['--grade', str(tmp_path/'in'), '--csv', str(tmp_path/'g.csv')])
    assert code == 0 and 'Мария' in (tmp_path/'g.csv').read_text(encoding='utf-8') and 'Мария' in (tmp_path/'out').read_text(encoding='utf-8')


def test_small_points_and_settings_of_all_kinds(tmp_path):
    fig = play_kmeans(1e-3*np.random.default_rng(0).standard_normal((40, 2))).draw(step=1); assert np.ptp(fig.axes[0].get_xlim()) < .01; plt.close(fig)
    save_results('odd', [dict(a=1)], tmp_path, seeds=range(3), device=torch.device('cpu')); assert load_results('odd', tmp_path)['settings'] == dict(seeds='range(0, 3)', device='cpu')
    torch.set_default_device('meta')
    try: assert uniform_reference(np.zeros((9, 2)) + np.arange(9)[:, None]).shape == (9, 2)
    finally: torch.set_default_device(None)


def test_maps_with_channels_last_are_not_averaged_over_them():
    class Last(nn.Module):
        def __init__(self): super().__init__(); self.conv = nn.Conv2d(3, 8, 3)
        def forward(self, x): return self.conv(x).permute(0, 2, 3, 1)
    with pytest.raises(ValueError, match='N×H×W×C'): embed(Last(), pictures(4, 12), pool=1)
    assert embed(Last(), pictures(4, 12)).shape == (4, 800)
    wide = ImageSet(torch.randint(0, 256, (4, 3, 12, 8), dtype=torch.uint8)); same = Last(); same.conv = nn.Conv2d(3, 16, 1)
    with pytest.raises(ValueError, match='N×H×W×C'): embed(same, wide, pool=1)
    assert embed(nn.Conv2d(3, 16, 1), wide, pool=1).shape == (4, 16)


def test_an_encoder_trained_inside_a_wrapper_keeps_the_normalisation():
    images = pictures(9, 32)
    for wrap in (nn.DataParallel, lambda e: torch.compile(e, backend='eager')): enc = build_encoder('convnet'); _remember(wrap(enc), images); assert torch.equal(enc.mean, images.mean)


def test_labels_as_they_come_and_seeds_of_any_size():
    a, b = pictures(40, classes=2), pictures(20, classes=2, seed=1); kw = dict(measures='knn', untrained=0, bootstrap=0, with_labels=dict(epochs=1, batch_size=20))
    assert evaluate(flat().requires_grad_(False), a, b, **kw).rows[-1] == evaluate(flat(), a, b, **kw).rows[-1]              # frozen to be judged, trained to be compared with
    with pytest.raises(ValueError, match='classes that train has'): evaluate({}, a, b.with_labels(b.labels + 2), measures='knn', bootstrap=0)
    with pytest.warns(UserWarning, match='10 of 20 test'): evaluate({}, a, b.with_labels(b.labels + 1), measures='knn', bootstrap=0)
    s = pictures(40).with_labels(2024010100 + np.arange(40) % 2); net = flat(); supervised(net, s, **quiet)                   # a head of two, not of two thousand million
    with warnings.catch_warnings(): warnings.filterwarnings('error', message='.*few for'); DeepCluster.small(flat(), n_clusters=5, augment=None, **quiet).fit(s)
    supervised(flat(), a, seed=2**62, **quiet); evaluate(flat(), a, b, measures=('few', 'alignment'), few=(5,), untrained=0, bootstrap=0, seed=2**62)


def test_a_softmax_behind_the_head():
    with pytest.raises(ValueError, match='LogSoftmax'): headless(nn.Sequential(nn.Flatten(), nn.Linear(192, 32), nn.Linear(32, 10), nn.LogSoftmax(1)))
    class Attends(nn.Module):
        def __init__(self): super().__init__(); self.soft, self.head = nn.Softmax(1), nn.Linear(4, 2)
    assert isinstance(headless(Attends()).head, nn.Identity)


def test_pairs_under_other_labels_and_classes_that_are_no_numbers():
    s = digit_on_photo('digit', n=40); assert torch.equal(s.task('background').pairs(torch.arange(4), seed=3), s.pairs(torch.arange(4), seed=3))
    with pytest.raises(TypeError, match='whole numbers'): FactorPairs(dict(angle=[0., .5]), None, 'angle')


def test_fewer_draws_than_clusters():
    assert len(torch.cat([uniform_sample(torch.arange(100), 10) for _ in range(20)]).unique()) > 50


def test_a_set_whose_two_files_differ_in_age(tmp_path):
    s = pictures(6, classes=2); s.save(tmp_path); old = (tmp_path/'set.json').read_bytes(); assert torch.equal(ImageSet.load(tmp_path).images, s.images)
    s[[5, 4, 3, 2, 1, 0]].save(tmp_path); (tmp_path/'set.json').write_bytes(old)
    with pytest.raises(ValueError, match='damaged'): ImageSet.load(tmp_path)
    meta = json.loads(old); del meta['pixels']; (tmp_path/'set.json').write_text(json.dumps(meta)); ImageSet.load(tmp_path)          # written before there was a digest


def test_classes_that_share_a_name():
    assert ImageSet(pictures(4).images, [0, 1, 2, 1], ['crane', 'dog', 'crane']).only('crane').labels.tolist() == [0, 2]


def test_pixels_kept_by_other_rules_are_read_again(tmp_path, monkeypatch):
    folder, k, n = classes(tmp_path/'f', 'ab'), tmp_path/'k', []; ImageSet.from_folder(folder, cache=k); real = folders._decode
    monkeypatch.setattr(folders, '_decode', lambda *a: (n.append(1), real(*a))[1]); ImageSet.from_folder(folder, cache=k); assert not n
    monkeypatch.setattr(folders, '_made', 'other'); ImageSet.from_folder(folder, cache=k); assert len(n) == 6 and len(list(k.rglob('*.bin'))) == 1


@pytest.mark.skipif(os.name == 'nt', reason='links and rights as POSIX has them')
def test_links_and_rights(tmp_path):
    d = classes(tmp_path/'f', 'ab'); (d/'loop').symlink_to('loop')
    with pytest.warns(UserWarning, match='could not be read'): assert len(ImageSet.from_folder(d, on_error='skip')) == 6
    if os.geteuid():
        (d/'cat'/'young').mkdir(parents=True); (d/'cat').chmod(0o444)
        try: assert ('cat/young', 'Permission denied') in folders.scan_folder(d)[1]
        finally: (d/'cat').chmod(0o755)


def test_a_strip_of_pixels(tmp_path):
    Image.new('RGB', (2_000_000, 1), (9, 99, 200)).save(tmp_path/'a.png'); assert open_image(tmp_path/'a.png', 224).flatten(1).unique(dim=1).flatten().tolist() == [9, 99, 200]
    x = np.random.default_rng(0).integers(0, 256, (4, 301, 3), dtype=np.uint8); Image.fromarray(x).save(tmp_path/'b.png')          # the middle is that of the whole strip
    whole = Image.fromarray(x).resize((602, 8), Image.Resampling.BICUBIC).crop((297, 0, 305, 8)); assert np.array_equal(open_image(tmp_path/'b.png', 8).permute(1, 2, 0).numpy(), np.asarray(whole))


def test_processes_that_see_different_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(apply.World, 'counts', lambda self, *n: [list(n), [n[0], n[1] + 1]])
    with pytest.raises(ValueError, match='different pictures'): apply.learn_folder(classes(tmp_path/'p', 'ab'), tmp_path/'o', epochs=1, cache=None, progress=False, device='cpu')


def test_stopped_while_the_report_is_written(tmp_path, monkeypatch):
    d, how = classes(tmp_path/'p', 'ab'), dict(epochs=1, size=16, cache=None, progress=False, device='cpu')
    def stop(*_): raise KeyboardInterrupt
    with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt): m.setattr(apply, '_report', stop); apply.learn_folder(d, tmp_path/'o', **how)
    assert apply.learn_folder(d, tmp_path/'o', **how, resume=True).exists() and not (tmp_path/'o'/'run.pt').exists()


def test_a_place_that_takes_no_result_is_refused_first(tmp_path):
    (tmp_path/'file').write_text('')
    with pytest.raises(OSError, match='out: nothing can be written'): apply.embed_folder(tmp_path/'nowhere', tmp_path/'nothing', tmp_path/'file'/'f.npz')


def test_a_run_whose_functions_have_changed_is_another():
    def told(*o): g = dict(__name__='mine'); exec('T = {}\ndef helper(x): return x*{}\ndef loss(a, b): return helper(a)/T'.format(*o), g); return _told(g['loss'])
    assert len({told(1, 1), told(2, 1), told(1, 2)}) == 3 and told(1, 1) == told(1, 1)
    def counting(n): g = dict(__name__='mine'); exec(f'calls = {n}\ndef loss(a):\n    global calls\n    calls += 1\n    return a', g); return _told(g['loss'])
    assert counting(0) == counting(5)                              # what a function counts for itself changes along its run
    def built(body): g = dict(__name__='mine', nn=nn); exec(f'class Net(nn.Module):\n    def forward(self, x): return {body}', g); return _built(g['Net']())
    def held(v): g = dict(__name__='mine', nn=nn); exec(f'class Net(nn.Module):\n    gain, calls = {v}, {v}\n    def forward(self, x): type(self).calls = type(self).calls + 1; return x*self.gain', g); return _built(g['Net']())
    def counted(v): g = dict(__name__='mine', nn=nn); exec(f'class Net(nn.Module):\n    calls = {v}\n    def forward(self, x): type(self).calls += 1; return x', g); return _built(g['Net']())
    def own(what, body): g = dict(__name__='mine', Operator=ViewOperator, nn=nn); exec(f"class Mine({what}):\n    name = 'mine of mine'\n    def change(self, x, params): return {body}\n    def forward(self, x, y): return {body}", g); return _told(Augment(g['Mine']()) if what == 'Operator' else g['Mine']())
    for what in ('Operator', 'nn.Module', 'object'): assert own(what, 'x') == own(what, 'x') != own(what, '1 - x'), what
    assert held(1) != held(2) and counted(1) == counted(2) and _told(eval('lambda x,*,s=2: s*x')) != _told(eval('lambda x,*,s=3: s*x'))
    assert built('x') == built('x') != built('2*x') and _built(flat()) == _built(flat())


def test_a_run_goes_on_with_its_own_loss_alone(tmp_path):
    def run(body, callbacks=()):
        g = dict(__name__='mine'); exec(f'def inner(a): return {body}\ndef loss(a, b): return (inner(a) - b).square().mean()', g)
        return SimCLR.small(flat(), loss=g['loss'], views=Augment(RandomHorizontalFlip()), random_state=0, **quiet | dict(epochs=2)).fit(pictures(40), callbacks=callbacks, checkpoint=tmp_path/'run.pt', resume=True)
    def stop(*_): raise StopTraining
    run('a', [stop])
    with pytest.raises(ValueError, match='another run'): run('a + 1')
    assert len(run('a').history_) == 2


def test_a_refused_fit_leaves_what_was_there(tmp_path):
    rgb, grey = pictures(40), ImageSet(torch.randint(0, 256, (40, 1, 8, 8), dtype=torch.uint8)); other = tmp_path/'other.pt'
    for new in (lambda: SimCLR.small(flat(), views=Augment(RandomHorizontalFlip()), random_state=0, **quiet), lambda: DeepCluster.small(flat(), n_clusters=4, pca_dim=2, **quiet)):
        run = new().fit(rgb); before, x = dict(vars(run)), run.transform(rgb); new().fit(pictures(41), checkpoint=other)
        for bad in (lambda: run.fit(grey), lambda: run.fit(rgb, checkpoint=other, resume=True)):
            with pytest.raises((ValueError, RuntimeError)): bad()
            assert all(v is before[k] for k,v in vars(run).items()) and torch.equal(run.transform(rgb), x)
        other.unlink(); other.with_name(other.name + '.before').unlink(missing_ok=True)
    for head,word in ((lambda h: (h, h), 'tuple'), (lambda h: h.sum(), r'\(\)')):
        class Head(nn.Module):
            def __init__(self): super().__init__(); self.f = head
            def forward(self, h): return self.f(h)
        with pytest.raises(ValueError, match=f'projection_head must give one tensor.*{word}'): SimCLR.small(flat(), projection_head=Head(), **quiet).fit(rgb)
    with pytest.raises(ValueError, match='views must normalise'): SimCLR.small(flat(), views=Augment(Normalize([.5]*3, [.2]*3)), **quiet).fit(grey)


def test_views_within_views():
    x = torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8); a = Augment(simclr_cifar(24), RandomSolarize()); assert torch.equal(a(x, seed=7), a(x, seed=7)) and 'crop' in a.draw(2, (32, 32))
    with pytest.raises(TypeError, match='Views'): Augment(Views(simclr_cifar(24)))
    v = Augment(lambda x: torch.cat([x, 1 - x, 0*x], 1), RandomGrayscale(1))(torch.rand(2, 1, 4, 4)); assert torch.equal(v[:, 0], v[:, 1]) and torch.equal(v[:, 0], v[:, 2])
    v = Augment(lambda x: torch.cat([x, 1 - x, 0*x], 1), ColorJitter(hue=(.5, .5), p=1))(torch.full((1, 1, 4, 4), .9)); assert not torch.allclose(v[:, 2], torch.zeros(1, 4, 4))
    torch.set_default_device('meta')
    v = Views(Augment(*simclr_cifar(24).ops, GaussianBlur()))
    try: got = v(x, seed=3)
    finally: torch.set_default_device(None)
    assert all(torch.equal(p, q) for p,q in zip(got, v(x, seed=3)))


def test_truths_under_autocast():
    pair = GaussianPair(128, .5); a,b = pair.sample(8, torch.Generator().manual_seed(0)); whole = pair.log_ratio(a, b)
    with torch.autocast('cpu', torch.bfloat16): assert torch.equal(pair.log_ratio(a, b), whole)


def test_batch_norms_of_several_processes(monkeypatch):
    class Two(World):
        def __init__(self): super().__init__(); self.size = 2
    class BNReLU(nn.BatchNorm2d):
        def forward(self, x): return torch.relu(super().forward(x))
    with pytest.raises(ValueError, match='BNReLU'):
        with whole_batch_norm(nn.Sequential(BNReLU(2)), Two()): pass
    monkeypatch.setattr(torch.distributed, 'all_reduce', lambda t: None); x = torch.randn(6, 3, 4, 4)                 # as if the other process had no rows
    bn = nn.BatchNorm2d(3); nn.init.normal_(bn.weight); bn.register_parameter('bias', None)
    with whole_batch_norm(nn.Sequential(bn), Two()) as net: got = net(x)
    torch.testing.assert_close(got, torch.nn.functional.batch_norm(x, None, None, bn.weight, None, True))
    with pytest.raises(ValueError, match='more than 1 value'):
        with whole_batch_norm(nn.Sequential(nn.BatchNorm1d(3)), Two()) as net: net(torch.randn(1, 3))
    monkeypatch.setattr(torch.distributed, 'all_reduce', lambda t: t.data.mul_(2)); x = torch.ones(1, dtype=torch.float64, requires_grad=True)
    (one,) = torch.autograd.grad((_Sum.apply(x)**2).sum(), x, create_graph=True); assert float(one) == 8 and float(torch.autograd.grad(one.sum(), x)[0]) == 8


def test_numbers_of_processes():
    row = dict(method='deepcluster', train=100., features=200., views=300., size=224, kept=1e6, parameters=10**6, width=4096, kmeans=1e9)
    got = sizing(row, 8); assert all(v > 0 for k,v in got.items() if k != 'method')
    assert sizing({k: v for k,v in row.items() if k not in ('width', 'kmeans')} | dict(method='simclr'), 8)['epoch'] > 0


def test_a_cache_that_cannot_be_written_costs_no_features(tmp_path, monkeypatch):
    net, ims = flat(), pictures(9); want = embed(net, ims)
    def full(*a, **k): raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(np, 'save', full)
    with pytest.warns(UserWarning, match='not kept'): assert torch.equal(embed(net, ims, cache=tmp_path), want)


def test_attributes_that_are_named_like_hooks_and_lists_of_two_kinds():
    a, b = pictures(30, classes=2), pictures(30, classes=2, seed=1); net = flat(); net.my_hooks = []; f = embed(net, a), embed(net, b)
    evaluate(net, a, b, measures='knn', untrained=0)
    with pytest.raises(TypeError, match="'x'.*both"): evaluate({'x': [net, f]}, a, b, measures='knn', untrained=0)
    with pytest.raises(ValueError, match='uniformity'): evaluate(net, a, b[:1], measures=['uniformity'], untrained=0)


def test_a_flipped_bit_in_an_encoders_file(tmp_path):
    f = save_encoder(build_encoder('convnet', 8, width=(4, 8)), tmp_path/'e.safetensors'); load_encoder(f); raw = bytearray(f.read_bytes()); raw[-2] ^= 64; f.write_bytes(raw)
    with pytest.raises(ValueError, match='damaged'): load_encoder(f)
    old = f.read_bytes()
    def broken(graph, path): open(path, 'wb').write(b'half'); raise OSError('no room')
    with pytest.MonkeyPatch.context() as m, pytest.raises(OSError): m.setattr(torch.export, 'save', broken); export_encoder(build_encoder('convnet', 8, width=(4, 8)), f.with_suffix('.pt2'))
    assert not f.with_suffix('.pt2').exists() and f.read_bytes() == old


def test_what_can_be_refused_is_refused_before_the_folder_is_read(tmp_path, monkeypatch):
    def never(*a, **k): pytest.fail('the folder was read')
    for name in ('embed_folder', '_read'): monkeypatch.setattr(apply, name, never)
    enc = build_encoder('convnet', 8, width=(4, 8)); real = tmp_path/'a.png'; Image.new('RGB', (8, 8)).save(real)
    with pytest.raises(FileNotFoundError): apply.neighbours_folder(tmp_path, enc, [real, 'mistyped.png'], device='cpu')
    with pytest.raises(IsADirectoryError): apply.look_folder(tmp_path, enc, tmp_path, device='cpu')
    with pytest.raises(ValueError, match='seed'): apply.cluster_folder(tmp_path, enc, seed=-1, device='cpu')
    monkeypatch.setitem(sys.modules, 'pyarrow', None)
    with pytest.raises(ImportError, match='pyarrow'): apply.cluster_folder(tmp_path, enc, out=tmp_path/'t.parquet', device='cpu')


def test_bands_that_look_like_rows(tmp_path):
    for i in range(3): np.save(tmp_path/f'{i}.npy', np.random.default_rng(i).integers(0, 256, (8, 16, 8), dtype=np.uint8))
    s = ImageSet.from_folder(tmp_path, None, channels=8); want = torch.from_numpy(np.load(tmp_path/'1.npy')).permute(2, 0, 1)
    assert s.shape == s[:3].shape == (3, 8, 8, 16) and torch.equal(s.images[1], want); s.save(tmp_path/'kept'); assert torch.equal(ImageSet.load(tmp_path/'kept').images[1], want)


def test_networks_that_flatten_by_view_are_looked_into():
    assert list(layers_of(LeNet(), 16)) == ['conv', 'fc']
    assert maximise(nn.Sequential(nn.Conv2d(3, 16, 7)), Channel('0', 0), size=(30, 45), steps=1).images.shape == (1, 3, 30, 45)          # 16 maps of 24×39: not N×H×W×C
    net = nn.Sequential(nn.Conv2d(3, 8, 3)); top = top_images(net, pictures(12), '0', k=4)
    with pytest.raises(ValueError, match='axs must hold one axes a filter'): show_top_images(pictures(12), top, axs=plt.subplots(1, 3)[1])
    plt.close('all')


def test_classes_that_come_in_turn():
    y = torch.arange(1999) % 2; ax = plot_similarities(nn.functional.one_hot(y).float(), y); assert ax.get_title() == '1.00'; plt.close(ax.figure)


def test_notebooks_that_are_none(tmp_path):
    path, = write_exercises(tmp_path, only='views'); good = json.loads(path.read_text(encoding='utf-8')); cell = dict(cell_type='code', source='', outputs=[])
    for i,c in enumerate((cell | dict(source=[1]), cell | dict(outputs=[dict(output_type='stream', text=None)]), cell | dict(outputs=[dict(data={'text/plain': None})]), cell | dict(outputs=[dict(data={'application/vnd.dl4ia.verdict+json': dict(exercise=['x'])})]))):
        (tmp_path/f'odd {i}.ipynb').write_text(json.dumps(good | dict(cells=[c])), encoding='utf-8')
    assert path.stem in str(grade(tmp_path))


def test_an_optimizer_of_another_kind_in_an_older_file(tmp_path):
    net = nn.Linear(2, 1); save_run(tmp_path/'r.pt', net, torch.optim.SGD(net.parameters(), .1)); ck = torch.load(tmp_path/'r.pt', weights_only=True)
    for k in ('kinds', 'digest'): ck.pop(k)
    torch.save(ck, tmp_path/'r.pt')
    with pytest.raises(ValueError, match='another kind'): load_run(tmp_path/'r.pt', net, torch.optim.Adam(net.parameters()))


def test_an_interrupt_between_two_stores(tmp_path, monkeypatch):
    (tmp_path/'in').mkdir(); rng = np.random.default_rng(0)
    for i in range(3): Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(tmp_path/'in'/f'{i}.png')
    def interrupted(*a, **k):
        if a[2] == 'c': raise KeyboardInterrupt
        return real(*a, **k)
    real = np.memmap
    with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt): m.setattr(folders.np, 'memmap', interrupted); ImageSet.from_folder(tmp_path/'in', None, cache=tmp_path/'cache')
    with monkeypatch.context() as m: m.setattr(folders, '_decode', lambda *a: pytest.fail('decoded again')); assert len(ImageSet.from_folder(tmp_path/'in', None, cache=tmp_path/'cache')) == 3


def test_sets_and_players_that_are_asked_for_what_they_have_not(tmp_path):
    s = FactorPairs(dict(a=[0, 1], b=[0, 1, 2]), lambda v, g: (v['a']*100)[:, None, None, None].expand(-1, 3, 8, 8).to(torch.uint8), 'a', n=6); s.save(tmp_path/'s'); assert type(FactorPairs.load(tmp_path/'s')) is ImageSet
    with pytest.raises(ValueError, match='step must be a whole number'): play_kmeans(X[:, :2]).draw(step=2.5)
    net = alexnet('small', None, sobel=True, hidden=16); fig = play_maps(net, pictures(4, 32)).draw(layer='conv1'); assert len(fig.axes) == 4; plt.close(fig)

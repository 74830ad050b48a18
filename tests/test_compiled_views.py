"Views in machine code: the same bits with and without, when the loops are loaded, and where they must stay away"
import os, platform, subprocess, sys, threading
from functools import partial
import pytest, torch
from conftest import loaded, without_and_with

pytest.importorskip('numba')
from dl4ia_nbdev.data import ImageSet
from dl4ia_nbdev.encoders import ConvNet
from dl4ia_nbdev.simclr import SimCLR
from dl4ia_nbdev.views import Augment, ColorJitter, GaussianBlur, Normalize, Operator, RandomGrayscale, RandomHorizontalFlip, RandomResizedCrop, RandomSolarize, Views, _loops, simclr_cifar, simclr_imagenet


def pictures(n, size, seed=0): return (torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed))*255).byte()


@pytest.fixture(autouse=True)
def there():
    "The loops are there in each test"
    with loaded(_loops) as they_are:
        if not they_are:
            assert (platform.system(), platform.machine()) != ('Linux', 'x86_64')
            pytest.skip('PyTorch rounds otherwise here, and goes without the loops')
        yield


both = partial(without_and_with, _loops)


@pytest.mark.parametrize('size', [7, 24, 32, 96, 140, 224])
@pytest.mark.parametrize('images', [1, 9, 60])
def test_the_same_bits(size, images):
    x = pictures(images, size); recipe = simclr_imagenet(size) if size > 32 else simclr_cifar(size)
    a, b = both(lambda: torch.cat(Views(recipe, normalize=([.5]*3, [.2]*3))(x, seed=1))); assert torch.equal(a, b)


@pytest.mark.parametrize('C', [1, 2, 3, 13])
@pytest.mark.parametrize('kind', ['bytes', 'floats', 'columns first', 'every other', 'one image many times'])
def test_crops_of_any_channels_and_layout(C, kind):
    x = (torch.rand(10, C, 150, 41, generator=torch.Generator().manual_seed(4))*255).byte()
    if kind != 'bytes': x = x.float()/255
    x = {'columns first': lambda: x.mT.contiguous().mT, 'every other': lambda: x[::2], 'one image many times': lambda: x[:1].expand(10, -1, -1, -1)}.get(kind, lambda: x)()
    for size in ((160, 77), (30, 50), (70, 100), (1, 5)):
        make = Augment(RandomResizedCrop(size), RandomHorizontalFlip(), ColorJitter(.4, .4, .4), RandomGrayscale(), *[GaussianBlur(7)]*(size[0] > 3))
        a, b = both(lambda: make(x, seed=3)); assert torch.equal(a, b), size


@pytest.mark.parametrize('shape', [(1, 1), (1, 9), (9, 1), (2, 300)])
def test_crops_of_hardly_any_pixels(shape):
    x = torch.rand(6, 3, *shape, generator=torch.Generator().manual_seed(5))
    for v in (x, (255*x).byte()):
        for size in ((300, 300), (1, 20), (2, 1)):
            make = Augment(RandomResizedCrop(size), RandomHorizontalFlip(), ColorJitter.strength(1.))
            a, b = both(lambda: make(v, seed=3)); assert torch.equal(a, b)


def test_many_portions_of_operators_that_return_what_they_like():
    x = pictures(60, 150)
    for ops in ((), (ColorJitter.strength(1.), RandomHorizontalFlip(1.), RandomSolarize(p=1.), Normalize([.5]*3, [.2]*3)), (lambda v: v*.5, RandomGrayscale())):
        make = Augment(RandomResizedCrop(140), *ops)
        a, b = both(lambda: make(x, seed=3)); assert torch.equal(a, b)
        a, b = both(lambda: make(x.half()/255, seed=3)); assert torch.equal(a, b)


def test_views_are_tensors_of_their_own():
    x, learnable = pictures(4, 32), torch.nn.Parameter(torch.tensor(2.))
    for n in (1, 4): v = Augment(RandomResizedCrop(24))(x[:n], seed=0); v.mul_(learnable); assert v.requires_grad


def test_operators_without_the_usual_parameters():
    class Own(RandomGrayscale):
        def draw(self, n, shape, generator=None): return dict(level=torch.rand(n, generator=generator))
        def apply(self, x, params): return x*params['level'][:, None, None, None]
    class Forwards:
        __name__ = 'forwards'
        def __getattr__(self, k): return getattr(GaussianBlur(5), k)
        def __call__(self, x): return x*.5
    x = pictures(4, 140); _loops.asked = False
    for op in (Own(), Forwards()): a, b = both(lambda: Augment(op)(x, seed=0)); assert torch.equal(a, b)


def test_floats_that_shrink_and_operators_of_ones_own():
    x = pictures(30, 60).float()/255
    class Mixed(Operator):
        name = 'mixed'
        def change(self, x, params): return (x.flatten(2).mT @ x.new_tensor([[.8, .1, .1], [.1, .8, .1], [.1, .1, .8]])).mT.reshape(x.shape)
    class Noise(Operator):
        name = 'noise'
        def change(self, x, params): return (x + .1*torch.rand(x.shape)).clamp(0, 1)
    for ops in ((), (Mixed(),), (Noise(),)):
        make = Augment(RandomResizedCrop(32), ColorJitter.strength(1.), *ops, RandomGrayscale())
        def f(): torch.manual_seed(0); return make(x, seed=1)
        a, b = both(f); assert torch.equal(a, b)


def outcome(f):
    try: return f()
    except Exception as e: return type(e)

def by_hand(n=4, **other):
    return dict(applied=torch.ones(n, dtype=torch.bool), brightness=torch.full((n,), 1.2), contrast=torch.full((n,), .7), saturation=torch.full((n,), .4), hue=torch.full((n,), .1), order=torch.tensor([[2, 0, 3, 1]]).repeat(n, 1)) | other

@pytest.mark.parametrize('other', [dict(), dict(applied=torch.full((4,), 255, dtype=torch.uint8)), dict(applied=torch.ones(4)), dict(order=torch.tensor([[2, 0, 1]]).repeat(4, 1)), dict(order=torch.tensor([[1, 1, 2, 3]]).repeat(4, 1)), dict(order=torch.tensor([[0, 1, 2, 0]]).repeat(4, 1)), dict(order=torch.tensor([[0, 1, 2, 9]]).repeat(4, 1)),
                                   dict(brightness=torch.full((4,), 1.2, dtype=torch.float64), hue=torch.full((4,), .4)), dict(contrast=torch.full((4,), 2)), dict(contrast=torch.full((4,), .7, requires_grad=True)), {k: v[:1] for k, v in by_hand().items()}], ids=str)
@pytest.mark.parametrize('hue', [0., .2])
def test_parameters_given_by_hand(other, hue):
    "Machine code minds no bounds: what is not as drawn goes the plain way, with what that gives or raises"
    x = pictures(4, 20).float()/255; op = ColorJitter(.4, .4, .4, hue)
    with torch.no_grad(): a, b = both(lambda: outcome(lambda: op.apply(x.clone(), by_hand(**other))))
    assert a is b if isinstance(a, type) else torch.equal(a, b)


@pytest.mark.parametrize('applied', [torch.full((4,), 255, dtype=torch.uint8), torch.full((4,), -1), torch.full((4,), .5), torch.ones(2, dtype=torch.bool), torch.ones(9, dtype=torch.bool)], ids=str)
def test_masks_given_by_hand(applied):
    x = pictures(4, 140).float()/255
    for op, more in ((RandomGrayscale(1), {}), (GaussianBlur(5, p=1), dict(sigma=torch.ones(len(applied))))):
        a, b = both(lambda: outcome(lambda: op.apply(x.clone(), dict(applied=applied) | more)))
        assert a is b if isinstance(a, type) else torch.equal(a, b)


@pytest.mark.parametrize('change', [lambda x: x[::2], lambda x: x.repeat(2, 1, 1, 1)])
@pytest.mark.parametrize('op', [GaussianBlur(5, p=1.), RandomGrayscale(.5), ColorJitter.strength(1., p=1.)], ids=lambda o: o.name)
def test_a_function_that_loses_or_adds_images(change, op):
    with pytest.raises(ValueError, match='as many images'): Augment(change, op)(pictures(4, 140), seed=0)


def test_any_number_of_threads_gives_the_same_bits():
    x, threads = pictures(40, 140), torch.get_num_threads()
    try:
        got = []
        for n in (1, 2): torch.set_num_threads(n); got += both(lambda: simclr_imagenet(140)(x, seed=2))
    finally: torch.set_num_threads(threads)
    for o in got[1:]: assert torch.equal(got[0], o)


def test_loaded_in_the_middle_of_a_training():
    images = ImageSet(pictures(64, 32))
    def fit(callbacks=()):
        net = ConvNet((8, 16)); net.load_state_dict(start)
        return SimCLR.small(net, epochs=3, batch_size=32, views=simclr_cifar(32), random_state=0, progress=False, watch_every=None).fit(images, callbacks=callbacks)
    start = ConvNet((8, 16)).state_dict(); code = _loops.code
    def change(*_): _loops.code = None if _loops.code else code
    a, b = both(fit); _loops.code = code; c = fit([change])
    for o in (b, c): assert [h['loss'] for h in a.history_] == [h['loss'] for h in o.history_]; assert all(torch.equal(p, q) for p, q in zip(a.encoder.state_dict().values(), o.encoder.state_dict().values()))


def test_loaded_after_a_second_of_changes_that_it_would_shorten():
    _loops.code, _loops.asked, _loops.spent = None, False, 2.
    for x, f in ((pictures(2, 140).double()/255, simclr_imagenet(140)), (pictures(2, 140), Augment(lambda x: x, Normalize([.5], [.2])))): f(x, seed=0)
    assert not _loops.asked
    want = simclr_imagenet(140)(pictures(2, 140), seed=0); assert _loops.asked and _loops.code is not None
    with torch.autocast('cpu'): assert torch.equal(want, simclr_imagenet(140)(pictures(2, 140), seed=0))


@pytest.mark.parametrize('how', ['float64', 'meta'])
def test_loaded_under_other_defaults(how):
    "torch.set_default_dtype, torch.set_default_device"
    _loops.code, _loops.asked, x = None, False, pictures(4, 140)
    try:
        if how == 'float64': torch.set_default_dtype(torch.float64)
        else: torch.set_default_device('meta')
        assert _loops.load()
        torch.set_default_device(None); v = simclr_imagenet(140)(x, seed=0); torch.set_default_device('meta' if how == 'meta' else None); assert torch.equal(simclr_imagenet(140)(x, seed=0), v)
    finally: torch.set_default_dtype(torch.float32); torch.set_default_device(None)


@pytest.mark.parametrize('name', ['_crop', '_shrink', '_colours', '_blur', '_shares_threads'])
def test_loops_that_are_wrong_are_not_used(name, monkeypatch):
    from dl4ia_nbdev import compiled_views
    monkeypatch.setattr(compiled_views, name, lambda *a: None)
    assert not _loops.load() and _loops.code is None


def test_from_several_threads_at_once():
    x = pictures(20, 140); want = simclr_imagenet(140)(x, seed=0); got = []
    def make():
        for _ in range(5): got.append(simclr_imagenet(140)(x, seed=0))
    threads = [threading.Thread(target=make) for _ in range(3)]
    for t in threads: t.start()
    for t in threads: t.join()
    assert len(got) == 15 and all(torch.equal(want, o) for o in got)


def test_an_operator_of_ones_own_is_asked():
    class Sepia(RandomGrayscale):
        def change(self, x, params): return x*0 + .25
    class Sharp(GaussianBlur):
        def change(self, x, params): return x*0 + .5
    x = pictures(3, 140)
    assert (Sepia(1)(x) == .25).all() and (Sharp(5, p=1)(x) == .5).all()


def test_images_that_want_gradients():
    x = torch.rand(2, 3, 140, 20, requires_grad=True)
    for op in (GaussianBlur(5, p=1.), ColorJitter.strength(1., p=1.), RandomGrayscale(1.)):
        v = op(x.detach(), seed=0)
        with torch.no_grad(): assert torch.equal(op.apply(torch.nn.Parameter(x.detach().clone()), op.draw(2, (140, 20), torch.Generator().manual_seed(0))), v)


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='no fork here')
def test_a_loaders_workers_go_without():
    code = '''
import torch
from dl4ia_nbdev.views import _loops, simclr_imagenet
torch.set_num_threads(1); assert _loops.load()
x = torch.rand(4, 3, 140, 140, generator=torch.Generator().manual_seed(0)); make = simclr_imagenet(140); want = make(x, seed=0)
class Seen(torch.utils.data.Dataset):
    def __len__(self): return 2
    def __getitem__(self, i): return _loops.code is None, make(x, seed=0)
for none, got in torch.utils.data.DataLoader(Seen(), 1, num_workers=1, multiprocessing_context='fork'): assert none.all() and torch.equal(got[0], want)
assert _loops.code is not None'''
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=120)
    assert out.returncode == 0, out.stderr

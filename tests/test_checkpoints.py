"Weights from elsewhere: files in other layouts, made up here, must load into networks that compute what the files say."
import pickle, types, warnings

import pytest
import torch
import torch.nn.functional as F

from dl4ia_nbdev.alexnet import AlexNet, alexnet, load_checkpoint
from dl4ia_nbdev.train import save_run, save_weights

NARROW = dict(widths=(6, 8, 10, 12, 8), hidden=16)
FULL = dict(widths=(96, 256, 384, 384, 256), hidden=4096)
PLACES = dict(deepcluster=(0, 4, 8, 11, 14), torchvision=(0, 3, 6, 8, 10))


def numbers(gen, *shape, std=.1):
    "Random weights; a wide matrix is a view of a short row of numbers, so that a file of 60 million parameters is small"
    if len(shape) < 2 or shape[0]*shape[1] < 10**6: return torch.randn(*shape, generator=gen)*std
    return (torch.randn(shape[0] + shape[1], generator=gen)*std/30).as_strided(shape, (1, 1))


def fabricate(layout='deepcluster', widths=NARROW['widths'], hidden=16, classes=7, sobel=True, counted=False, seed=0):
    "A state dict under the plain names of a layout"
    gen = torch.Generator().manual_seed(seed)
    sd, c = {}, 2 if sobel else 3
    for i, w, k in zip(PLACES[layout], widths, (11, 5, 3, 3, 3)):
        sd |= {f'features.{i}.weight': torch.randn(w, c, k, k, generator=gen)*(2/(k*k*c))**.5, f'features.{i}.bias': numbers(gen, w)}
        if layout == 'deepcluster':
            sd |= {f'features.{i+1}.weight': 1 + numbers(gen, w), f'features.{i+1}.bias': numbers(gen, w), f'features.{i+1}.running_mean': numbers(gen, w), f'features.{i+1}.running_var': 1 + numbers(gen, w)**2}
            if counted: sd[f'features.{i+1}.num_batches_tracked'] = torch.tensor(5)
        c = w
    for n, o, i in (('classifier.1', hidden, c*36), ('classifier.4', hidden, hidden)): sd |= {f'{n}.weight': numbers(gen, o, i), f'{n}.bias': numbers(gen, o)}
    head = 'top_layer' if layout == 'deepcluster' else 'classifier.6'
    if classes: sd |= {f'{head}.weight': numbers(gen, classes, hidden), f'{head}.bias': numbers(gen, classes)}
    if layout == 'deepcluster' and sobel:
        sd |= {'sobel.0.weight': torch.full((1, 3, 1, 1), 1/3), 'sobel.0.bias': torch.zeros(1), 'sobel.1.bias': torch.zeros(2),
               'sobel.1.weight': torch.tensor([[[[1., 0, -1], [2, 0, -2], [1, 0, -1]]], [[[1., 2, 1], [0, 0, 0], [-1, -2, -1]]]])}
    return sd


def forward(sd, x, layout='deepcluster'):
    "What the file's network computes, from its numbers alone"
    res = {}
    if 'sobel.0.weight' in sd: x = F.conv2d(F.conv2d(x, sd['sobel.0.weight'], sd['sobel.0.bias']), sd['sobel.1.weight'], sd['sobel.1.bias'], padding=1)
    for n, i in enumerate(PLACES[layout], 1):
        if n in (2, 3): x = F.max_pool2d(x, 3, 2)
        x = F.conv2d(x, sd[f'features.{i}.weight'], sd[f'features.{i}.bias'], stride=4 if n == 1 else 1, padding=(2, 2, 1, 1, 1)[n-1])
        if layout == 'deepcluster': x = F.batch_norm(x, *(sd[f'features.{i+1}.{k}'] for k in ('running_mean', 'running_var', 'weight', 'bias')))
        x = res[f'conv{n}'] = F.relu(x)
    res['fc6'] = F.relu(F.linear(F.max_pool2d(x, 3, 2).flatten(1), sd['classifier.1.weight'], sd['classifier.1.bias']))
    res['fc7'] = F.linear(res['fc6'], sd['classifier.4.weight'], sd['classifier.4.bias'])
    head = 'top_layer' if layout == 'deepcluster' else 'classifier.6'
    res['out'] = F.linear(F.relu(res['fc7']), sd[f'{head}.weight'], sd[f'{head}.bias']) if f'{head}.weight' in sd else res['fc7']
    return res


def same(net, sd, layout='deepcluster', n=2):
    "The network's taps and output equal the file's"
    x = torch.rand(n, 3, 224, 224, generator=torch.Generator().manual_seed(1))*4 - 2
    assert not net.training
    with torch.no_grad(): mine, his = net.taps(x) | dict(out=net(x)), forward(sd, x, layout)
    for k, v in his.items():
        assert mine[k].shape == v.shape
        assert (mine[k] - v).abs().max() <= 1e-5*v.abs().max(), k
    assert his['conv5'].std() > 0 and his['out'].std() > 0


def prefixed(sd, prefix): return {k.replace('features.', prefix) if 'features' in k else ('module.' + k if prefix.startswith('module') else k): v for k, v in sd.items()}


def write(path, sd, legacy=False, wrap=True, **kw):
    obj = dict(epoch=12, arch='alexnet', state_dict=sd, optimizer=dict(state={}, param_groups=[dict(lr=.05)])) if wrap else sd
    torch.save(obj, path, _use_new_zipfile_serialization=not legacy, **kw)
    return path


@pytest.mark.parametrize('legacy', [True, False])
@pytest.mark.parametrize('prefix', ['features.module.', 'features.', 'module.features.', 'module.features.module.'])
@pytest.mark.parametrize('sobel', [True, False])
def test_deepcluster_layout(tmp_path, legacy, prefix, sobel):
    "The authors' layout, narrow: with and without Sobel, with what DataParallel puts in front, in both of torch's formats, batches counted or not"
    sd = fabricate(sobel=sobel, counted=not legacy)
    f = write(tmp_path/'checkpoint.pth.tar', prefixed(sd, prefix), legacy)
    net = load_checkpoint(f, alexnet('deepcluster', 7, sobel=sobel, **NARROW))
    assert net.checkpoint_ == dict(layout='DeepCluster', missing=[], unexpected=[], left_out=[], epoch=12, arch='alexnet')
    same(net, sd, n=1)
    if not legacy: assert net.conv3[1].num_batches_tracked == 5


@pytest.mark.parametrize('sobel,classes', [(True, 12), (False, None)])
def test_deepcluster_full_size(tmp_path, sobel, classes):
    "The authors' widths: the variant is inferred, global random numbers are left alone"
    sd = fabricate(**FULL, classes=classes, sobel=sobel)
    f = write(tmp_path/'c.pth.tar', prefixed(sd, 'features.module.'), legacy=sobel)
    before = torch.get_rng_state()
    net = load_checkpoint(f)
    assert torch.equal(before, torch.get_rng_state()) and net.n_classes == classes
    same(net, sd, n=1)


def test_torchvision(tmp_path):
    "torchvision's own AlexNet, as a plain state dict and wrapped: the same output from its module and from ours"
    from torchvision.models import alexnet as theirs
    with torch.device('meta'): m = theirs(num_classes=9)
    sd = fabricate('torchvision', (64, 192, 384, 256, 256), 4096, 9, sobel=False)
    m.load_state_dict(sd, assign=True)
    f = write(tmp_path/'alexnet.pth', m.state_dict(), wrap=False)
    net = load_checkpoint(f)
    assert net.checkpoint_ == dict(layout='torchvision', missing=[], unexpected=[], left_out=[])
    same(net, sd, 'torchvision', n=1)
    x = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(): assert (net(x) - m.eval()(x)).abs().max() < 1e-5*net(x).abs().max()
    sd = fabricate('torchvision', sobel=False)
    same(load_checkpoint(write(tmp_path/'b.pth', prefixed(sd, 'module.features.'), legacy=True), alexnet('torchvision', 7, **NARROW)), sd, 'torchvision', n=1)


def test_own_files(tmp_path):
    "What save_weights wrote: the variant, its Sobel and its padding are inferred; DataParallel's prefix and torch's format do not matter"
    for kw in (dict(), dict(sobel=True), dict(sobel='zeros'), dict(n_classes=None), dict(in_channels=1), dict(in_channels=13, sobel=True)):
        net = alexnet('small', **(dict(n_classes=4, seed=1) | kw)).eval(); x = torch.rand(2, net.in_channels, 40, 40)
        back = load_checkpoint(save_weights(net, tmp_path/'w.safetensors', method='none'))
        assert back.checkpoint_ == dict(layout='dl4ia_nbdev', missing=[], unexpected=[], left_out=[], metadata=dict(method='none'))
        assert torch.equal(net(x), back(x)) and net.state_dict().keys() == back.state_dict().keys()
        torch.save({'module.' + k: v for k, v in net.state_dict().items()}, tmp_path/'w.pt')
        assert torch.equal(net(x), load_checkpoint(tmp_path/'w.pt')(x))
    with torch.device('meta'): shapes = {k: v.shape for k, v in alexnet('grouped', 3).state_dict().items()}
    gen = torch.Generator().manual_seed(0); sd = {k: numbers(gen, *s) for k, s in shapes.items()}
    torch.save(sd, tmp_path/'grouped.pt')
    net = load_checkpoint(tmp_path/'grouped.pt')
    assert net.conv2[0].groups == 2 and all(torch.equal(net.state_dict()[k], v) for k, v in sd.items() if 'conv' in k)


def test_padding_follows_the_file(tmp_path):
    "A DeepCluster file turns a given network's Sobel to zeros, its saved weights say so, and weights of a replicating Sobel turn it back"
    sd = fabricate(); net = alexnet('deepcluster', 7, seed=0, **NARROW)
    before = save_weights(net, tmp_path/'own.safetensors')
    load_checkpoint(write(tmp_path/'c.pth', sd), net)
    assert net.front.padding == 'zeros'
    back = load_checkpoint(save_weights(net, tmp_path/'loaded.safetensors'), alexnet('deepcluster', 7, **NARROW))
    same(back, sd, n=1)
    assert load_checkpoint(before, back).front.padding == 'replicate' and 'front.pads_zeros' not in back.state_dict()


def test_half_precision_and_dtype(tmp_path):
    "Half-precision files are converted; whole numbers in place of weights are refused"
    sd = fabricate()
    net = load_checkpoint(write(tmp_path/'h.pth', {k: v.half() for k, v in sd.items()}), alexnet('deepcluster', 7, **NARROW))
    assert net.conv1[0].weight.dtype == torch.float32 and torch.equal(net.fc7[1].weight, sd['classifier.4.weight'].half().float())
    with pytest.raises(ValueError, match='features.0.weight holds torch.int64'): load_checkpoint(write(tmp_path/'i.pth', sd | {'features.0.weight': sd['features.0.weight'].long()}), net)


def test_files_of_python_2(tmp_path):
    "Python 2 pickled names as bytes; such files read the same"
    class Old(pickle._Pickler):
        dispatch = dict(pickle._Pickler.dispatch)
        def save_bytes_name(self, s):
            b = s.encode(); self.write(pickle.SHORT_BINSTRING + bytes([len(b)]) + b); self.memoize(s)
        dispatch[str] = save_bytes_name
    def dump(obj, f, protocol=2): Old(f, protocol).dump(obj)
    sd = fabricate()
    f = write(tmp_path/'py2.pth.tar', prefixed(sd, 'features.module.'), legacy=True, pickle_module=types.SimpleNamespace(__name__='python2', Pickler=Old, dump=dump), pickle_protocol=2)
    net = load_checkpoint(f, alexnet('deepcluster', 7, **NARROW))
    assert net.checkpoint_['epoch'] == 12 and net.checkpoint_['arch'] == 'alexnet'
    same(net, sd, n=1)


def refuse(path, text, net=None, kind=ValueError, **kw):
    "Loading is refused with `text`, and the network is left as it was"
    before = None if net is None else {k: v.clone() for k, v in net.state_dict().items()}
    mode = net is not None and net.training
    with pytest.raises(kind) as e: load_checkpoint(path, net, **kw)
    for t in [text] if isinstance(text, str) else text: assert t in str(e.value), str(e.value)
    if net is not None: assert mode == net.training and not hasattr(net, 'checkpoint_') and net.state_dict().keys() == before.keys() and all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_missing_and_unexpected(tmp_path):
    "Every key that differs is listed: an error when strict, else kept with a warning"
    sd = fabricate(); gone = [k for k in sd if k.startswith(('features.4', 'classifier.4'))]
    part = {k: v for k, v in sd.items() if k not in gone} | {'rotation.weight': torch.zeros(2), 'features.2.weight': torch.zeros(3)}
    f = write(tmp_path/'part.pth', prefixed(part, 'features.module.'))
    names = ['conv2.0.weight', 'conv2.0.bias', 'fc7.1.weight', 'fc7.1.bias', 'features.4.weight', 'rotation.weight', 'features.module.2.weight', 'strict=False']
    refuse(f, names, alexnet('deepcluster', 7, seed=0, **NARROW))
    net = alexnet('deepcluster', 7, seed=0, **NARROW); kept = net.conv2[0].weight.clone()
    with pytest.warns(UserWarning, match='missing conv2.0.weight'): load_checkpoint(f, net, strict=False)
    assert net.checkpoint_['missing'] == ['conv2.0.weight', 'conv2.0.bias', 'fc7.1.weight', 'fc7.1.bias'] and net.checkpoint_['unexpected'] == ['rotation.weight', 'features.module.2.weight']
    assert torch.equal(net.conv2[0].weight, kept) and torch.equal(net.conv1[0].weight, sd['features.0.weight'])
    many = {k: v for k, v in sd.items() if not k.startswith('features.')} | {'features.0.weight': sd['features.0.weight']}
    refuse(write(tmp_path/'many.pth', many), [k for k in alexnet('deepcluster', 7, **NARROW).state_dict() if k.startswith('conv') and 'tracked' not in k and k != 'conv1.0.weight'], alexnet('deepcluster', 7, **NARROW))
    small = alexnet('small', 4, seed=2); half = {k: v for k, v in small.state_dict().items() if not k.startswith('fc7')}; torch.save(half, tmp_path/'half.pt')
    refuse(tmp_path/'half.pt', 'missing fc7.1.weight, fc7.1.bias; unexpected none')
    with pytest.warns(UserWarning): net = load_checkpoint(tmp_path/'half.pt', strict=False)
    assert torch.equal(net.conv5[0].weight, small.conv5[0].weight) and net.checkpoint_['missing'] == ['fc7.1.weight', 'fc7.1.bias']


def test_shapes_and_heads(tmp_path):
    "A shape that differs is refused by name, strict or not; a network without a head leaves the file's out and says so"
    sd = fabricate(); f = write(tmp_path/'c.pth', prefixed(sd, 'features.module.'))
    for strict in (True, False):
        refuse(f, ['features.module.0.weight is (6, 2, 11, 11) in the file and (5, 2, 11, 11) in the network', 'features.module.4.weight'], alexnet('deepcluster', 7, widths=(5, 8, 10, 12, 8), hidden=16), strict=strict)
        refuse(f, ['top_layer.weight is (7, 16) in the file and (9, 16)', 'top_layer.bias', 'None to leave it out'], alexnet('deepcluster', 9, **NARROW), strict=strict)
        refuse(f, 'features.module.0.weight is (6, 2, 11, 11)', alexnet('deepcluster', 7, sobel=False, **NARROW), strict=strict)
        refuse(f, 'sobel.0.weight is (1, 3, 1, 1) in the file and (1, 1, 1, 1)', alexnet('deepcluster', 7, in_channels=1, **NARROW), strict=strict)
    net = load_checkpoint(f, alexnet('deepcluster', None, **NARROW))
    assert net.checkpoint_['left_out'] == ['top_layer.weight', 'top_layer.bias'] and net.checkpoint_['unexpected'] == []
    same(net, {k: v for k, v in sd.items() if 'top_layer' not in k}, n=1)
    bare = write(tmp_path/'bare.pth', fabricate(classes=None))
    refuse(bare, 'missing head.weight (top_layer.weight), head.bias (top_layer.bias)', alexnet('deepcluster', 7, **NARROW))


def test_front_end(tmp_path):
    "Biases that are not zero and a Sobel that is half there are refused by name; other kernels are taken as they are"
    sd = fabricate(); net = lambda: alexnet('deepcluster', 7, seed=0, **NARROW)
    for k in ('sobel.0.bias', 'sobel.1.bias'): refuse(write(tmp_path/'b.pth', sd | {k: sd[k] + .5}), f'{k} must be 0', net())
    refuse(write(tmp_path/'b.pth', {k: v for k, v in sd.items() if k != 'sobel.1.weight'}), 'missing front.kernel (sobel.1.weight)', net())
    refuse(write(tmp_path/'b.pth', {k: v for k, v in sd.items() if 'sobel' not in k}), 'missing front.grey (sobel.0.weight), front.kernel (sobel.1.weight)', net())
    other = sd | {'sobel.1.weight': sd['sobel.1.weight']*3, 'sobel.0.weight': torch.tensor([.2, .5, .3]).view(1, 3, 1, 1)}
    same(load_checkpoint(write(tmp_path/'o.pth', other), net()), other, n=1)


def test_no_variant_fits(tmp_path):
    "Without a network, a file of other widths asks for one; so does a file without conv1"
    refuse(write(tmp_path/'c.pth', fabricate()), ['DeepCluster layout) fits no variant', "(6, 2, 11, 11) in the file and (96, 2, 11, 11) in alexnet('deepcluster')", 'pass it as net'])
    refuse(write(tmp_path/'c.pth', {'classifier.1.bias': torch.zeros(4)}), ['no weights of conv1', 'pass it as net'])
    refuse(save_weights(alexnet('small', 4, hidden=9), tmp_path/'s.safetensors'), ['fits no variant', "alexnet('small')", 'pass it as net'])
    refuse(write(tmp_path/'c.pth', {'conv1.0.bias': torch.zeros(4), 'conv1.0.weight': torch.zeros(96, 3, 11, 11)[:4]}, wrap=False), 'pass it as net')


def test_wrong_files(tmp_path):
    "What is no file of weights is refused with its path, whatever it is"
    net = lambda: alexnet('small', 4)
    def case(name, obj=None, raw=None):
        if raw is None: torch.save(obj, tmp_path/name)
        else: (tmp_path/name).write_bytes(raw)
        return tmp_path/name
    refuse(tmp_path/'none.pth', ['path:', 'none.pth'], net(), FileNotFoundError)
    refuse(tmp_path, ['path:', 'is a folder'], net())
    refuse(case('empty', raw=b''), ['path:', 'is empty'], net())
    refuse(case('text.pth', raw=b'these are not weights, but words'), ['path:', 'text.pth cannot be read'], net())
    refuse(case('cut.pth', raw=case('whole.pth', net().state_dict()).read_bytes()[:5000]), ['path:', 'cannot be read'], net())
    refuse(case('cut.safetensors', raw=save_weights(net(), tmp_path/'w.safetensors').read_bytes()[:900]), ['path:', 'cannot be read'], net())
    refuse(case('list.pth', [torch.zeros(2)]), 'holds a list, not a state dict', net())
    refuse(case('tensor.pth', torch.zeros(2)), 'holds a Tensor, not a state dict', net())
    refuse(case('nothing.pth', {}), 'holds nothing', net())
    refuse(case('numbers.pth', dict(epoch=3)), "'epoch' is a int, not a tensor", net())
    refuse(case('resnet.pth', {'layer1.0.conv1.weight': torch.zeros(2)}), ['no AlexNet that is known', 'layer1.0.conv1.weight'], net())
    refuse(case('twice.pth', {'features.0.weight': torch.zeros(2), 'features.module.0.weight': torch.zeros(2)}), 'holds features.0.weight twice', net())
    save_run(tmp_path/'run.pt', net()); refuse(tmp_path/'run.pt', 'load_run reads it', net())
    with pytest.raises(TypeError, match='net must be an AlexNet'): load_checkpoint(tmp_path/'whole.pth', torch.nn.Linear(2, 2))
    with torch.device('meta'): hollow = net()
    with pytest.raises(ValueError, match='meta device'): load_checkpoint(tmp_path/'whole.pth', hollow)


def test_no_code_is_run(tmp_path):
    "A pickle that would run code is refused"
    class Evil:
        def __reduce__(self): return (open, (str(tmp_path/'ran'), 'w'))
    torch.save(dict(state_dict=Evil()), tmp_path/'evil.pth')
    refuse(tmp_path/'evil.pth', ['cannot be read', 'would run code'])
    torch.save(dict(state_dict=Evil()), tmp_path/'evil.pth', _use_new_zipfile_serialization=False)
    refuse(tmp_path/'evil.pth', 'would run code')
    assert not (tmp_path/'ran').exists()


def test_nothing_is_shared(tmp_path):
    "A quiet load gives no warning, and the loaded network can be trained"
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        net = load_checkpoint(write(tmp_path/'c.pth', fabricate()), alexnet('deepcluster', 7, **NARROW))
    assert isinstance(net, AlexNet)
    net.train()(torch.rand(2, 3, 64, 64)).sum().backward()
    assert net.conv1[0].weight.grad is not None

"""A GPU that is none: tensors that say they lie on `cuda:0` and are computed on the CPU, so that what would fail on a GPU for want of a device fails here too.

It refuses what a GPU refuses: operations between tensors of two devices (but for numbers, for places in brackets, and for copies from one to the other), a CPU's generator for numbers drawn there, numpy. It says nothing about speed or last digits."""
import contextlib, warnings

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

cuda = torch.device('cuda:0')
aten = torch.ops.aten
waits: list[str] = []          # what the processor had to wait for: the GPU to be done, or a copy
tasks: list[str] = []          # what the GPU was told to do
ASKS = {aten._local_scalar_dense, aten.nonzero, aten.equal, aten.masked_select, aten._unique2, aten.bincount, aten.repeat_interleave}        # what comes out depends on numbers
MIXED = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_, aten._unsafe_index, aten.copy_, aten._to_copy}        # a GPU takes these with a CPU's tensor


class OnGPU(torch.Tensor):
    "A tensor of the pretended GPU around one of the CPU, `elem`"
    @staticmethod
    def __new__(cls, elem):
        t = torch.Tensor._make_wrapper_subclass(cls, elem.shape, strides=elem.stride(), storage_offset=elem.storage_offset(), dtype=elem.dtype, layout=elem.layout, device='cpu')
        t.elem = elem
        return t
    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None): return run(func, args, kwargs or {})
    __torch_function__ = torch._C._disabled_torch_function_impl
    device, is_cuda, is_cpu = property(lambda self: cuda), property(lambda self: True), property(lambda self: False)
    def to(self, *args, **kw):
        if args and isinstance(args[0], torch.Tensor): device, dtype = args[0].device, args[0].dtype
        else: device, dtype, *_ = torch._C._nn._parse_to(*args, **{k: v for k, v in kw.items() if k != 'copy'})
        memory = kw.get('memory_format') or torch.preserve_format
        if is_gpu(device) or device is None: return super().to(dtype or self.dtype, copy=kw.get('copy', False), memory_format=memory)
        return aten._to_copy(self, dtype=dtype or self.dtype, device='cpu')
    def cpu(self): return self.to('cpu')
    def cuda(self): return self
    def numpy(self, *_, **__): raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first.")
    def __array__(self, *_, **__): return self.numpy()
    def tolist(self): waits.append('tolist'); return self.elem.tolist()
    def new_tensor(self, data, **kw): return torch.tensor(data, **(dict(dtype=self.dtype) | kw)).to(cuda)
    def __repr__(self, *, tensor_contents=None): return f'OnGPU({self.elem!r})'


def is_gpu(device): return device is not None and torch.device(device).type == 'cuda'


VIEWS = {aten.alias, aten.as_strided, aten.detach, aten.diagonal, aten.expand, aten.permute, aten.select, aten.slice, aten.split, aten.split_with_sizes, aten.squeeze, aten.t, aten.transpose, aten.unbind, aten.unsqueeze, aten.view, aten.view_as_real, aten._unsafe_view}


def note(func, args, kwargs, there, theirs):
    "Add to `tasks` and `waits`"
    name = func.overloadpacket
    if (there or theirs) and name not in VIEWS:
        lists = [o for o in args if isinstance(o, (list, tuple)) and o and isinstance(o[0], OnGPU)] if name.__name__.startswith('_foreach') else []
        alike = len({tuple((t.shape, t.stride(), t.dtype) for t in o) for o in lists}) < 2
        tasks.extend([name.__name__]*(1 if alike else len(lists[0])))          # (else one after the other)
    from_cpu = there and not theirs and name is aten._to_copy or name is aten.copy_ and there and not isinstance(args[1], OnGPU)
    pinned = name is aten._to_copy and kwargs.get('non_blocking') and getattr(args[0], 'pinned', False)
    by_places = name in MIXED - {aten.copy_, aten._to_copy} and theirs and any(isinstance(o, torch.Tensor) and (o.dtype == torch.bool or not isinstance(o, OnGPU)) for o in (*args[1], *args[2:3]))
    if from_cpu and not pinned or theirs and (not there or name in ASKS) or by_places: waits.append(str(func))


def pin(t):
    "A copy in memory that a GPU may read by itself"
    if getattr(t, 'pinned', False): return t
    t = torch.empty_strided(t.shape, t.stride(), dtype=t.dtype).copy_(t); t.pinned = True; return t


def run(func, args, kwargs):
    "An operation, as a GPU would do or refuse it"
    flat = tree_flatten((args, kwargs))[0]; name = func.overloadpacket
    theirs, plain = [o for o in flat if isinstance(o, OnGPU)], [o for o in flat if isinstance(o, torch.Tensor) and not isinstance(o, OnGPU)]
    if theirs and name not in MIXED and any(o.ndim for o in plain): raise RuntimeError(f"Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! ({func})")
    if theirs and name in MIXED and name not in (aten.copy_, aten._to_copy) and (not isinstance(args[0], OnGPU) or any(isinstance(o, torch.Tensor) and not isinstance(o, OnGPU) and o.ndim for o in args[2:3])): raise RuntimeError(f'indices should be either on cpu or on the same device as the indexed tensor (cpu), and values where it is ({func})')
    asked, g = kwargs.get('device'), kwargs.get('generator')
    there = isinstance(args[0], OnGPU) if name in (aten.copy_, aten.index) else is_gpu(asked) if asked is not None and (name is aten._to_copy or not theirs) else bool(theirs)
    if there and g is not None and g.device.type == 'cpu': raise RuntimeError(f"Expected a 'cuda' device type for generator but found 'cpu' ({func})")
    note(func, args, kwargs, there, theirs)
    back = {id(o.elem): o for o in theirs}
    args, kwargs = tree_map(lambda o: o.elem if isinstance(o, OnGPU) else o, (args, kwargs))
    if is_gpu(asked): kwargs['device'] = torch.device('cpu')
    out = func(*args, **kwargs)
    def placed(o): return back[id(o)] if id(o) in back else OnGPU(o) if isinstance(o, torch.Tensor) and not isinstance(o, OnGPU) else o
    return tree_map(placed, out) if there else out


class _Mode(TorchDispatchMode):
    "Makes what is asked to be made on the GPU there"
    def __torch_dispatch__(self, func, types, args=(), kwargs=None): return run(func, args, kwargs or {})


def _made(f):
    "`torch.tensor` or `torch.as_tensor`, which ask the driver for a device before anybody else is asked"
    def g(data, dtype=None, device=None): t = f(data, dtype=dtype); return t if device is None else t.to(device)
    return g


def _there(f):
    "A function that makes tensors of its own on the way, where it is told that it is"
    return lambda x, *args, **kw: OnGPU(f(x.elem, *args, **kw)) if isinstance(x, OnGPU) else f(x, *args, **kw)


def _to(f):
    "`to` of the CPU's tensors, which must know one that only says where it is, and shall not ask the driver which GPU is meant"
    def g(self, *args, **kw):
        if args and isinstance(args[0], OnGPU): device, dtype, later = cuda, args[0].dtype, False
        elif args and isinstance(args[0], torch.Tensor): return f(self, *args, **kw)
        else: device, dtype, later, _ = torch._C._nn._parse_to(*args, **{k: v for k, v in kw.items() if k != 'copy'})
        return aten._to_copy(self, dtype=dtype or self.dtype, device=cuda, non_blocking=later) if is_gpu(device) else f(self, *args, **kw)
    return g


@contextlib.contextmanager
def pretend_gpu():
    "Inside, `device='cuda'` works, as far as this goes"
    changed = [(torch.cuda, '_lazy_init', lambda: None), (torch.cuda, 'mem_get_info', lambda *_: (2**36, 2**36)),
               (torch, 'quantile', _there(torch.quantile)), (torch, 'tensor', _made(torch.tensor)), (torch, 'as_tensor', _made(torch.as_tensor)), (torch.Tensor, 'to', _to(torch.Tensor.to)), (torch.Tensor, 'pin_memory', pin), (torch.Tensor, 'is_pinned', lambda t: getattr(t, 'pinned', False))]; waits.clear(); tasks.clear()
    before = [(o, k, getattr(o, k)) for o, k, _ in changed]; overwrite = torch.__future__.get_overwrite_module_params_on_conversion()
    for o, k, f in changed: setattr(o, k, f)
    torch.__future__.set_overwrite_module_params_on_conversion(True)           # a module that is moved gets new parameters
    try:
        with warnings.catch_warnings(), _Mode():
            warnings.filterwarnings('ignore', message='.*CUDA is not available.*')
            yield cuda
    finally:
        for o, k, f in before: setattr(o, k, f)
        torch.__future__.set_overwrite_module_params_on_conversion(overwrite)

"Two processes that share every batch train as one process does"
import json, os, sys

import pytest

from conftest import root, run_in

script = '''
import json, os, sys, torch
from torch import nn
from dl4ia_nbdev.train import fit
torch.set_num_threads(1); torch.manual_seed(0)
X = torch.randn(64, 5); y = X @ torch.arange(5.) + 1
net = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1))
opt = torch.optim.SGD(net.parameters(), .05, momentum=.9)
hist = fit(net, [(X[i:i+16], y[i:i+16]) for i in range(0, 64, 16)], lambda m, b: (m(b[0])[:, 0] - b[1]).square().mean(), opt, epochs=3, progress=False)
if int(os.environ.get('RANK', 0)) == 0:
    json.dump(dict(loss=[h['loss'] for h in hist], w=[p.flatten().tolist() for p in net.parameters()], world=int(os.environ.get('WORLD_SIZE', 1))), open(sys.argv[1], 'w'))
if torch.distributed.is_initialized():
    torch.distributed.barrier(); torch.distributed.destroy_process_group()      # else a thread of gloo may outlive the interpreter
'''


def in_one_and_in_two(source, folder):
    "What the script writes to the file it is given, run by one process and by two"
    (folder/'script.py').write_text(source, encoding='utf-8')
    got = {}
    for n, launcher in ((1, []), (2, ['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2'])):
        p = run_in(root, sys.executable, *launcher, folder/'script.py', folder/f'{n}.json', timeout=120)
        assert p.returncode == 0, p.stdout[-3000:]
        got[n] = json.loads((folder/f'{n}.json').read_text())
    return got


@pytest.mark.skipif(os.name == 'nt', reason='gloo between processes is checked on Linux and macOS')
def test_two_processes_agree_with_one(tmp_path):
    got = in_one_and_in_two(script, tmp_path)
    assert (got[1]['world'], got[2]['world']) == (1, 2)
    assert got[1]['loss'] == pytest.approx(got[2]['loss'], rel=1e-4)
    for a, b in zip(got[1]['w'], got[2]['w']): assert a == pytest.approx(b, abs=1e-5)


loss_script = '''
import json, os, sys, torch
from torch import nn
torch.set_num_threads(1); torch.manual_seed(0)
rank, world = int(os.environ.get('RANK', 0)), int(os.environ.get('WORLD_SIZE', 1))
if world > 1: torch.distributed.init_process_group('gloo')
from dl4ia_nbdev.simclr import nt_xent
x1, x2 = torch.randn(24, 6), torch.randn(24, 6)
out = []
for tau in (.5, .01):
    net = nn.Linear(6, 5); nn.init.normal_(net.weight, generator=torch.Generator().manual_seed(1)); nn.init.zeros_(net.bias)
    mine = slice(rank*24//world, (rank + 1)*24//world)
    loss = nt_xent(net(x1[mine]), net(x2[mine]), tau, tile=7, gather=world > 1); loss.backward()
    g = torch.cat([p.grad.flatten() for p in net.parameters()])
    if world > 1: torch.distributed.all_reduce(g); g /= world                    # as DistributedDataParallel averages
    out.append(dict(loss=loss.item(), g=g.tolist()))
refused = ''
if world > 1:
    try: nt_xent(x1[:3 + rank], x2[:3 + rank], gather=True)
    except ValueError as e: refused = str(e)
if rank == 0: json.dump(dict(out=out, refused=refused), open(sys.argv[1], 'w'))
if world > 1: torch.distributed.barrier(); torch.distributed.destroy_process_group()
'''


@pytest.mark.skipif(os.name == 'nt', reason='gloo between processes is checked on Linux and macOS')
def test_loss_over_two_processes(tmp_path):
    "Half the batch in each of two processes: the loss and the gradients of one process with the whole"
    got = in_one_and_in_two(loss_script, tmp_path)
    assert 'one shape in all processes' in got[2]['refused']
    for a, b in zip(got[1]['out'], got[2]['out']):
        assert a['loss'] == pytest.approx(b['loss'], rel=1e-5)
        assert a['g'] == pytest.approx(b['g'], abs=2e-6*max(map(abs, a['g'])) + 1e-7)


simclr_script = '''
import json, os, sys, torch
torch.set_num_threads(1); torch.manual_seed(0)
from dl4ia_nbdev.data import photo_patches
from dl4ia_nbdev.encoders import ConvNet
from dl4ia_nbdev.simclr import SimCLR, projection_head
from dl4ia_nbdev.views import Augment, Views
images = photo_patches(32, 64)
views = Views(Augment(), Augment(lambda x: x.flip(-1)))                           # nothing random, so that processes can be compared
s = SimCLR(ConvNet((4, 8), norm=False), projection_head(8, norm=False), .2, views, epochs=2, batch_size=16, optimizer='sgd', lr=.1, watch_every=None, precision='float32', progress=False).fit(images)
if int(os.environ.get('RANK', 0)) == 0:
    json.dump(dict(loss=[h['loss'] for h in s.history_], collapsed=s.history_[0]['collapsed'], w=[p.flatten().tolist() for p in s.encoder.parameters()]), open(sys.argv[1], 'w'))
if torch.distributed.is_initialized(): torch.distributed.barrier(); torch.distributed.destroy_process_group()
'''


@pytest.mark.skipif(os.name == 'nt', reason='gloo between processes is checked on Linux and macOS')
def test_simclr_in_two_processes(tmp_path):
    "Each process augments and encodes half of every batch, negatives come from both: the weights are those of one process"
    got = in_one_and_in_two(simclr_script, tmp_path)
    assert got[1]['loss'] == pytest.approx(got[2]['loss'], rel=1e-4) and got[1]['collapsed'] == got[2]['collapsed']
    for a, b in zip(got[1]['w'], got[2]['w']): assert a == pytest.approx(b, abs=1e-4)

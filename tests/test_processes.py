"""Several processes train as one does: the same losses, gradients, clusters and features, whatever their number; and none waits for one that is gone.

One script does everything and is run by one, two and three processes on the CPU (gloo); each test compares a part of what it wrote.
"""
import json, os, signal, subprocess, sys, time
from pathlib import Path

import pytest

from conftest import root, run_in

pytestmark = pytest.mark.skipif(os.name == 'nt', reason='gloo between processes is checked on Linux and macOS')

script = '''
import json, os, sys, torch, warnings
from torch import nn
warnings.simplefilter('ignore'); torch.set_num_threads(1)
rank, size = int(os.environ.get('RANK', 0)), int(os.environ.get('WORLD_SIZE', 1))
from dl4ia_nbdev import simclr
from dl4ia_nbdev.data import photo_patches
from dl4ia_nbdev.deepcluster import DeepCluster, PCAWhiten
from dl4ia_nbdev.encoders import ConvNet
from dl4ia_nbdev.kmeans import KMeans
from dl4ia_nbdev.processes import World
from dl4ia_nbdev.simclr import SimCLR, attraction, nt_xent
from dl4ia_nbdev.train import StopTraining, fit
from dl4ia_nbdev.views import Augment, Views, simclr_cifar
world, out = World(), {}
weights = lambda m: torch.cat([p.detach().flatten() for p in m.state_dict().values()]).double().tolist()

# fit: batches of 16 with a last one of 2 rows, which three processes cannot share; batch norm; a layer that gets no gradient
class Net(nn.Module):
    def __init__(self): super().__init__(); self.net, self.unused = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1)), nn.Linear(2, 2)
    def forward(self, x): return self.net(x)[:, 0]
torch.manual_seed(0); X = torch.randn(66, 5); y = X @ torch.arange(5.) + 1; X, y, net = X.double(), y.double(), Net().double()
h = fit(net, [(X[i:i + 16], y[i:i + 16]) for i in range(0, 66, 16)], lambda m, b: ((m(b[0]) - b[1]).square().mean(), dict(error=(m.module if hasattr(m, 'module') else m).net[0].weight.detach().abs().mean())), torch.optim.SGD(net.parameters(), .05, momentum=.9), epochs=3, progress=False)
out['fit'] = dict(loss=[r['loss'] for r in h], error=[r['error'] for r in h], w=weights(net), unchanged=type(net.net[1]).__name__ + str('forward' in vars(net.net[1])))

# the loss: 25 pairs
torch.manual_seed(1); x1, x2 = torch.randn(25, 6), torch.randn(25, 6); out['loss'] = []
for tau, simclr._keep in ((.5, 0), (.5, 100), (.01, 100), (.5, 6 << 20), (.01, 6 << 20)):          # no tiles are kept, some, all
    lin = nn.Linear(6, 5); nn.init.normal_(lin.weight, generator=torch.Generator().manual_seed(1)); nn.init.zeros_(lin.bias)
    mine = world.part(25); n = mine.stop - mine.start
    loss = nt_xent(lin(x1[mine]), lin(x2[mine]), tau, tile=7, gather=size > 1); loss.backward()
    g = world.sum(torch.cat([p.grad.flatten() for p in lin.parameters()])*n/25)
    out['loss'].append(dict(loss=loss.item(), g=g.tolist()))
if size > 1:
    try: nt_xent(x1[:4, :3 + rank], x2[:4, :3 + rank], gather=True)
    except ValueError as e: out['refused'] = str(e)
    try: nt_xent(x1[:4*rank], x2[:4*rank], gather=True)                    # the first has none
    except ValueError as e: out['empty'] = str(e)
    with warnings.catch_warnings(record=True) as told: warnings.simplefilter('always'); nt_xent(x1, x2); out['asked'] = [str(w.message) for w in told]
    one = nn.Linear(6, 4)
    try: fit(one, [torch.cat([x1, x2], 1)[:size - 1]], lambda m, b: nt_xent(*m(b.view(-1, 6)).chunk(2), gather=True), torch.optim.SGD(one.parameters(), .1), progress=False)
    except ValueError as e: out['thin'] = str(e)
    nt_xent(x1, x2, gather=True)                                              # and all is as before

# SimCLR: random views, batch norm, batches of 17
images = photo_patches(32, 60)
for name, views, loss in (('simclr', simclr_cifar(), None), ('two recipes', Views(simclr_cifar(), Augment(lambda x: x.flip(-1))), None), ('attraction', simclr_cifar(), attraction)):
    torch.manual_seed(2)
    s = SimCLR(ConvNet((4, 8)), 2, .2, views, epochs=2, batch_size=17, optimizer='sgd', lr=.02, watch_every=1, precision='float32', progress=False, loss=loss).fit(images)
    out[name] = dict(loss=[r['loss'] for r in s.history_], std=[r['std_z'] for r in s.history_], w=weights(s.encoder))

# DeepCluster, in several manners
for name, kw in (('deepcluster', {}), ('match', dict(head='match', balance='loss', warm_start=True)), ('centroid', dict(head='centroid', balance=None, empty='farthest'))):
    torch.manual_seed(3)
    d = DeepCluster(ConvNet((4, 8, 64)), **(dict(n_clusters=7, epochs=2, batch_size=17, pca_dim=8, augment=None, knn_every=1, precision='float32', lr=.02, progress=False) | kw)).fit(images)
    out[name] = dict(loss=[r['loss'] for r in d.history_], nmi=[r['nmi_previous'] for r in d.history_][1:], knn=[r['knn'] for r in d.history_], labels=d.labels_.tolist(), w=weights(d.encoder), again=d.predict(images).tolist())

# K-means by parts, in both ways of finding the nearest; PCA by parts
g = torch.Generator().manual_seed(4); Z = torch.randn(3001, 32, generator=g)
for k, screen, empty in ((150, 'auto', 'split'), (9, 'none', 'keep')):
    km = KMeans(k, init='random', max_iter=8, tol=0., empty=empty, screen=screen, random_state=5); km._world = world; km.fit(Z)
    out[f'kmeans {k}'] = dict(labels=km.labels_.tolist(), inertia=[r['inertia'] for r in km.history_], centres=km.cluster_centers_.flatten().tolist())
for name, H in (('pca', torch.randn(301, 40, generator=g)), ('pca, few rows', torch.randn(31, 40, generator=g)), ('pca, random', torch.randn(1301, 1100, generator=g)*(3*.5**torch.arange(1100.)).clamp_min(.01))):
    p = PCAWhiten(6).fit(H[world.part(len(H))] if size > 1 else H, world); out[name] = dict(explained=p.explained_, z=p.transform(H[:20]).flatten().tolist())
# stopped after an epoch and taken up; and a loss that is no number in one process alone
def enough(*o): raise StopTraining
for name, make in (('simclr again', lambda: SimCLR(ConvNet((4, 8)), 2, .2, epochs=2, batch_size=17, optimizer='sgd', lr=.02, watch_every=None, precision='float32', progress=False)),
                   ('deepcluster again', lambda: DeepCluster(ConvNet((4, 8, 64)), n_clusters=7, epochs=2, batch_size=17, pca_dim=8, augment=None, precision='float32', lr=.02, progress=False))):
    file, later = f'{sys.argv[1]}.{name[:3]}', []
    torch.manual_seed(2); make().fit(images, callbacks=[enough], checkpoint=file)
    torch.manual_seed(2); a = make().fit(images, callbacks=[lambda m, r, h: later.append(r['epoch'])], checkpoint=file, resume=True)
    torch.manual_seed(2); b = make().fit(images)
    out[name] = later == [1] and weights(a.encoder) == weights(b.encoder)
one = nn.Linear(2, 1)
try: fit(one, [torch.ones(6, 2)], lambda m, b: m(b).mean()*(float('nan') if rank == size - 1 else 1.), torch.optim.SGD(one.parameters(), .1), progress=False)
except FloatingPointError: out['all refuse'] = True
z = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(rank)); z[0, 0, 0] = float('nan') if rank == size - 1 else 1.
try: nt_xent(*z, gather=True if size > 1 else None)
except ValueError as e: refusal = str(e)
out['not finite'] = [refusal]*size
if size > 1: torch.distributed.all_gather_object(out['not finite'], refusal)
every = [None]*size
if size > 1: torch.distributed.all_gather_object(every, json.dumps(out['deepcluster']['labels'] + out['simclr']['w'])); out['alike'] = len(set(every)) == 1
if rank == 0: json.dump(out, open(sys.argv[1], 'w'))
world.leave()
'''


def launched(n): return [sys.executable] + (['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', str(n)] if n > 1 else [])


@pytest.fixture(scope='module')
def got(tmp_path_factory):
    "What the script writes, run by one, two and three processes"
    folder = tmp_path_factory.mktemp('processes'); (folder/'script.py').write_text(script, encoding='utf-8'); res = {}
    for n in (1, 2, 3):
        p = run_in(root, *launched(n), folder/'script.py', folder/f'{n}.json', timeout=180)
        assert p.returncode == 0, p.stdout[-3000:]
        res[n] = json.loads((folder/f'{n}.json').read_text())
    return res


several = pytest.mark.parametrize('n', [2, 3])


@pytest.mark.parametrize('n', [1, 2, 3])
def test_taken_up_and_refused(got, n):
    "A stopped run goes on to the same weights; what one process must refuse all of them do, and none waits for ever"
    assert [got[n].get(o) for o in ('simclr again', 'deepcluster again', 'all refuse')] == [True]*3
    assert ['z1 must be finite' in o for o in got[n]['not finite']] == [False]*(n - 1) + [True] and all('finite' in o for o in got[n]['not finite'])


@several
def test_fit(got, n):
    "Loss, what is averaged with it, and weights; the module is left as it was"
    a, b = got[1]['fit'], got[n]['fit']
    assert a['loss'] == pytest.approx(b['loss'], rel=1e-9) and a['error'] == pytest.approx(b['error'], rel=1e-9)
    assert a['w'] == pytest.approx(b['w'], abs=1e-9) and a['unchanged'] == b['unchanged'] == 'BatchNorm1dFalse'


@several
def test_loss(got, n):
    "25 pairs in uneven parts: the loss and the gradients of one process with all of them"
    for a, b in zip(got[1]['loss'], got[n]['loss']):
        assert a['loss'] == pytest.approx(b['loss'], rel=1e-5)
        assert a['g'] == pytest.approx(b['g'], abs=2e-6*max(map(abs, a['g'])) + 1e-7)
    assert 'one width in all processes' in got[n]['refused'] and 'one pair in every process' in got[n]['empty'] and f'fewer pairs than the {n}' in got[n]['thin'] and ['gather' in o for o in got[n]['asked']] == [True]


@several
@pytest.mark.parametrize('name', ['simclr', 'two recipes', 'attraction'])
def test_simclr(got, n, name):
    "Batches of 17 in two and three parts, random views, batch norm: the weights and statistics of one process"
    a, b = got[1][name], got[n][name]
    assert a['loss'] == pytest.approx(b['loss'], rel=1e-4) and a['std'] == pytest.approx(b['std'], rel=1e-3)
    assert a['w'] == pytest.approx(b['w'], rel=1e-4, abs=2e-4)


@several
@pytest.mark.parametrize('name', ['deepcluster', 'match', 'centroid'])
def test_deepcluster(got, n, name):
    "The same cluster for every image, the same weights"
    a, b = got[1][name], got[n][name]
    assert a['labels'] == b['labels'] and a['again'] == b['again'] and a['knn'] == b['knn'] and a['nmi'] == pytest.approx(b['nmi'])
    assert a['loss'] == pytest.approx(b['loss'], rel=1e-4) and a['w'] == pytest.approx(b['w'], abs=2e-4)


@several
def test_kmeans_and_pca(got, n):
    for k in ('kmeans 150', 'kmeans 9'):
        a, b = got[1][k], got[n][k]
        assert a['labels'] == b['labels'] and a['inertia'] == pytest.approx(b['inertia'], rel=1e-9) and a['centres'] == pytest.approx(b['centres'], abs=1e-6)
    for k, tol in (('pca', 1e-5), ('pca, few rows', 1e-5), ('pca, random', 2e-2)): assert got[1][k]['explained'] == pytest.approx(got[n][k]['explained'], rel=tol) and got[1][k]['z'] == pytest.approx(got[n][k]['z'], abs=tol)


@several
def test_all_processes_have_the_same(got, n): assert got[n]['alike']


def start(folder, out, *more): return subprocess.Popen(list(map(str, [*launched(2), '-m', 'dl4ia_nbdev.apply', 'learn', folder, '--out', out, '--epochs', 6, '--encoder', 'convnet', '--size', 32, '--device', 'cpu', '--no-cache', *more])), cwd=root, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, env=os.environ | {'PYTHONPATH': str(root), 'OMP_NUM_THREADS': '1'})


def child(launcher, rank):
    "The number of the process with this rank"
    for p in Path('/proc').glob('[0-9]*'):
        try:
            if f'\0RANK={rank}\0' in '\0' + (p/'environ').read_text() and int((p/'stat').read_text().rsplit(')', 1)[1].split()[1]) == launcher.pid: return int(p.name)
        except (OSError, ValueError, UnicodeDecodeError): pass


def pictures(folder):
    from PIL import Image
    from dl4ia_nbdev.data import photo_patches
    folder.mkdir()
    for i, x in enumerate(photo_patches(32, 150).images): Image.fromarray(x.permute(1, 2, 0).numpy()).save(folder/f'{i}.png')
    return folder


def cut_short(tmp_path):
    "Start a run, kill its second process after an epoch; what was said"
    cut = start(tmp_path/'pictures', tmp_path/'cut'); t = time.time()
    while not (tmp_path/'cut'/'run.pt').exists(): assert cut.poll() is None and time.time() - t < 90, cut.communicate()[0][-3000:]; time.sleep(.005)
    os.kill(child(cut, 1), signal.SIGKILL); t = time.time()
    text = cut.communicate(timeout=60)[0]
    assert cut.returncode != 0 and time.time() - t < 45, text[-3000:]
    return text


in_proc = pytest.mark.skipif(not Path('/proc').is_dir(), reason='finds the processes in /proc')


@in_proc
def test_a_process_that_dies_stops_the_run(tmp_path):
    "Killed while it trains: the run ends at once, says what to do, and leaves a checkpoint"
    pictures(tmp_path/'pictures'); text = cut_short(tmp_path)
    assert '--resume goes on from there' in text and ('another process ended' in text or 'lost each other' in text), text[-3000:]
    assert (tmp_path/'cut'/'run.pt').exists() and not (tmp_path/'cut'/'encoder.safetensors').exists()


@in_proc
@pytest.mark.slow
def test_two_processes_go_on_after_a_death(tmp_path):
    "From its checkpoint to the end of a run that nobody disturbed, bit for bit"
    from dl4ia_nbdev.encoders import load_encoder
    pictures(tmp_path/'pictures'); cut_short(tmp_path)
    for out, more in (('whole', ()), ('cut', ('--resume',))): p = start(tmp_path/'pictures', tmp_path/out, *more); text = p.communicate(timeout=120)[0]; assert p.returncode == 0, text[-3000:]
    a, b = (load_encoder(tmp_path/o/'encoder.safetensors').state_dict() for o in ('whole', 'cut'))
    assert all(bool((a[k] == b[k]).all()) for k in a)

"Runs that are killed, files that are damaged: what a folder's training survives"
import json, os, random, re, subprocess, sys, time
from contextlib import contextmanager

import pytest
import torch
from PIL import Image

from conftest import root, run_in
from dl4ia_nbdev import apply
from dl4ia_nbdev.apply import learn_folder
from dl4ia_nbdev.data import photo_patches
from dl4ia_nbdev.encoders import ConvNet, load_encoder
from dl4ia_nbdev.simclr import SimCLR
from dl4ia_nbdev.train import _read_run

SCRIPT = """
import sys, torch
from dl4ia_nbdev.data import photo_patches
from dl4ia_nbdev.encoders import ConvNet
from dl4ia_nbdev.simclr import SimCLR
torch.set_num_threads(1); torch.manual_seed(0); net = ConvNet((8, 16)); images = photo_patches(16, 64); print('ready', flush=True)
SimCLR.small(net, epochs=40, batch_size=32, random_state=0, watch_every=None, progress=False).fit(images, checkpoint=sys.argv[1], resume=True)
print('done', flush=True)
"""


def start(file):
    p = subprocess.Popen([sys.executable, '-c', SCRIPT, str(file)], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert p.stdout.readline().strip() == 'ready', p.stderr.read()
    return p


def killed(tmp_path, times, seed=0):
    "Kill the training at random moments, look at its checkpoint each time, let it end at last: the weights of a run that nobody disturbed"
    rng, file, seen, most = random.Random(seed), tmp_path/'run.pt', 0, 0
    whole = tmp_path/'whole.pt'; p = start(whole); t = time.perf_counter(); out, err = p.communicate(timeout=120); lasts = time.perf_counter() - t; assert 'done' in out, err
    for _ in range(times):
        if seen > 30: file.unlink(); seen = 0                                         # nearly done: begin again
        p = start(file); time.sleep(rng.uniform(0, .6*lasts)); p.kill(); p.communicate()
        if file.exists(): seen = len(_read_run(file)['state']['history']); most = max(most, seen)             # readable, whatever moment it was
    assert most, 'no kill left a checkpoint behind: nothing was tested'
    p = start(file); out, err = p.communicate(timeout=120); assert 'done' in out, err
    a, b = _read_run(whole), _read_run(file)
    assert all(torch.equal(a['model'][k], b['model'][k]) for k in a['model']) and len(b['state']['history']) == 40


def test_killed_five_times(tmp_path): killed(tmp_path, 5)


@pytest.mark.slow
def test_killed_fifty_times(tmp_path): killed(tmp_path, 50, seed=1)


def fit(file, epochs, seed=0):
    torch.manual_seed(0); net = ConvNet((8, 16))
    return SimCLR.small(net, epochs=epochs, batch_size=32, random_state=seed, watch_every=None, progress=False).fit(photo_patches(16, 64), checkpoint=file, resume=True).encoder.state_dict()


def test_a_damaged_checkpoint_is_replaced_by_the_one_before(tmp_path):
    want = fit(tmp_path/'a.pt', 4); file = tmp_path/'b.pt'
    class Stop(Exception): pass
    def stop(m, rec, hist):
        if len(hist) == 4: raise Stop
    torch.manual_seed(0); net = ConvNet((8, 16))
    with pytest.raises(Stop): SimCLR.small(net, epochs=4, batch_size=32, random_state=0, watch_every=None, progress=False).fit(photo_patches(16, 64), callbacks=[stop], checkpoint=file)
    b = bytearray(file.read_bytes()); b[len(b)//2] ^= 255; file.write_bytes(b)
    with pytest.warns(UserWarning, match='damaged.*b.pt.before'): got = fit(file, 4)
    assert all(torch.equal(want[k], got[k]) for k in want)
    file.write_bytes(b'nothing'); (tmp_path/'b.pt.before').unlink()
    with pytest.raises(ValueError, match='damaged'): fit(file, 4)


@pytest.mark.skipif(os.name == 'nt', reason='limits on the size of files are POSIX')
def test_a_full_disk_keeps_the_last_checkpoint(tmp_path):
    "A limit on the size of files stands for the full disk"
    code = ("import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n" + SCRIPT.replace('epochs=40', 'epochs=3').replace("print('done', flush=True)", "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
            "try: SimCLR.small(net, epochs=6, batch_size=32, random_state=0, watch_every=None, progress=False).fit(images, checkpoint=sys.argv[1], resume=True)\nexcept Exception as e: print('stopped:', type(e).__name__, flush=True)"))
    p = run_in(root, sys.executable, '-c', code, tmp_path/'run.pt', timeout=120)
    assert re.search('stopped: (OSError|RuntimeError)', p.stdout), p.stdout
    assert len(_read_run(tmp_path/'run.pt')['state']['history']) == 3 and sorted(f.name for f in tmp_path.iterdir()) == ['run.pt', 'run.pt.before']


def sixty(d):
    "A new folder `d` of sixty pictures"
    d.mkdir()
    for i, x in enumerate(photo_patches(32, 60).images): Image.fromarray(x.permute(1, 2, 0).numpy()).save(d/f'{i}.png')
    return d


@contextmanager
def watched(seen):
    "learn_folder's run with one more callback; the short trials that time an epoch, which have no checkpoint, go without"
    real = apply._trainer
    def trainer(*a):
        m = real(*a); fit = m.fit
        m.fit = lambda images, callbacks=(), **kw: fit(images, callbacks=[*callbacks, seen] if 'checkpoint' in kw else callbacks, **kw)
        return m
    apply._trainer = trainer
    try: yield
    finally: apply._trainer = real


def test_learning_goes_on_where_it_was_stopped(tmp_path):
    "learn_folder, stopped between two epochs and taken up: the encoder of a run that was not"
    d = sixty(tmp_path/'pictures')
    how = dict(epochs=4, cache=None, progress=False, encoder='convnet', device='cpu')
    learn_folder(d, tmp_path/"a", **how)
    def stop(m, rec, hist):
        if len(hist) == 3: raise KeyboardInterrupt
    with watched(stop), pytest.raises(KeyboardInterrupt): learn_folder(d, tmp_path/'b', **how)
    with pytest.raises(FileExistsError, match='resume'): learn_folder(d, tmp_path/'b', **how)
    with pytest.raises(ValueError, match='another run'): learn_folder(d, tmp_path/'b', **(how | dict(seed=1)), resume=True)
    went = []
    with watched(lambda m, rec, hist: went.append(rec['epoch'])): learn_folder(d, tmp_path/'b', **how, resume=True)
    assert went and went[0] >= 2 and went[-1] == 3, went                             # not from the beginning
    a, b = (load_encoder(tmp_path/o/'encoder.safetensors').state_dict() for o in 'ab')
    assert all(torch.equal(a[k], b[k]) for k in a) and sorted(f.name for f in (tmp_path/'b').iterdir()) == ['encoder.safetensors', 'history.csv', 'report.html', 'settings.json']


def test_minutes_go_on_where_they_were_stopped(tmp_path):
    "A run by minutes keeps its plan beside what it has reached, and uses the time that is left"
    d, out, went = sixty(tmp_path/'pictures'), tmp_path/'out', []; how = dict(minutes=.15, cache=None, progress=False, encoder='convnet', device='cpu')
    def stop(m, rec, hist):
        went.append(rec['epoch'])
        if len(went) == 4: raise KeyboardInterrupt
    with watched(stop), pytest.raises(KeyboardInterrupt): learn_folder(d, out, **how)
    plan = json.loads((out/'run.json').read_text()); assert (out/'run.pt').exists() and 0 < plan['seconds'] < 30, plan
    with pytest.raises(FileExistsError, match='--resume'): learn_folder(d, out, **how)
    with watched(stop): learn_folder(d, out, **how, resume=True)
    epochs = json.loads((out/'settings.json').read_text())['epochs']
    assert went[3] == 3 and went[4] in (3, 4) and epochs <= plan['epochs'] and went[-1] == epochs - 1, (went, plan, epochs)
    assert sorted(f.name for f in out.iterdir()) == ['encoder.safetensors', 'history.csv', 'report.html', 'settings.json']


def test_nothing_asks_the_network(tmp_path, monkeypatch):
    "Every command on pictures of one's own, with sockets that refuse"
    import socket
    def refuse(*a, **k): raise AssertionError(f'the network was asked for {a[1:]}')
    for o in ('connect', 'connect_ex', 'sendto'): monkeypatch.setattr(socket.socket, o, refuse)
    monkeypatch.setattr(socket, 'getaddrinfo', refuse); folder = tmp_path/'pictures'
    for i, (x, y) in enumerate(zip((p := photo_patches(16, 60)).images, p.labels.tolist())): (folder/str(y)).mkdir(parents=True, exist_ok=True); Image.fromarray(x.permute(1, 2, 0).numpy()).save(folder/str(y)/f'{i}.png')
    run = lambda *a: apply.main([str(o) for o in a])
    assert run('learn', folder, '--epochs', 1, '--size', 16, '--out', tmp_path/'out', '--quiet', '--no-cache') == 0; enc = tmp_path/'out'
    for more in (('embed', folder, enc, '--out', tmp_path/'f.npz'), ('cluster', folder, enc, '--clusters', 3), ('neighbours', folder, enc, next(folder.rglob('*.png')), '-k', 2), ('evaluate', folder, enc)): assert run(*more, '--quiet', '--no-cache') == 0, more[0]

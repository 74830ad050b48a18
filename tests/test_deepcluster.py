"DeepCluster: stopping and going on, writing that fails half-way, the fast PCA against scikit-learn's, and its benchmark"
import hashlib, json, os, sys, warnings

import numpy as np
import pytest
import torch
from conftest import root, run_in

from dl4ia_nbdev.alexnet import alexnet
from dl4ia_nbdev.data import photo_patches
from dl4ia_nbdev.deepcluster import DeepCluster, PCAWhiten

pytestmark = pytest.mark.filterwarnings('ignore:.*few for')
settings = dict(n_clusters=20, epochs=4, recluster=2, batch_size=64, pca_dim=32, precision='float32', progress=False)


def make(**kw): return DeepCluster(alexnet('small', None, seed=0, sobel=True), **(settings | kw))


def digest(dc): return hashlib.sha256(b''.join(v.contiguous().numpy().tobytes() for v in [*dc.encoder.state_dict().values(), *dc.head_.state_dict().values(), dc.labels_])).hexdigest()


script = '''
import os, sys, warnings; warnings.simplefilter('ignore')
sys.path[:0] = ['tests', '.']
from test_deepcluster import *
def stop(dc, rec, history):
    if rec['epoch'] == 3: os._exit(9)                                      # as a power cut: nothing is cleaned up
make(**kept).fit(photo_patches(32, 300), callbacks=[stop], checkpoint=sys.argv[1])
'''
kept = dict(head='match', balance='loss')


def test_killed_and_taken_up_in_another_process(tmp_path):
    "Killed in its last epoch, in the middle of a round; what remains runs here, and so does the same run without a stop"
    threads = {} if 'OMP_NUM_THREADS' in os.environ else dict(OMP_NUM_THREADS=str(torch.get_num_threads()))
    assert run_in(root, sys.executable, '-c', script, tmp_path/'run.pt', timeout=120, **threads).returncode == 9
    images = photo_patches(32, 300)
    again, whole = make(**kept).fit(images, checkpoint=tmp_path/'run.pt', resume=True), make(**kept).fit(images)
    assert digest(again) == digest(whole)
    drop = lambda h: [{k: v for k, v in r.items() if not k.startswith('seconds')} for r in h]
    assert drop(again.history_) == drop(whole.history_)


def test_a_write_that_fails_leaves_the_checkpoint_whole(tmp_path, monkeypatch):
    images, file = photo_patches(32, 120), tmp_path/'run.pt'
    make(epochs=1).fit(images, checkpoint=file)
    before, save = file.read_bytes(), torch.save

    def full(obj, f, *a, **kw):
        save(obj, f, *a, **kw)
        with open(f, 'r+b') as o: o.truncate(1000)
        raise OSError('no space left on device')
    monkeypatch.setattr(torch, 'save', full)
    with pytest.raises(OSError, match='no space'): make(epochs=2).fit(images, checkpoint=file, resume=True)
    assert file.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ['run.pt']
    monkeypatch.undo()
    assert len(make(epochs=2).fit(images, checkpoint=file, resume=True).history_) == 2


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    images, file = photo_patches(32, 120), tmp_path/'run.pt'
    make(epochs=1).fit(images, checkpoint=file)
    with pytest.raises(ValueError, match='n of the images: 120 there, 100 here'): make().fit(images[:100], checkpoint=file, resume=True)
    with pytest.raises(ValueError, match='sample of the images'): make().fit(photo_patches(32, 120, seed=1), checkpoint=file, resume=True)
    with pytest.raises(ValueError, match="head: 'reset' there, 'match' here"): make(head='match').fit(images, checkpoint=file, resume=True)
    file.write_text('nothing')
    with pytest.raises(ValueError, match='no run that save_run wrote'): make().fit(images, checkpoint=file, resume=True)


@pytest.mark.parametrize('n,d', [(1500, 1200), (1200, 3000)])
def test_fast_pca_keeps_what_scikit_learn_keeps(n, d):
    from sklearn.decomposition import PCA
    g = torch.Generator().manual_seed(n)
    H = torch.relu(torch.randn(n, 60, generator=g)@torch.diag(torch.arange(1, 61.)**-.5)@torch.randn(60, d, generator=g) + .3*torch.randn(n, d, generator=g) + .5)
    sk = PCA(128, svd_solver='full').fit(H.double().numpy())
    p = PCAWhiten(128, l2=False).fit(H)
    assert p.explained_ > .999*sk.explained_variance_ratio_.sum()
    Z = p.transform(H).double().numpy()
    assert np.abs(Z.T@Z/n - np.eye(128)).max() < 1e-3                                  # white, whatever the subspace lost
    ref = sk.transform(H.double().numpy())[:, :40]/np.sqrt(sk.explained_variance_[:40])
    assert min(np.linalg.svd(np.linalg.qr(ref)[0].T@np.linalg.qr(Z)[0])[1]) > .99      # the leading axes lie inside


def test_collapse_is_seen_in_the_history():
    images = photo_patches(32, 200)
    same = images.with_labels(images.labels); same.images = images.images[:1].expand(200, -1, -1, -1).clone()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        rec = make(epochs=1, empty='keep').fit(same).history_[0]
    assert rec['largest'] == 200 and rec['empty'] == 19 and rec['evenness'] == 0


def test_benchmark(tmp_path):
    p = run_in(root, sys.executable, 'benchmarks/deepcluster.py', '--quick', '--threads', '1', '--json', tmp_path/'out.json', timeout=180)
    assert p.returncode == 0, p.stdout[-2000:]
    rows = {r['implementation']: r for r in json.loads((tmp_path/'out.json').read_text(encoding='utf-8'))['rows']}
    assert {'dl4ia_nbdev', 'dl4ia_nbdev float32'} <= set(rows)
    for r in rows.values(): assert abs(sum(r[o] for o in ('features', 'PCA', 'K-means', 'sampling', 'compare', 'training')) - r['epoch']) < 1e-6 and r['training'] > 0
    assert rows['dl4ia_nbdev']['× forward + training'] > .5

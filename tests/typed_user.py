"A user's script with declared types: mypy checks it against the package (tests/test_types.py), and it runs on a folder with one folder of pictures a class."
import sys
from pathlib import Path

from torch import Tensor
from typing_extensions import assert_type

from dl4ia_nbdev.alexnet import alexnet
from dl4ia_nbdev.choose_k import choose_k
from dl4ia_nbdev.data import ImageSet
from dl4ia_nbdev.deepvis import Channel, Maximised, maximise
from dl4ia_nbdev.encoders import Encoder, build_encoder
from dl4ia_nbdev.evaluate import Evaluation, LinearProbe, embed, evaluate, knn_accuracy, layer_probes, nearest
from dl4ia_nbdev.kmeans import KMeans
from dl4ia_nbdev.report import Report, Table
from dl4ia_nbdev.simclr import SimCLR
from dl4ia_nbdev.views import Views, simclr_cifar


def main(folder: Path, page: Path) -> dict[str, float]:
    images = ImageSet.from_folder(folder, size=32, on_error='skip')
    names: list[str] | None = images.files
    reasons = [why for _, why in images.skipped]
    assert names is not None and not reasons
    assert_type(images[0], Tensor)
    assert_type(images[:10], ImageSet)
    train, test = images.split(.7, seed=0)
    assert_type(train, ImageSet)
    labels, answers = train.labels, test.labels
    assert labels is not None and answers is not None
    for x, y in train.batches(8):
        assert_type(x, Tensor)
        assert y is not None and len(x) == len(y)

    encoder: Encoder = build_encoder('convnet', size=32, seed=0, width=(8, 16, 16, 16))
    SimCLR.small(encoder, views=Views(simclr_cifar(32)), epochs=1, batch_size=16, progress=False).fit(train)
    h, q = embed(encoder, train), embed(encoder, test)
    assert_type(h, Tensor)
    net = alexnet('small', None, seed=0)
    layers = embed(net, train, ['conv1', 'conv5'], pool=2)
    assert_type(layers, dict[str, Tensor])
    taps: Tensor = net.taps(train.normalize(train.images), 'conv1')['conv1']
    assert len(taps) == len(layers['conv1'])

    similarities, at = nearest(h, q, k=3)
    assert similarities.shape == at.shape
    accuracy: float = knn_accuracy(h, labels, q, answers, k=3)
    predicted: Tensor = LinearProbe(l2=.01).fit(h, labels).predict(q)
    by_layer: dict[str, float] = layer_probes(net, train, test, ['conv1'], l2=.01)
    clusters: KMeans = KMeans(2, random_state=0).fit(h)
    inertia: float = clusters.inertia_
    pick: int | None = choose_k(h, range(1, 4), 'elbow', random_state=0).picks['elbow']

    found: Evaluation = evaluate({'SimCLR': encoder}, train, test, measures=('knn', 'linear'), untrained=1, bootstrap=0)
    knn: dict[str, float] = {row['representation']: row['knn'] for row in found}
    low_high: list[dict[str, tuple[float, float]]] = found.intervals
    drawn: Maximised = maximise(net, Channel('conv3', 0), size=32, steps=2, normalize=train)
    history: list[dict] = drawn.history[0]
    ax = drawn.show(title='a filter')
    ax.set_xlabel('drawn')

    rows: list[dict] = [{'what': 'neighbours', 'value': accuracy}, {'what': 'inertia', 'value': inertia}, {'what': 'clusters', 'value': pick},
                        {'what': 'probe', 'value': float((predicted == answers).float().mean())}, {'what': 'conv1', 'value': by_layer['conv1']}]
    written: Path = Report('A folder').section('Numbers').table(Table(rows)).table(found).figure(ax, 'One filter').write(page)
    assert written.is_file() and len(history) == 2 and len(low_high) == len(knn)
    return knn


if __name__ == '__main__': print(main(Path(sys.argv[1]), Path(sys.argv[2])))

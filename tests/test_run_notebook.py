"The comparison of stored with fresh outputs, and the test runner on small notebooks."
import base64, io, json, sys
from math import inf, nan

import pytest

from conftest import root, run_in
from run_notebook import TABLE, compare_outputs, compare_tables, differs, plain, shrink, split_title, tables


def table(rows, tol=0, name='t'): return dict(name=name, rows=rows, tol=tol)
def out(t): return dict(output_type='display_data', data={TABLE: t}, metadata={})


@pytest.mark.parametrize('stored,fresh,tol,bad', [
    (1, 1, 0, False), (1, 1.0, 0, False), (1, 1 + 1e-12, 0, False), (1, 1.001, 0, True), (1, 1.001, .01, False), (1, 1.02, .01, True),
    ('a', 'a', 0, False), ('a', 'b', 0, True), ('a', 'b', 9, True), ('a', 'b', None, False), (1, 99, None, False), ('1', 1, 9, True),
    (nan, nan, 0, False), (nan, 1, 9, True), (1, nan, 9, True), ('nan', nan, 0, False), (nan, 'NaN', 0, False), (None, nan, 0, False), ('nan', 'nan', 0, False),
    (inf, inf, 0, False), (inf, -inf, 9, True), ('inf', inf, 0, False), (inf, 5, 9, True),
    (True, True, 0, False), (True, False, 9, True), (True, 1, 9, True), (None, None, 0, False), (None, 1, 9, True), ([1, 'a'], [1, 'a'], 0, False), ([1], [2], 0, True)])
def test_differs(stored, fresh, tol, bad): assert differs(stored, fresh, tol) is bad


def test_scalar_tolerance_holds_for_numbers_only():
    a, b = table([dict(x=1., s='u')]), table([dict(x=1.05, s='v')], tol=.1)
    msg, = compare_tables([a], [b])
    assert "column 's'" in msg and "'u'" in msg and "'v'" in msg


def test_tolerance_of_each_column():
    a, b = table([dict(x=1., y=1., z=1.)]), table([dict(x=1.05, y=2., z=1.05)], tol=dict(x=.1, y=None))
    msg, = compare_tables([a], [b])
    assert "row 0, column 'z': stored 1.0, fresh 1.05, tolerance 1e-09" in msg


def test_shape_and_names():
    t = table([dict(x=1)])
    assert compare_tables([t], [t]) == []
    assert '1 table(s) stored, 0 fresh' in compare_tables([t], [])[0]
    assert '1 row(s) stored, 2 fresh' in compare_tables([t], [table([dict(x=1)]*2)])[0]
    assert 'columns' in compare_tables([t], [table([dict(y=1)])])[0]
    assert 'stored under the name' in compare_tables([t], [table([dict(x=1)], name='u')])[0]
    assert compare_tables([table([dict(x=1, y=2)])], [table([dict(y=2, x=1)])]) == []


def test_outputs():
    t, stream = table([dict(x=1)]), dict(output_type='stream', name='stdout', text='hi')
    assert tables([stream, out(t)]) == [t]
    assert compare_outputs([], [stream]) == []
    img = dict(output_type='display_data', data={'image/png': 'x'}, metadata={})
    assert 'none is drawn' in compare_outputs([img], [])[0] and compare_outputs([img], [img]) == []
    assert 'none is stored' in compare_outputs([stream], [out(t)], 'cell 3')[0]
    assert 'cell 3, 1 table(s) stored, 0 fresh' in compare_outputs([out(t)], [], 'cell 3')[0]


def test_numpy_and_torch_numbers_become_plain():
    np, torch = pytest.importorskip('numpy'), pytest.importorskip('torch')
    assert plain(dict(a=np.float32(.5), b=torch.tensor(2), c=np.arange(2))) == dict(a=.5, b=2, c=[0, 1])


def notebook(path, *cells):
    "Write a notebook with code `cells`, each a source or (source, outputs)"
    cells = [c if isinstance(c, tuple) else (c, []) for c in cells]
    js = [dict(cell_type='code', id=f'c{i}', metadata={}, execution_count=None, outputs=o, source=s.splitlines(True)) for i, (s, o) in enumerate(cells)]
    path.write_text(json.dumps(dict(cells=js, metadata=dict(kernelspec=dict(name='python3', display_name='python3', language='python')), nbformat=4, nbformat_minor=5)))
    return path


def test_runner(tmp_path):
    "Directives and flags hold; failures name cell and reason; one process, several notebooks"
    show = f"class T:\n    def _repr_mimebundle_(self, **kw): return {{'text/plain': 't', {TABLE!r}: dict(name='t', rows=[dict(x=float(2))], tol=.1)}}\nT()"
    good = notebook(tmp_path/'good.ipynb', 'x = 1', '#| slow\n1/0', '#| gpu\n1/0', '#| eval: false\n1/0', '#| notest\n1/0', (show, [out(table([dict(x=2.05)]))]), 'assert x == 1')
    stale = notebook(tmp_path/'stale.ipynb', (show, [out(table([dict(x=1.5)]))]))
    bare = notebook(tmp_path/'bare.ipynb', '1 + 1')
    bad = notebook(tmp_path/'bad.ipynb', 'x = 1', 'def f(): raise ValueError("no good")\n\nf()')
    p = run_in(root, sys.executable, 'tools/run_notebook.py', good, stale, bare, bad)
    assert p.returncode == 1
    for o in ['good.ipynb: passed, 3 cells', 'stale.ipynb: FAILED', "cell 0 (id c0), table 't', row 0, column 'x': stored 1.5, fresh 2.0, tolerance 0.1",
              'cell 0 (id c0): shows an output when run, but none is stored', 'bad.ipynb, cell 1 (id c1) failed', '3  f()', 'ValueError: no good', '--save']:
        assert o in p.stdout, f'{o!r} not in\n{p.stdout}'


def test_missing_notebook():
    p = run_in(root, sys.executable, 'tools/run_notebook.py', 'nbs/none_such.ipynb')
    assert p.returncode == 2 and 'no such notebook: nbs/none_such.ipynb' in p.stdout


def test_title_stands_alone(tmp_path):
    "What nbdev would drop from the first cell moves to the next"
    path = notebook(tmp_path/'a.ipynb', 'x = 1')
    js = json.loads(path.read_text())
    first = dict(cell_type='markdown', id='t', metadata={}, source=['# Title\n', '> What it is.\n', '\n', '*Paper* none\n', '\n', 'More.'])
    path.write_text(json.dumps(js | dict(cells=[first, *js['cells']])))
    split_title(path)
    once = path.read_text()
    assert [''.join(c['source']) for c in json.loads(once)['cells']] == ['# Title\n> What it is.', '*Paper* none\n\nMore.', 'x = 1']
    split_title(path)
    assert path.read_text() == once


def test_large_pictures_become_jpeg_in_all_their_colours():
    np, Image = pytest.importorskip('numpy'), pytest.importorskip('PIL.Image')
    buf = io.BytesIO()
    blobs = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)).resize((300, 300), Image.Resampling.BICUBIC)
    blobs.save(buf, 'png')
    png = base64.b64encode(buf.getvalue()).decode()
    mime, small = shrink(png)
    im, was = (Image.open(io.BytesIO(base64.b64decode(o))) for o in (small, png))
    assert mime == 'image/jpeg' and im.format == 'JPEG' and im.size == (300, 300) and len(small) < .8*len(png)
    assert abs(np.asarray(im).astype(int) - np.asarray(was)).mean() < 3
    assert shrink(png, at_least=10**9) == shrink(png, picture=10**9) == ('image/png', png)
    buf = io.BytesIO()                                                    # a mosaic: hard edges, which a palette keeps in fewer bytes
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)).resize((360, 360), Image.Resampling.NEAREST).resize((350, 350)).save(buf, 'png')
    mime, small = shrink(base64.b64encode(buf.getvalue()).decode())
    assert mime == 'image/png' and Image.open(io.BytesIO(base64.b64decode(small))).mode == 'P'


def test_charts_get_a_smaller_palette_and_look_the_same():
    np, Image = pytest.importorskip('numpy'), pytest.importorskip('PIL.Image')
    from matplotlib.figure import Figure
    fig = Figure(figsize=(6, 3), dpi=100)
    ax = fig.subplots()
    for i in range(8): ax.plot(np.cumsum(np.random.default_rng(i).standard_normal(300)), label=f'walk {i}')
    ax.legend()
    buf = io.BytesIO()
    fig.savefig(buf, format='png')
    png = base64.b64encode(buf.getvalue()).decode()
    mime, small = shrink(png)
    assert mime == 'image/png' and len(small) < .6*len(png) and shrink(small) == (mime, small)
    was, now = (np.asarray(Image.open(io.BytesIO(base64.b64decode(o))).convert('RGB')).astype(int) for o in (png, small))
    assert (abs(was - now).max(2) > 25).mean() <= 1e-4 and abs(was - now).mean() < .5

#!/usr/bin/env python
"""Run one notebook: as a test (the default), or to store fresh outputs in it (`--save`).

    python tools/run_notebook.py nbs/01_kmeans.ipynb            # test it, as pytest does
    python tools/run_notebook.py nbs/01_kmeans.ipynb --slow     # also the cells marked `slow`
    python tools/run_notebook.py nbs/01_kmeans.ipynb --save     # run it in a Jupyter kernel, store the outputs, clean

A test goes through `nbdev.test.test_nb`, so nbdev's flags and directives hold. Besides running the cells it looks for
stale outputs: a cell that shows something but stores nothing, and stored tables that differ from the fresh ones by more
than the tolerance that their cell states. A table is an output of type `application/vnd.dl4ia.table+json` that holds
`{"name": str, "rows": [dict, ...], "tol": number or {column: number or null}}`.
"""
import argparse, base64, io, json, math, os, re, sys, time, traceback
from numbers import Number
from pathlib import Path

from readme import PICTURES

root = Path(__file__).resolve().parent.parent
TABLE = 'application/vnd.dl4ia.table+json'
EXACT = 1e-9
thread_counts = 'OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'OPENBLAS_NUM_THREADS'
threads = dict.fromkeys(thread_counts, '2') | dict(OMP_WAIT_POLICY='PASSIVE')      # threads that wait in a loop take the cores from those that work, ten times over where others use the machine


# ---- notebooks as plain JSON ----

def read(path):
    "The notebook at `path` as a dict"
    return json.loads(Path(path).read_text(encoding='utf-8'))


def source(cell):
    "The source of `cell` as one string"
    return ''.join(cell['source'])


def cell_name(nb, idx):
    "How a message names cell `idx` of `nb`"
    return f"cell {idx} (id {nb['cells'][idx].get('id', '-')})"


def shows(output):
    "Does this output put something on the page? (streams do not count: progress may go there)"
    return output['output_type'] in ('display_data', 'execute_result')


def documents(cell):
    "Is this a `show_doc` cell? The docs stage makes its output afresh, with links from settings.ini, so none is stored"
    return bool(re.match(r'(#\|.*\n|\s)*show_doc\(', source(cell)))


def skipped(path, skip_flags, force_flags=()):
    "Indices of the cells of the notebook at `path` that are not run, by the rules of `nbdev.test.test_nb`"
    from fastcore.basics import str2bool
    from nbdev.frontmatter import FrontmatterProc
    from nbdev.process import NBProcessor
    nb = NBProcessor(path, procs=FrontmatterProc, process=True).nb
    if str2bool(getattr(nb, 'frontmatter_', {}).get('skip_exec', False)): return set(range(len(nb.cells)))
    flags = set(skip_flags) - set(force_flags)

    def skip(cell):
        direc = getattr(cell, 'directives_', {}) or {}
        return (cell.cell_type != 'code' or 'nbdev_export' + '(' in cell.source or flags & direc.keys()
                or (direc.get('eval:') or [''])[0].lower() == 'false')
    return {cell.idx_ for cell in nb.cells if skip(cell)}


# ---- tables: stored against fresh ----

def plain(x):
    "`x` as JSON gives it back: numpy and torch scalars become numbers, NaN stays NaN"
    def default(o):
        if hasattr(o, 'tolist'): return o.tolist()
        return str(o)
    return json.loads(json.dumps(x, default=default))


def tables(outputs):
    "The tables among `outputs`"
    return [plain(o['data'][TABLE]) for o in outputs if shows(o) and TABLE in o.get('data', {})]


_special = {'nan': math.nan, 'inf': math.inf, '-inf': -math.inf, 'infinity': math.inf, '-infinity': -math.inf}

def _is_num(x): return isinstance(x, Number) and not isinstance(x, bool)

def _number(x, other):
    "`x`, but as a number where JSON had to spell NaN or an infinity as text (or null) and `other` shows it is one"
    if isinstance(x, str) and x.lower() in _special and (_is_num(other) or isinstance(other, str) and other.lower() in _special): return _special[x.lower()]
    if x is None and _is_num(other) and math.isnan(other): return math.nan
    return x


def differs(stored, fresh, tol=EXACT):
    "Do two table entries differ? Numbers by more than `tol`; `tol=None` compares nothing"
    if tol is None: return False
    stored, fresh = _number(stored, fresh), _number(fresh, stored)
    if _is_num(stored) and _is_num(fresh):
        if math.isnan(stored) or math.isnan(fresh): return not (math.isnan(stored) and math.isnan(fresh))
        if math.isinf(stored) or math.isinf(fresh): return stored != fresh
        return abs(fresh - stored) > max(tol, EXACT)
    return type(stored) is not type(fresh) or stored != fresh


def compare_tables(stored, fresh):
    "Problems, one string each, between two lists of tables; the fresh table's `tol` is the one that holds"
    if len(stored) != len(fresh): return [f'{len(stored)} table(s) stored, {len(fresh)} fresh']
    res = []
    for i, (s, f) in enumerate(zip(stored, fresh)):
        name = f"table {f.get('name', i)!r}"
        if s.get('name') != f.get('name'): res.append(f"{name}: stored under the name {s.get('name')!r}")
        if len(s['rows']) != len(f['rows']):
            res.append(f"{name}: {len(s['rows'])} row(s) stored, {len(f['rows'])} fresh")
            continue
        tol = f.get('tol', 0)
        for j, (srow, frow) in enumerate(zip(s['rows'], f['rows'])):
            if list(srow) != list(frow) and set(srow) != set(frow):
                res.append(f'{name}, row {j}: columns {list(srow)} stored, {list(frow)} fresh')
                continue
            for col in frow:
                t = tol.get(col, 0) if isinstance(tol, dict) else tol
                if differs(srow[col], frow[col], t):
                    res.append(f'{name}, row {j}, column {col!r}: stored {srow[col]!r}, fresh {frow[col]!r}, tolerance {max(t, EXACT):g}')
    return res


def compare_outputs(stored, fresh, name='cell'):
    "Problems, one string each, between what a cell stores and what it shows when run"
    if any(map(shows, fresh)) and not any(map(shows, stored)): return [f'{name}: shows an output when run, but none is stored']
    res = [f'{name}, {o}' for o in compare_tables(tables(stored), tables(fresh))]
    drawn = lambda outputs: any(m in o.get('data', {}) for o in outputs for m in PICTURES)
    return res or ([f'{name}: a picture is stored, but none is drawn when run'] if drawn(stored) and not drawn(fresh) else [])


# ---- test ----

def test(path, slow=False, report=None):
    "Run the notebook at `path` through nbdev's test runner; returns a dict with `ok`, `message`, `seconds` and `times`"
    import nbdev.test as nt
    from nbdev.config import get_config
    path = Path(path).resolve()
    os.chdir(root)
    stored, ran, times, progress = read(path), {}, {}, {}
    problem = []

    def note(**kw):
        progress.update(kw)
        if report: Path(report).write_text(json.dumps(progress), encoding='utf-8')

    class Recorder(nt.CaptureShell):
        "nbdev's shell, which also keeps what each cell showed"
        def __init__(self, path=None): super().__init__(path, mpl_format='png')
        def run(self, *args, **kw):
            self.outs = super().run(*args, **kw)
            return self.outs
        def cell(self, cell, **kw):
            if cell.cell_type != 'code': return
            note(cell=cell.idx_)
            start = time.time()
            self.outs = []
            try: super().cell(cell, **kw)
            except BaseException:
                problem[:] = [cell.idx_, traceback.format_exc()]
                raise
            times[cell.idx_], ran[cell.idx_] = time.time() - start, list(self.outs)
            if self.exc:
                text = ''.join(o['text'] if isinstance(o['text'], str) else ''.join(o['text']) for o in self.outs if o['output_type'] == 'stream')
                problem[:] = [cell.idx_, _short_tb(self.exc, text)]

    shell, nt.CaptureShell = nt.CaptureShell, Recorder
    force = _force_flags(slow)
    start = time.time()
    try: ok, _ = nt.test_nb(path, skip_flags=get_config().tst_flags.split(), force_flags=force, showerr=False, basepath=root)
    finally: nt.CaptureShell = shell
    rel = _rel(path)
    if not ok:
        idx, tb = problem or (progress.get('cell', 0), 'failed outside a cell')
        message = _cell_message(rel, stored, idx, tb)
    else:
        bad = [p for i, outs in ran.items() if not documents(stored['cells'][i]) for p in compare_outputs(stored['cells'][i].get('outputs', []), outs, cell_name(stored, i))]
        bad += [f"{cell_name(stored, i)}: an error is stored" for i, c in enumerate(stored['cells'])
                if any(o['output_type'] == 'error' for o in c.get('outputs', []))]
        ok = not bad
        message = '' if ok else '\n'.join([f'{rel}: stored outputs are stale', *(f'  {o}' for o in bad),
                                           f'To refresh: python tools/run_notebook.py {rel} --save' + (' --slow' if slow else '')])
    res = dict(ok=ok, message=message, seconds=time.time() - start, n_cells=len(ran), times=times)
    note(done=True, **res)
    return res


def _rel(path):
    path = Path(path).resolve()
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _force_flags(slow):
    "Of the flags that cells are skipped for, those that are none here"
    import torch
    from dl4ia_nbdev.train import fast_bfloat16
    return ['slow']*slow + ['gpu']*(slow and torch.cuda.is_available()) + ['bf16']*fast_bfloat16()


def _cell_message(rel, nb, idx, tb):
    src = source(nb['cells'][idx])
    numbered = '\n'.join(f'  {i:3d}  {l}' for i, l in enumerate(src.splitlines(), 1))
    return f'{rel}, {cell_name(nb, idx)} failed:\n\n{numbered}\n\n{tb}'


def _short_tb(exc, printed=''):
    "The traceback of `exc` from the cell on, without the shell's own frames"
    te = traceback.TracebackException.from_exception(exc)
    keep = [i for i, f in enumerate(te.stack) if re.search(r'ipython-input|ipykernel|<string>', f.filename)]
    if keep: te.stack = traceback.StackSummary.from_list(list(te.stack)[keep[0]:])
    tb = ''.join(te.format())
    tb = re.sub(r'File "<ipython-input-[^"]*>"', 'in the cell', tb)
    printed = re.split('-{60,}', re.sub(r'\x1b\[[0-9;]*m', '', printed))[0]       # IPython prints the traceback too
    if printed.strip(): tb = 'printed before the error:\n' + '\n'.join(printed.splitlines()[-15:]) + '\n\n' + tb
    return tb


# ---- save ----

def split_title(path):
    "nbdev drops what follows title and description in the first cell: move it to a cell of its own"
    nb = read(path)
    first = nb['cells'][0]
    lines = source(first).splitlines(True)
    n = next((i for i, l in enumerate(lines) if l.strip() and not re.match(r'# |> |- [\w-]+:', l)), len(lines))
    if first['cell_type'] != 'markdown' or not lines or not lines[0].startswith('# ') or n == len(lines): return
    while n and not lines[n-1].strip(): lines.pop(n := n-1)
    first['source'], rest = [*lines[:n-1], lines[n-1].rstrip('\n')], lines[n:]
    nb['cells'].insert(1, dict(cell_type='markdown', id=f"{first.get('id', 'title')[:56]}-text", metadata={}, source=rest))
    Path(path).write_text(json.dumps(nb, indent=1, ensure_ascii=False, sort_keys=True) + '\n', encoding='utf-8')


def shrink(png, at_least=10_000, picture=25_000):
    """(mime type, base64) of the base64 `png` in fewer bytes, where they are a good deal fewer: a palette of 256 colours, from `at_least` bytes if but one pixel
    in ten thousand changes by more than a tenth (charts: a third of the size); for other pictures from `picture` bytes JPEG in all
    their colours (photographs: a quarter), or the palette dithered where that is much smaller (mosaics of filters)"""
    from PIL import Image, ImageChops
    raw, same = base64.b64decode(png), ('image/png', png)
    if len(raw) < at_least: return same
    im = Image.open(io.BytesIO(raw))
    if im.mode == 'P': return same
    rgb = Image.new('RGB', im.size, 'white')
    rgb.paste(im, mask=im.getchannel('A') if im.mode == 'RGBA' else None)
    few = rgb.quantize(256, method=Image.Quantize.MEDIANCUT, kmeans=2, dither=Image.Dither.NONE)
    changed = ImageChops.difference(rgb, few.convert('RGB')).split()
    def saved(image, *how, **more): buf = io.BytesIO(); image.save(buf, *how, **more); return buf.getvalue()
    kind, out = 'image/png', saved(few, 'png', optimize=True)
    if sum(ImageChops.lighter(changed[0], ImageChops.lighter(*changed[1:])).histogram()[26:]) > 1e-4*im.width*im.height:
        if len(raw) < picture: return same
        few, photo = rgb.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.FLOYDSTEINBERG), saved(rgb, 'jpeg', quality=90, subsampling=0, optimize=True)
        out = saved(few, 'png', optimize=True)
        if len(photo) < 1.5*len(out): kind, out = 'image/jpeg', photo
    return (kind, base64.b64encode(out).decode()) if len(out) < .8*len(raw) else same


def save(path, slow=False, timeout=None):
    "Run the notebook at `path` in a Jupyter kernel, store its outputs (skipped cells keep theirs) and clean it"
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError
    from nbdev.clean import nbdev_clean
    from nbdev.config import get_config
    path = Path(path).resolve()
    os.chdir(root)
    split_title(path)
    skip = skipped(path, get_config().tst_flags.split(), _force_flags(slow))
    nb = nbformat.read(path, as_version=4)
    last = [0]

    class Client(NotebookClient):
        async def async_execute_cell(self, cell, cell_index, *args, **kw):
            if cell_index in skip: return cell
            last[0] = cell_index
            return await super().async_execute_cell(cell, cell_index, *args, **kw)

    os.environ['PYTHONPATH'] = os.pathsep.join([str(root), *filter(None, [os.environ.get('PYTHONPATH')])])
    os.environ['PYTHONWARNINGS'] = 'ignore:Message serialization failed'      # NaN in a table: Jupyter says that JSON has none, and writes 'nan'
    start = time.time()
    try: Client(nb, timeout=timeout, kernel_name='python3', record_timing=False, coalesce_streams=True,
                resources=dict(metadata=dict(path=str(path.parent)))).execute()
    except CellExecutionError as e:
        tb = re.sub(r'\x1b\[[0-9;]*m', '', e.traceback)
        return dict(ok=False, seconds=time.time() - start, n_cells=last[0], times={},
                    message=_cell_message(_rel(path), read(path), last[0], tb) + '\nThe stored outputs were left as they were.')
    nb.metadata.pop('widgets', None)      # widget state is large, and nbdev_clean keeps it
    for cell in nb.cells:
        if cell.cell_type == 'code' and documents(cell): cell.outputs = []
        for o in cell.get('outputs', []):
            if 'image/png' in (data := o.get('data', {})): mime, small = shrink(data.pop('image/png')); data[mime] = small
    nbformat.write(nb, path)
    nbdev_clean.__wrapped__(fname=str(path))
    n = sum(c.cell_type == 'code' for i, c in enumerate(nb.cells) if i not in skip)
    return dict(ok=True, message='', seconds=time.time() - start, n_cells=n, times={})


def main():
    p = argparse.ArgumentParser(description='Run one notebook: test it, or store fresh outputs in it.')
    p.add_argument('notebook', nargs='+', help='notebook(s) to run')
    p.add_argument('--save', action='store_true', help='store the outputs in the notebook and clean it')
    p.add_argument('--slow', action='store_true', help='also run the cells marked slow (and gpu, where there is one)')
    p.add_argument('--times', action='store_true', help='list the slowest cells')
    p.add_argument('--report', help='write the result of the test to this JSON file (used by conftest.py)')
    a = p.parse_args()
    missing = [o for o in a.notebook if not Path(o).is_file()]
    if missing: p.error(f'no such notebook: {", ".join(missing)}')
    for k, v in threads.items(): os.environ.setdefault(k, v)
    failed = False
    nbs = [Path(o).resolve() for o in a.notebook]      # before any chdir
    for nb in nbs:
        res = save(nb, slow=a.slow) if a.save else test(nb, slow=a.slow, report=a.report)
        failed |= not res['ok']
        verb = 'saved' if a.save else 'passed'
        print(f"{_rel(nb)}: {verb if res['ok'] else 'FAILED'}, {res['n_cells']} cells, {res['seconds']:.1f} s", flush=True)
        if res['message']: print(res['message'], file=sys.stderr, flush=True)
        if a.times:
            for i, t in sorted(res['times'].items(), key=lambda o: -o[1])[:8]: print(f'  cell {i}: {t:.1f} s')
    sys.stdout.flush()
    os._exit(int(failed)) if not a.save else sys.exit(int(failed))   # a test skips slow interpreter shutdown


if __name__ == '__main__': main()

"The project as a whole: version, addresses, sizes, paths, notebooks, documentation of what is exported."
import ast, io, json, os, re, sys, tokenize
from pathlib import Path

import pytest
import yaml

from conftest import project_files, root, run_in, settings, sidebar_pages
from readme import PICTURES

cfg = settings()
files = project_files()
notebooks = [o for o in files if o.startswith('nbs/') and o.endswith('.ipynb')]
modules = [o for o in files if re.fullmatch(cfg['lib_path'] + r'/(?!_)\w+\.py', o)]
MB = 1_000_000


def load(nb): return json.loads((root/nb).read_text(encoding='utf-8'))
def src(cell): return ''.join(cell['source'])


def text_of(name):
    "The text of a file, None if it is binary; of a notebook all but its pictures"
    path = root/name
    if path.is_symlink(): return None
    if name.endswith('.ipynb'):
        nb = load(name)
        for c in nb['cells']:
            for o in c.get('outputs', []): o['data'] = {k: v for k, v in o.get('data', {}).items() if not k.startswith('image/')}
        text = json.dumps(nb, ensure_ascii=False)
        return re.sub(r'data:[\w/+.-]+;base64,[A-Za-z0-9+/=\\n]+', '', text)
    try: return path.read_text(encoding='utf-8')
    except UnicodeDecodeError: return None


texts = {o: t for o in files if (t := text_of(o)) is not None}


# ---- version, addresses, sizes, paths ----

def test_one_version():
    import dl4ia_nbdev
    assert dl4ia_nbdev.__version__ == cfg['version']
    assert yaml.safe_load(texts['CITATION.cff'])['version'] == cfg['version']
    assert f"## [{cfg['version']}]" in texts['CHANGELOG.md']


def test_addresses_derive_from_settings():
    "The repository's and the site's addresses stand in settings.ini, and in what nbdev generates from it, alone"
    own = re.compile('|'.join(map(re.escape, [f"{cfg['user']}/{cfg['repo']}", cfg['doc_host'].removeprefix('https://')])) + r'|https?://[^\s"\'<>)]*' + re.escape(cfg['lib_name']))
    generated = {'settings.ini', f"{cfg['lib_path']}/_modidx.py"}
    bad = [f'{o}: {m[0]}' for o, t in texts.items() if o not in generated for m in own.finditer(t)]
    assert not bad, '\n'.join(bad)


def test_no_mail_addresses():
    mail = re.compile(r'\b[\w.+-]+@[a-z0-9-]+(?:\.[a-z0-9-]+)*\.(?:com|org|net|fr|edu|io|de|uk|eu)\b', re.I)
    bad = [f'{o}: {m[0]}' for o, t in texts.items() for m in mail.finditer(t)]
    assert not bad, '\n'.join(bad)


def test_sizes():
    size = {o: (root/o).lstat().st_size for o in files}
    assert sum(size.values()) <= 30 * 2**20
    most = lambda o: .1*MB if o.startswith('nbs/results/') and o.endswith(('.ipynb', '.json')) else 1.5*MB if o.endswith('.ipynb') else 2*MB
    big = [f'{o}: {s/MB:.2f} MB' for o, s in size.items() if s > most(o)]
    assert not big, '\n'.join(big)


def test_no_machine_paths():
    "No path of one machine in any file; in a notebook's stored outputs no temporary path either"
    names = ['work', 'root', 'farm', 'tmp/exp', 'tmp/venv', 'home/[a-z]+', 'Users/[A-Za-z]+']
    path = re.compile(r'(?<![A-Za-z0-9_.~/-])/(?:' + '|'.join(names) + r')/')
    bad = [f'{o}: {t[max(0, m.start()-40):m.end()+30]!r}' for o, t in texts.items() for m in path.finditer(t)]
    for nb in notebooks:
        for i, c in enumerate(load(nb)['cells']):
            stored = json.dumps([{k: v for k, v in o.items() if k != 'data'} | {k: v for k, v in o.get('data', {}).items() if not k.startswith('image/')} for o in c.get('outputs', [])])
            stored = re.sub(r'data:[\w/+.-]+;base64,[A-Za-z0-9+/=\\n]+', '', stored)
            bad += [f'{nb}, cell {i}, stored output: {stored[max(0, m.start()-40):m.end()+30]!r}' for m in re.finditer(r'(?<![\w.])/tmp/\w|/site-packages/', stored)]
    assert not bad, '\n'.join(bad)


# ---- notebooks ----

def test_architecture_table():
    "Every module stands in CONTRIBUTING's table, with its notebook, and imports from rows above its own alone"
    rows = re.findall(r'^\| `(\w+)` \| `(\w+)` \|', (root/'CONTRIBUTING.md').read_text(encoding='utf-8'), re.M); order = [m for _,m in rows]
    assert sorted(order) == sorted(p.stem for p in (root/'dl4ia_nbdev').glob('*.py') if not p.stem.startswith('_'))
    for nb,m in rows:
        text = (root/'dl4ia_nbdev'/f'{m}.py').read_text(encoding='utf-8')
        assert f'File to edit: ../nbs/{nb}.ipynb' in text
        assert not [o for o in re.findall(r'^from \.(\w+) import', text, re.M) if order.index(o) >= order.index(m)], m

def test_sidebar_lists_every_notebook():
    assert sorted(f'nbs/{o}' for o in sidebar_pages()) == sorted(o for o in notebooks if not any(p[0] in '_.' for p in Path(o).parts))
    assert len(set(sidebar_pages())) == len(sidebar_pages())


def test_one_site_configuration():
    link = root/'nbs'/'_quarto.yml'
    assert link.read_text(encoding='utf-8').strip() in ((root/'_quarto.yml').read_text(encoding='utf-8').strip(), '../_quarto.yml')   # the latter: git without symlinks


@pytest.mark.parametrize('nb', notebooks)
def test_notebook_form(nb):
    "Title cell, directives at the top of their cells, source as lines, outputs stored, no widget state"
    js, bad = load(nb), []
    first, cells = js['cells'][0], js['cells']
    lines = [l for l in src(first).splitlines() if l.strip()] if first['cell_type'] == 'markdown' else []
    if not lines or not lines[0].startswith('# '): bad.append('the first cell does not start with "# title"')
    elif len(lines) < 2 or not lines[1].startswith('> '): bad.append('the title is not followed by "> description"')
    extra = [l for l in lines[2:] if not re.match(r'- [\w-]+:', l)]
    if extra: bad.append(f'nbdev drops what follows title and description in the first cell: move {extra[0]!r} to a cell of its own')
    direc = re.compile(r'^\s*#\s*\|')
    for i, c in enumerate(cells):
        if not isinstance(c['source'], list): bad.append(f'cell {i}: source is one string, not a list of lines')
        if c['cell_type'] == 'markdown' and re.search(r'(?<![\w`])@(fig|tbl|sec|eq)-\w', re.sub(r'```.*?```|`[^`]*`', '', src(c), flags=re.S)): bad.append(f'cell {i}: a cross-reference that smalldocs does not read; link to the id')
        if c['cell_type'] != 'code': continue
        ls, code = src(c).splitlines(), False
        for n, l in enumerate(ls):
            if direc.match(l):
                if code or any(not o.strip() for o in ls[:n]): bad.append(f'cell {i}, line {n+1}: directive {l.strip()!r} below another line or a blank one is ignored')
            elif l.strip() and not re.match(r'\s*%%\w', l): code = True
        if any(o['output_type'] == 'error' for o in c.get('outputs', [])): bad.append(f'cell {i}: an error is stored')
    if 'widgets' in js['metadata']: bad.append('widget state is stored')
    if not any(c.get('outputs') for c in cells): bad.append('no cell has a stored output')
    assert not bad, '\n'.join([nb, *bad])


@pytest.mark.parametrize('nb', notebooks)
def test_imports_stand_alone(nb):
    "The docs stage runs cells that import: they hold imports (or definitions that are exported) and nothing else"
    cells, bad = load(nb)['cells'], []
    if not any(c['cell_type'] == 'code' and re.search(r'^\s*#\|\s*exports?\b|^show_doc', src(c), re.M) for c in cells): return    # nothing to document: nothing runs
    for i, c in enumerate(cells):
        if c['cell_type'] != 'code' or re.search(r'^\s*#\|\s*(export|eval:\s*false)', src(c), re.M): continue
        try: body = ast.parse(src(c)).body
        except SyntaxError: continue        # magics
        def kind(o): return isinstance(o, (ast.Import, ast.ImportFrom))
        if 'nbdev_export(' in src(c): continue
        if any(map(kind, ast.walk(ast.Module(body, [])))) and any(isinstance(o, (ast.Expr, ast.Assign)) for x in body if not kind(x) for o in ast.walk(x)): bad.append(f'cell {i}: imports and other code in one cell')
    assert not bad, '\n'.join([nb, *bad])


@pytest.mark.parametrize('nb', notebooks)
def test_one_style(nb):
    "Notebooks that draw ask for the site's style, and no other palette of many colours; a figure has a caption and a text for those who do not see it"
    code = [c for c in load(nb)['cells'] if c['cell_type'] == 'code']; drawn = [c for c in code if any(m in o.get('data', {}) for o in c.get('outputs', []) for m in PICTURES)]
    if not drawn: return
    assert any('set_style(' in src(c) for c in code), f'{nb}: set_style() is missing'
    bad = [w for c in code for w in re.findall(r"tab10|tab20|Set[123]\b|tight_layout|rcParams\['figure\.dpi'\]", src(c)) if '#| export' not in src(c)]
    bad += [f'{n} missing: {src(c)[:60]}' for c in drawn for n in ('fig-cap', 'fig-alt') if f'#| {n}:' not in src(c)]
    assert not bad, f'{nb}: {bad}'


def test_install_cell():
    "Notebooks with code install the package after their title, for Colab"
    from install_cell import missing
    without = [o.name for o in missing()]
    assert not without, f'{without}: run tools/install_cell.py'


def test_readme_in_step():
    p = run_in(root, sys.executable, 'tools/readme.py', '--check')
    assert p.returncode == 0, p.stdout


def test_minutes_are_those_of_the_chapters():
    "The table of chapters and the line at the top of each say the same"
    rows = [l for l in (root/'README.md').read_text(encoding='utf-8').splitlines() if l.startswith('| [') and re.search(r'\| [\d.]+ \|$', l)]
    assert len(rows) > 25
    for row in rows:
        seconds = 0
        for nb in re.findall(r'\]\((nbs/[\w/]+\.ipynb)\)', row):
            said = [m for c in load(nb)['cells'] for m in re.findall(r'\*Runtime\* (\d+) s', src(c))]
            assert len(said) == 1, nb
            seconds += int(said[0])
        assert abs(float(row.split('|')[-2]) - seconds/60) <= .051, row


def test_readme_commands():
    "Exactly two commands in shell fences: the main job and the tests"
    cmds = [l for block in re.findall(r'^```(?:bash|sh|console)\n(.*?)^```', texts['README.md'], re.M | re.S) for l in block.splitlines() if l.strip()]
    assert cmds == ['pip install -e . && dl4ia_tour', "pip install -e '.[dev]' && pytest"]


def test_no_test_hides_another():
    "Of two functions of one name in a file Python keeps the last, and the first is never run"
    for o in files:
        if not o.startswith('tests/test_'): continue
        names = [n.name for n in ast.parse(texts[o]).body if isinstance(n, ast.FunctionDef)]
        assert len(names) == len(set(names)), f"{o}: {sorted(n for n in set(names) if names.count(n) > 1)}"


def test_export_and_clean_change_nothing(project_copy):
    before = {o: (project_copy/o).read_bytes() for o in files if not (project_copy/o).is_symlink()}
    code = 'from nbdev.doclinks import nbdev_export\nfrom nbdev.clean import nbdev_clean\nnbdev_export.__wrapped__()\nnbdev_clean.__wrapped__()'
    p = run_in(project_copy, sys.executable, '-c', code)
    assert p.returncode == 0, p.stdout
    after = {o.relative_to(project_copy).as_posix() for o in project_copy.rglob('*') if o.is_file() and '__pycache__' not in o.parts and o.name != '.last_checked'}
    lf = (lambda b: b.replace(b'\r\n', b'\n')) if os.name == 'nt' else bytes            # nbdev writes the system's line ends
    diff = [o for o, b in before.items() if lf((project_copy/o).read_bytes()) != lf(b)]
    assert not diff, f'nbdev_export and nbdev_clean change {diff}: run both, and commit'
    assert after <= set(files), f'nbdev_export makes {after - set(files)}'


# ---- what is exported is documented ----

def comments(source):
    "Line number to comment"
    return {t.start[0]: t.string for t in tokenize.generate_tokens(io.StringIO(source).readline) if t.type == tokenize.COMMENT}


def undocumented(fn, notes, skip_first=False):
    "Parameters of the function `fn` without a comment on their lines (or on the lines just above)"
    a = fn.args
    args = sorted([*a.posonlyargs, *a.args, *a.kwonlyargs], key=lambda o: (o.lineno, o.col_offset))
    if skip_first: args = args[1:]
    lines = [o.lineno for o in args]
    res = []
    for i, o in enumerate(args):
        end = lines[i+1] - 1 if i + 1 < len(args) else fn.body[0].lineno - 1
        if o.arg[0] != '_' and not any(n in notes for n in range(o.lineno, max(end, o.lineno) + 1)): res.append(o.arg)
        elif lines.count(o.lineno) > 1: res.append(o.arg)       # two parameters cannot share a comment
    return res


@pytest.mark.parametrize('mod', modules)
def test_exported_is_documented(mod):
    source, bad = texts[mod], []
    tree, notes = ast.parse(source), comments(source)
    assert ast.get_docstring(tree), f'{mod} has no docstring: the notebook lacks "> description"'
    public = next((ast.literal_eval(o.value) for o in tree.body if isinstance(o, ast.Assign) and getattr(o.targets[0], 'id', '') == '__all__'), [])
    for o in tree.body:
        patched = isinstance(o, ast.FunctionDef) and any(getattr(d, 'id', getattr(getattr(d, 'func', None), 'id', '')).startswith('patch') for d in o.decorator_list)
        if not isinstance(o, (ast.FunctionDef, ast.ClassDef)) or o.name[0] == '_' or o.name not in public and not patched: continue
        if not ast.get_docstring(o): bad.append(f'{o.name}: no docstring')
        if isinstance(o, ast.FunctionDef): bad += [f'{o.name}: parameter {p} has no comment' for p in undocumented(o, notes, skip_first=patched)]
        else:
            for m in o.body:
                if not isinstance(m, ast.FunctionDef): continue
                if m.name == '__init__': bad += [f'{o.name}: parameter {p} has no comment' for p in undocumented(m, notes, skip_first=True)]
                elif m.name[0] != '_' and not ast.get_docstring(m): bad.append(f'{o.name}.{m.name}: no docstring')
    assert not bad, '\n'.join([mod, *bad])

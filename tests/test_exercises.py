"The exercises: every check knows its right answer and its wrong ones; every generated notebook can be solved, and tells wrong answers why."
import ast, copy, json, os, re

import pytest
import torch

from conftest import root
from dl4ia_nbdev.exercises import TASKS, grade, judge, main, sheet_notebook, sheets, write_exercises

code_cells = lambda nb: [c for c in nb['cells'] if c['cell_type'] == 'code']
text = lambda c: ''.join(c['source'])
asked = lambda c: re.match(r"check\('([\w-]+)', (\w+)\)$", text(c).strip())


# ---- the checks ----

@pytest.mark.parametrize('name', TASKS)
def test_check(name):
    "The reference passes, every known mistake gets its own hint, a blank is no mistake, an exception no traceback"
    t = TASKS[name]
    assert judge(name, t.reference if t.cases else t.value_of(t.reference)).status == 'passed'
    for m in t.mistakes:
        v = judge(name, m.wrong if t.cases else t.value_of(m.wrong))
        assert (v.status, v.mistake, v.text) == ('wrong', m.name, m.hint), repr(v)
    def todo(*a): raise NotImplementedError
    for blank in (None, ...) + ((todo, lambda *a: None, lambda *a: ...) if t.cases else ()): assert judge(name, blank).status == 'open'
    if t.cases:
        v = judge(name, lambda *a: undefined_name)      # noqa: F821
        assert v.mistake == 'error' and 'undefined_name' in v.text and 'Traceback' not in v.text
        for odd in (lambda *a: 'text', lambda *a: torch.full((3, 4, 5), float('nan')), lambda *a: [], lambda *a: {'a': 1}, lambda: 1, torch.zeros(2), 7)[5*(name == 'deepcluster-loop'):]: assert judge(name, odd).status == 'wrong'
    else:
        for odd in ('text', [1, 2], float('inf'), float('nan'), lambda: 1, torch.zeros(3)): assert judge(name, odd).status == 'wrong'


def test_every_notebook_has_every_kind():
    for s in sheets():
        kinds = [t.kind for t in TASKS.values() if t.sheet == s]
        assert len(kinds) >= 4 and set(kinds) == {'predict', 'implement', 'explain', 'extend'}, (s, kinds)
    assert all(len(t.mistakes) >= 2 for t in TASKS.values())


def test_a_passed_answer_does_not_depend_on_the_library():
    "The same values as numpy arrays, lists or float64 pass, too"
    t = TASKS['kmeans-assign']
    for f in (lambda X, C: tuple(o.numpy() for o in t.reference(X, C)), lambda X, C: [t.reference(X, C)[0].tolist(), float(t.reference(X, C)[1])], lambda X, C: t.reference(X.double(), C.double())):
        assert judge('kmeans-assign', f).status == 'passed'
    assert 'whole numbers' in judge('kmeans-assign', lambda X, C: (t.reference(X, C)[0].float(), t.reference(X, C)[1])).text


def _step_by_hand(enc, head, x, y, lr, zero=True):
    with torch.no_grad(): h = enc(x)
    loss = torch.nn.functional.cross_entropy(head(h), y); loss.backward()
    with torch.no_grad():
        for p in head.parameters():
            p -= lr*p.grad
            if zero: p.grad = None
    return loss.item()
def _all_trained(enc, head, x, y, lr):
    opt = torch.optim.SGD([*enc.parameters(), *head.parameters()], lr); loss = torch.nn.functional.cross_entropy(head(enc(x)), y)
    opt.zero_grad(); loss.backward(); opt.step(); return loss.item()
def _outer_mode(net, x):
    was = net.training; net.eval()
    with torch.no_grad(): h = net(x)
    net.training = was; return h
def _largest_first(new, old, k):
    M = torch.zeros(k, k).index_put_((new, old), torch.ones(len(new)), accumulate=True); names = torch.zeros(k, dtype=torch.int64)
    for _ in range(k): i, j = divmod(int(M.argmax()), k); names[i] = j; M[i] = -1; M[:, j] = -1
    return names
def _as_many_as_labels(X, labels, C): return torch.stack([X[labels == j].mean(0) if (labels == j).any() else C[j] for j in range(int(labels.max()) + 1)])
def _swapped(embed, cluster, new_head, train, rounds):
    for _ in range(rounds): train(cluster(embed()), new_head())
def _overwritten(shared, values, draw):
    for k in values:
        if k not in shared: values[k] = draw(k, len(values[k]))
    return values

@pytest.mark.parametrize('name,answer,mistake', [('sheet-1-step', lambda *a: _step_by_hand(*a, zero=False), 'gradient-added'), ('sheet-1-step', _all_trained, 'encoder-trained'), ('alexnet-features', _outer_mode, 'mode-not-restored'),
    ('deepcluster-match', _largest_first, 'greedy'), ('kmeans-update', _as_many_as_labels, None), ('deepcluster-loop', _swapped, None), ('shared-second', _overwritten, None)])
def test_wrong_as_a_student_writes_it(name, answer, mistake):
    v = judge(name, answer); assert v.status == 'wrong' and mistake in (None, v.mistake), repr(v)
def test_right_as_a_student_writes_it(): assert judge('sheet-1-step', _step_by_hand).status == 'passed'
def test_what_torch_has_not_implemented_is_an_error_and_no_blank():
    def mask(*a): raise NotImplementedError('"addmm_impl_cpu_" not implemented for \'Bool\'')
    v = judge('kmeans-assign', mask); assert v.status == 'wrong' and 'addmm_impl_cpu_' in v.text


# ---- the sources and the package ----

def test_package_in_step():
    from strip_exercises import differences
    assert not differences(), 'python tools/strip_exercises.py'


@pytest.mark.parametrize('page', sorted((root/'nbs'/'exercises').glob('*.ipynb')), ids=lambda p: p.stem)
def test_stored_verdicts_are_those_of_today(page):
    said = [v for c in json.loads(page.read_text(encoding='utf-8'))['cells'] for o in c.get('outputs', ()) if (v := o.get('data', {}).get('application/vnd.dl4ia.verdict+json'))]
    assert not [v for v in said if v['status'] == 'passed' and not v['text'].endswith(TASKS[v['exercise']].why)] and (said or page.stem == 'teachers')


@pytest.mark.parametrize('sheet', sheets())
def test_headings_say_what_the_registry_says(sheet):
    "Order, kind and minutes in the text; a hint for each exercise; nothing of the solution left over"
    nb = sheet_notebook(sheet); cells = nb['cells']
    mine = [t for t in TASKS.values() if t.sheet == sheet]
    assert [asked(c)[1] for c in code_cells(nb) if asked(c)] == [t.name for t in mine]
    prose = '\n'.join(text(c) for c in cells if c['cell_type'] == 'markdown')
    words = dict(predict='predict', implement='implement', explain='explain a failure', extend='extend')
    assert re.findall(r'^\*([\w ]+)\* · (\d+) minutes$', prose, re.M) == [(words[t.kind], str(t.minutes)) for t in mine]
    assert prose.count('<summary>Hint</summary>') == len(mine)
    whole = '\n'.join(map(text, cells))
    assert 'SOLUTION' not in whole and '<!--' not in whole and '#|' not in whole and whole.count('    # your ') == len(mine)
    for c in code_cells(nb): ast.parse(text(c))


def test_files_that_were_worked_on_are_kept(tmp_path):
    path, = write_exercises(tmp_path, only='views')
    nb = json.loads(path.read_text(encoding='utf-8'))
    for c in code_cells(nb): c['outputs'], c['execution_count'] = [dict(output_type='stream', name='stdout', text='x')], 3      # run, but not changed
    path.write_text(json.dumps(nb), encoding='utf-8')
    assert write_exercises(tmp_path, only='views') == {path: 'written'}
    nb['cells'][5]['source'] = ['# mine']; path.write_text(json.dumps(nb), encoding='utf-8')
    assert write_exercises(tmp_path, only='views') == {path: 'kept'} and '# mine' in path.read_text(encoding='utf-8')
    assert write_exercises(tmp_path, only='views', force=True) == {path: 'written'}


def test_command_line(tmp_path, monkeypatch, capsys):
    "The script itself runs in the test of the wheel"
    monkeypatch.chdir(tmp_path)
    def run(*a):
        try: code = main(list(a))
        except SystemExit as e: code = e.code
        return code, *capsys.readouterr()
    code, out, err = run('out'); assert code == 0 and 'jupyter lab out' in out and len(list((tmp_path/'out').iterdir())) == 10
    (tmp_path/'out'/'03_evaluate.ipynb').write_text('{}')
    code, out, err = run('out'); assert code == 1 and '03_evaluate.ipynb was kept' in err
    code, out, err = run('--grade', 'out'); assert code == 1 and 'simclr' in out and 'damaged' in out
    for a in ((), ('out', '--grade', 'out'), ('out', '--run'), ('--grade', 'nowhere'), ('out', '--only', 'nothing'), ('out/01_kmeans.ipynb',)):
        code, out, err = run(*a); assert code == 2 and 'Traceback' not in err and err, a


# ---- the notebooks that students get ----

@pytest.fixture(scope='module')
def kernel(tmp_path_factory):
    "One kernel for all of them: importing torch takes longer than most notebooks"
    from jupyter_client import KernelManager
    km = KernelManager(kernel_name='python3')
    km.start_kernel(env={**os.environ, 'PYTHONPATH': str(root), 'MPLBACKEND': 'agg'}, cwd=str(tmp_path_factory.mktemp('kernel')))
    yield km
    km.shutdown_kernel(now=True)


def execute(km, sheet, wrong=None, solutions=True, light=False):
    "Run a generated notebook; `wrong` replaces every answer by its known mistake of that number; `light` leaves out all cells but imports, answers and checks. exercise -> (status, mistake)"
    import nbformat
    from nbclient import NotebookClient
    nb = sheet_notebook(sheet, solutions); answers = {text(c) for c, s in zip(code_cells(sheet_notebook(sheet, True)), code_cells(sheet_notebook(sheet))) if text(c) != text(s)}
    cells = ["%reset -f\nimport dl4ia_nbdev.checking\ndl4ia_nbdev.checking._seen.clear()"]
    for c in code_cells(nb):
        m = asked(c)
        if m and wrong is not None: cells.append(f"from dl4ia_nbdev.exercises import TASKS\nt = TASKS['{m[1]}']; w = t.mistakes[{wrong} % len(t.mistakes)].wrong; {m[2]} = w if t.cases else t.value_of(w)")
        if m or not light or text(c) in answers or re.match(r'(from|import) ', text(c)): cells.append(text(c))
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    NotebookClient(nb, km=km, timeout=300).execute()
    return {d['exercise']: (d['status'], d['mistake']) for c in nb.cells for o in c.outputs if (d := o.get('data', {}).get('application/vnd.dl4ia.verdict+json'))}


@pytest.mark.parametrize('sheet', sheets())
def test_solved(kernel, sheet):
    "With the solutions every check passes (of the exercise sheet's notebook the answers and checks; its experiments run in its source)"
    got = execute(kernel, sheet, light=True)
    assert got == {t.name: ('passed', '') for t in TASKS.values() if t.sheet == sheet}


@pytest.mark.parametrize('wrong', (0, 1))
@pytest.mark.parametrize('sheet', sheets())
def test_wrong_answers(kernel, sheet, wrong):
    "Two typical mistakes of each exercise, in the notebook: each check names the right one"
    mine = [t for t in TASKS.values() if t.sheet == sheet]
    assert execute(kernel, sheet, wrong, light=True) == {t.name: ('wrong', t.mistakes[wrong % len(t.mistakes)].name) for t in mine}


@pytest.mark.parametrize('sheet', [s if s != 'sheet' else pytest.param(s, marks=pytest.mark.slow) for s in sheets()])
def test_blank_notebook_runs_to_its_end(kernel, sheet):
    assert execute(kernel, sheet, solutions=False) == {t.name: ('open', '') for t in TASKS.values() if t.sheet == sheet}


@pytest.mark.slow
@pytest.mark.parametrize('sheet', sheets())
def test_every_cell_solved_and_every_mistake(kernel, sheet):
    "The whole notebook, experiments too, with the solutions; and every further mistake"
    mine = [t for t in TASKS.values() if t.sheet == sheet]
    assert execute(kernel, sheet) == {t.name: ('passed', '') for t in mine}
    for i in range(max(len(t.mistakes) for t in mine)):
        assert execute(kernel, sheet, i, light=i > 1) == {t.name: ('wrong', t.mistakes[i % len(t.mistakes)].name) for t in mine}


# ---- grading ----

def test_running_anew_does_not_believe_the_file(tmp_path):
    "A verdict that was written by hand or is printed, and a check that always says yes, are worth nothing when the notebook is run again"
    path, = write_exercises(tmp_path, only='infonce')
    nb = json.loads(path.read_text(encoding='utf-8'))
    nb['cells'] = [c for c in nb['cells'] if c['cell_type'] == 'markdown' or asked(c) or re.match('import|def bound', text(c))]      # the experiments take time
    for c in nb['cells']:
        if 'def bound' in text(c): c['source'] = ['check = lambda *a: None\ndef bound(loss, n): return loss - math.log(n)']
        if "check('infonce-loss'" in text(c): c['outputs'] = [dict(output_type='stream', name='stdout', text=['infonce-loss: passed.\n'])]
    nb['cells'].append(copy.deepcopy(nb['cells'][-1]) | dict(cell_type='code', execution_count=None, outputs=[], source=["print('infonce-bound: passed.')\n", '1/0'], id='last'))
    path.write_text(json.dumps(nb), encoding='utf-8')
    assert grade(path)['infonce'][0]['loss'] == 'passed'
    row = grade(path, run=True)['infonce'][0]
    assert row['loss'] == 'open' and row['bound'] == 'wrong: wrong-sign' and row['passed'] == 0
    assert json.loads(path.read_text(encoding='utf-8')) == nb              # nothing is written into the file


def test_a_notebook_that_kills_its_kernel(tmp_path):
    path, = write_exercises(tmp_path, only='infonce')
    nb = json.loads(path.read_text(encoding='utf-8'))
    code_cells(nb)[0]['source'] = ['import os\n', 'os._exit(1)']; path.write_text(json.dumps(nb), encoding='utf-8')
    row, = grade(tmp_path, run=True)['unread'].rows
    assert row['notebook'] == path.name and 'could not be run' in row['problem']

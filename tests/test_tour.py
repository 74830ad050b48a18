"The command line: a folder with one self-contained page, clear refusals, and Ctrl-C that loses nothing that was finished"
import json, os, re, shutil, signal, subprocess, sys, time

import pytest

def command(*args):
    found = shutil.which('dl4ia_tour', path=os.path.dirname(sys.executable)) or shutil.which('dl4ia_tour')
    assert found, 'the command dl4ia_tour is not installed: pip install -e .'
    return [found, *args]

def run(*args, cwd, timeout=170):
    return subprocess.run(command(*args), cwd=cwd, capture_output=True, text=True, timeout=timeout)

@pytest.fixture(scope='module')
def quick(tmp_path_factory):
    d = tmp_path_factory.mktemp('tour')
    res = run('--quick', '--out', 'first', cwd=d)
    assert res.returncode == 0, res.stderr[-2000:]
    return d, res

def test_says_where_the_page_is(quick):
    d,res = quick
    assert str(d/'first'/'index.html') in res.stdout
    assert [f'[{i}/6]' in res.stderr for i in range(1, 7)] == [True]*6        # a line for each stage in a log

def test_page_is_self_contained(quick):
    html = (quick[0]/'first'/'index.html').read_text(encoding='utf-8')
    assert not re.search(r'(?:src|href)="(?!data:|#)', html)
    assert html.count('<img') >= 10 and all(w in html for w in ('K-means, step by step', 'DeepCluster', 'supervised', 'Seed 0'))
    assert json.loads((quick[0]/'first'/'results.json').read_text(encoding='utf-8'))['settings']['seed'] == 0

def test_encoder_can_be_used_again(quick):
    from dl4ia_nbdev.alexnet import alexnet
    from dl4ia_nbdev.train import load_weights
    assert load_weights(alexnet('small', None, sobel=True), quick[0]/'first'/'encoder.safetensors')['method'] == 'DeepCluster'

def test_page_in_a_browser(quick, browser):
    from browser import examine
    assert not examine(browser, (quick[0]/'first'/'index.html').as_uri())

def test_refuses_an_existing_folder(quick):
    d,_ = quick; before = (d/'first'/'index.html').stat().st_mtime_ns
    res = run('--quick', '--out', 'first', cwd=d)
    assert res.returncode == 2 and '--force' in res.stderr and 'Traceback' not in res.stderr
    assert (d/'first'/'index.html').stat().st_mtime_ns == before

def test_refuses_a_file_and_a_bad_seed(tmp_path):
    (tmp_path/'f').write_text('x')
    for args,word in ((('--out', 'f'), 'must be a folder'), (('--seed', '-1'), 'at least 0')):
        res = run(*args, cwd=tmp_path)
        assert res.returncode == 2 and word in res.stderr and 'Traceback' not in res.stderr

@pytest.mark.skipif(os.name == 'nt', reason='signals differ on Windows')
def test_ctrl_c_keeps_what_was_finished(tmp_path):
    p = subprocess.Popen(command('--out', 'cut'), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                         preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))     # a shell's background job ignores it, and passes that on
    page = tmp_path/'cut'/'index.html'; t = time.time()
    while not (page.exists() and 'Neighbours, without' in page.read_text(encoding='utf-8')):
        assert p.poll() is None and time.time() - t < 120, p.stderr.read()[-2000:] if p.poll() is not None else 'no page after two minutes'
        time.sleep(.2)
    p.send_signal(signal.SIGINT); out,err = p.communicate(timeout=60)
    html = page.read_text(encoding='utf-8')
    assert p.returncode == 130 and str(page) in err and 'Traceback' not in err
    assert 'K-means, step by step' in html and 'Neighbours, without' in html and 'Stopped by hand' in html

def test_ctrl_c_that_a_library_turned_into_an_error(tmp_path, monkeypatch, capsys):
    "matplotlib answers a KeyboardInterrupt inside its renderer with a ValueError, other code swallows it, and inside a destructor Python does"
    from dl4ia_nbdev import tour as m
    def ends_in_an_error(r, S, bar):
        try: signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt: raise ValueError('Invalid bounding box') from None
    def goes_on(r, S, bar):
        try: signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt: pass
    class Last:
        def __del__(self): signal.raise_signal(signal.SIGINT)
    def in_a_destructor(r, S, bar): o = Last(); del o
    hook = sys.unraisablehook; before = signal.getsignal(signal.SIGINT); signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for i,stage in enumerate((ends_in_an_error, goes_on, in_a_destructor)):
            monkeypatch.setattr(m, '_STAGES', [('first', 1, lambda r, S, bar: r.section('First').text('done')), ('second', 1, stage), ('third', 1, lambda r, S, bar: r.section('Third').text('never'))])
            with pytest.raises(m.TourInterrupted) as e: m.tour(tmp_path/str(i), quick=True, progress=False)
            html = (tmp_path/str(i)/'index.html').read_text(encoding='utf-8')
            assert 'First' in html and 'Stopped by hand' in html and 'Third' not in html and e.value.stage == 'second'
        monkeypatch.setattr(m, '_STAGES', [('first', 1, lambda r, S, bar: 1/0)])
        with pytest.raises(ZeroDivisionError): m.tour(tmp_path/'error', quick=True, progress=False)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler and sys.unraisablehook is hook and 'Traceback' not in capsys.readouterr().err
    finally: signal.signal(signal.SIGINT, before)

"""The sliders, live: a real Jupyter server, a real browser; a slider is moved and the picture changes."""
import json, os, re, signal, subprocess, sys, time

import pytest

from conftest import root

# name -> (a cell, the handle that is moved)
cells = {'kmeans': ("""import torch
from dl4ia_nbdev.alexnet import alexnet
from dl4ia_nbdev.data import photo_patches
from dl4ia_nbdev.play import *
images, net = photo_patches(32, 24), alexnet('small', None, seed=0)
play_kmeans().widget()""", 'step'), 'maps': ("play_maps(net, images).widget()", 'filter'), 'maximise': ("play_maximise(net, size=32).widget()", 'filter'), 'views': ("play_views(images).widget()", 'seed'),
         'nt_xent': ("play_nt_xent().widget()", 'pairs'), 'shared': ("play_shared().widget()", 'seed'), 'neighbours': ("play_neighbours(images, {'pixels': images.images.flatten(1).float()}).widget()", 'query')}


@pytest.fixture(scope='module')
def lab(tmp_path_factory):
    "The address of a JupyterLab with one notebook"
    pytest.importorskip('jupyterlab'); pytest.importorskip('ipywidgets'); folder = tmp_path_factory.mktemp('lab'); log = folder/'log'
    nb = dict(nbformat=4, nbformat_minor=5, metadata=dict(kernelspec=dict(name='python3', display_name='Python 3', language='python')),
              cells=[dict(id=k, cell_type='code', source=s, metadata={}, outputs=[], execution_count=None) for k, (s, _) in cells.items()])
    (folder/'play.ipynb').write_text(json.dumps(nb), encoding='utf-8')
    env = os.environ | {'PYTHONPATH': str(root), 'JUPYTER_CONFIG_DIR': str(folder/'config'), 'JUPYTER_DATA_DIR': str(folder/'data'), 'HOME': str(folder), 'OMP_NUM_THREADS': '1'}
    with open(log, 'w') as f:
        p = subprocess.Popen([sys.executable, '-m', 'jupyterlab', '--no-browser', '--port=0', '--ip=127.0.0.1', '--IdentityProvider.token=', '--expose-app-in-browser', f'--ServerApp.root_dir={folder}', '--allow-root', '--LabApp.news_url=', '--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate'],
                             cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=f, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        for _ in range(240):
            m = re.search(r'http://127\.0\.0\.1:(\d+)/', log.read_text(errors='replace'))
            if m: break
            assert p.poll() is None, log.read_text(errors='replace')[-3000:]; time.sleep(.25)
        yield m[0]
    finally: os.killpg(p.pid, signal.SIGTERM) if os.name != 'nt' else p.terminate(); p.wait(20)


def wait(f, what, seconds=90):
    "f() once it is true"
    end = time.time() + seconds
    while time.time() < end:
        try:
            if r := f(): return r
        except Exception: pass
        time.sleep(.2)
    raise AssertionError(f'waited {seconds} s for {what}')


def test_every_widget_is_tried():
    import dl4ia_nbdev.play as play
    assert {n for n in play.__all__ if n.startswith('play_')} == {f'play_{n}' for n in cells}


def test_sliders_move_pictures(lab, browser):
    from selenium.webdriver.common.keys import Keys
    browser.get(f'{lab}lab/tree/play.ipynb')
    wait(lambda: browser.execute_script("return !!(window.jupyterapp && document.querySelector('.jp-Notebook .jp-Cell'))"), 'JupyterLab')
    def idle():
        for b in browser.find_elements('css selector', '.jp-Dialog .jp-mod-accept'): b.click()                          # "Select Kernel"
        return browser.execute_script("return document.querySelector('.jp-Notebook-ExecutionIndicator')?.getAttribute('data-status') == 'idle' && !document.querySelector('.jp-Dialog')")
    wait(lambda: idle() and (time.sleep(1) or idle()), 'the kernel')
    browser.execute_script("window.jupyterapp.commands.execute('notebook:run-all-cells')")
    boxes = wait(lambda: len(b := browser.find_elements('css selector', '.jp-OutputArea-output .widget-vbox, .jp-OutputArea-output .jupyter-widgets.widget-vbox')) >= len(cells) and b, 'the widgets')
    for box, (name, (_, handle)) in zip(boxes, cells.items()):
        picture = wait(lambda: (i := box.find_element('css selector', 'img')).get_attribute('src') and i, f'the picture of {name}'); before = picture.get_attribute('src')
        row = next(r for r in box.find_elements('css selector', '.widget-hslider, .widget-slider') if handle in r.text); knob = row.find_element('css selector', '.noUi-handle')
        browser.execute_script('arguments[0].scrollIntoView({block: "center"})', row); knob.send_keys(Keys.ARROW_RIGHT)
        wait(lambda: picture.get_attribute('src') != before, f'the picture of {name} to follow {handle}')
        size = wait(lambda: (s := browser.execute_script('return [arguments[0].naturalWidth, arguments[0].naturalHeight]', picture)) and s[0] > 50 and s, 'a picture'); assert size[0] > 50 and size[1] > 50

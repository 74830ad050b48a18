#!/usr/bin/env python
"""Open pages in headless Chromium and look for script errors and figures that do not show.

    python tools/browser.py page.html [more.html ...] [--shots DIR]

No foreign host is resolved, so a page that needs the network shows it, and nothing waits for it.
"""
import argparse, base64, importlib.util, os, shutil, sys, tempfile
from pathlib import Path


def find_browser():
    "The paths of Chromium (or Chrome) and its driver, and an empty string; or None and what is missing"
    chrome = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome', 'chrome'))), None)
    driver = shutil.which('chromedriver')
    try: import selenium                                   # noqa: F401
    except ImportError: return None, 'selenium is not installed'
    if not chrome: return None, 'no Chromium on the path'
    if not driver: return None, 'no chromedriver on the path'
    return (chrome, driver), ''


def open_browser(profile, width=1400, height=1000):
    "A driver of headless Chromium with its own `profile` folder"
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
    found, why = find_browser()
    if not found: raise RuntimeError(why)
    chrome, driver = found
    opts = webdriver.ChromeOptions()
    opts.binary_location = chrome
    for o in ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--disable-dev-shm-usage', '--no-first-run', '--disable-background-networking',
              '--disable-component-update', '--disable-sync', '--disable-extensions', '--hide-scrollbars', f'--window-size={width},{height}',
              f'--user-data-dir={profile}', '--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1']: opts.add_argument(o)
    opts.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
    res = webdriver.Chrome(options=opts, service=Service(driver))
    res.set_page_load_timeout(60)
    res.set_script_timeout(60)
    return res


# folded code and callouts are opened first; an animation's own image is drawn by its script
look = r"""
const done = arguments[0], main = document.querySelector('main') || document.body;
document.querySelectorAll('details').forEach(o => o.open = true);
main.querySelectorAll('.collapse').forEach(o => o.classList.add('show'));
const imgs = [...main.querySelectorAll('img')];
imgs.forEach(o => o.loading = 'eager');
Promise.all(imgs.map(o => o.decode().catch(() => 0))).then(() => setTimeout(() => {
  const box = o => { const r = o.getBoundingClientRect(); return {w: r.width, h: r.height}; };
  done({
    imgs: imgs.map(o => ({src: (o.getAttribute('src') || '').slice(0, 60), nat: o.naturalWidth, ...box(o), shown: o.checkVisibility({visibilityProperty: true, opacityProperty: true})})),
    svgs: [...main.querySelectorAll('svg')].filter(o => !o.parentElement.closest('svg')).map(box),
    maths: [...main.querySelectorAll('math')].map(box),
    height: main.offsetHeight, wide: document.documentElement.scrollWidth - document.documentElement.clientWidth});
}, 50));
"""


def script_errors(log):
    """Errors of the page in the browser's `log`: not a failed load from a foreign host (none resolves here; Quarto's and
    smalldocs' pages may name one for maths or diagrams), and not the icon that browsers ask for"""
    def foreign(m): return 'net::ERR_' in m and '127.0.0.1' not in m.split(' ')[0] and not m.startswith('file:')
    return [o['message'] for o in log if o['level'] == 'SEVERE' and not foreign(o['message']) and 'favicon.ico' not in o['message']]


def examine(driver, url, shot=None):
    "Open `url` and list what is wrong with it; `shot` names a file for a picture of the whole page"
    driver.get_log('browser')
    driver.get(url)
    r = driver.execute_async_script(look)
    bad = [f'script error: {o}' for o in script_errors(driver.get_log('browser'))]
    if r['height'] < 100: bad.append(f"the page is {r['height']} px high")
    bad += [f'image not shown: {o}' for o in r['imgs'] if not (o['nat'] > 0 and o['w'] > 1 and o['h'] > 1 and o['shown'])]
    bad += [f'empty drawing: {o}' for o in r['svgs'] if o['w'] < 1 or o['h'] < 1]
    bad += [f'empty formula: {o}' for o in r['maths'] if o['w'] < 1]
    if r['wide'] > 20: bad.append(f"the page is {r['wide']} px wider than the window")
    if shot:
        h = driver.execute_script('return document.documentElement.scrollHeight')
        w = driver.execute_script('return window.innerWidth')
        png = driver.execute_cdp_cmd('Page.captureScreenshot', dict(captureBeyondViewport=True, clip=dict(x=0, y=0, width=w, height=min(h, 15000), scale=1)))['data']
        Path(shot).parent.mkdir(parents=True, exist_ok=True)
        Path(shot).write_bytes(base64.b64decode(png))
    return bad


# ---- axe: contrast, names, keyboard ----

def find_axe():
    "The script of axe-core and an empty string: the file that DL4IA_AXE names, else the one that axe-core-python brings; or None and what is missing"
    named = os.environ.get('DL4IA_AXE')
    if named: return Path(named).read_text(encoding='utf-8'), ''
    spec = importlib.util.find_spec('axe_core_python')
    if not spec: return None, 'axe-core-python is not installed, and DL4IA_AXE names no file'
    return (Path(spec.origin).parent/'axe.min.js').read_text(encoding='utf-8'), ''


def axe(driver, script, rules=None, exclude=()):
    "Serious and critical findings of axe on the open page, as lines; `rules` limits it to some, `exclude` leaves out what these CSS selectors match"
    driver.execute_script("document.head.insertAdjacentHTML('beforeend', '<style>* {transition: none !important; animation: none !important}</style>');if (!window.axe) {" + script + '}')     # colours at rest
    options = dict(resultTypes=['violations']) | (dict(runOnly=rules) if rules else {})
    found = driver.execute_async_script("""const [exclude, options, done] = arguments, skip = exclude.filter(o => document.querySelector(o)).map(o => [o]);
        axe.run(skip.length ? {include: [['html']], exclude: skip} : document, options).then(r => done(r.violations.filter(v => ['serious', 'critical'].includes(v.impact))
        .map(v => ({id: v.id, impact: v.impact, help: v.help, n: v.nodes.length, html: v.nodes.slice(0, 3).map(o => o.html.slice(0, 120))}))), e => done([{id: 'axe', impact: 'critical', help: '' + e, n: 1, html: []}]))""", list(exclude), options)
    return [f"{v['impact']}: {v['id']}, {v['n']} times: {v['help']}: {' | '.join(v['html'])}" for v in found]


def look_like(driver, width=None, dark=False):
    "From the next page on, a window `width` pixels wide (None: the browser's own) of a reader who prefers dark or light"
    if width: driver.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', dict(width=width, height=900, deviceScaleFactor=1, mobile=width < 600))
    else: driver.execute_cdp_cmd('Emulation.clearDeviceMetricsOverride', {})
    driver.execute_cdp_cmd('Emulation.setEmulatedMedia', dict(features=[dict(name='prefers-color-scheme', value='dark' if dark else 'light')]))


def main():
    p = argparse.ArgumentParser(description='Open pages in headless Chromium and look for script errors and figures that do not show.')
    p.add_argument('page', nargs='+', type=Path, help='HTML file(s)')
    p.add_argument('--shots', type=Path, help='folder for a picture of each page')
    a = p.parse_args()
    failed = False
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as tmp:
        d = open_browser(tmp)
        try:
            for o in a.page:
                bad = examine(d, o.resolve().as_uri(), a.shots and a.shots/f'{o.stem}.png')
                failed |= bool(bad)
                print(f'{o.name}: ' + ('opens, no script error, every figure shows' if not bad else 'FAILED'), *bad, sep='\n  ')
        finally: d.quit()
    sys.exit(failed)


if __name__ == '__main__': main()

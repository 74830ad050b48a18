"""The documentation site, built from a copy of the project: links, images, outputs; then every page in headless Chromium.

Without Chromium the browser tests skip; with DL4IA_REQUIRE_BROWSER=1 they fail. DL4IA_SHOTS=folder keeps a screenshot of each page.
Without axe-core what it looks for is left out; with DL4IA_REQUIRE_AXE=1 that fails.
"""
import ast, functools, http.server, json, os, re, sys, threading
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from browser import axe, examine, find_axe, look_like
from conftest import copy_project, root, run_in, sidebar_pages
from finish_site import citations, cite, split_main


def page_name(nb):
    "The page that nbdev makes of the notebook `nb`: 01_kmeans.ipynb gives kmeans.html"
    head, name = os.path.split(nb)
    return os.path.join(head, re.sub(r'^\d+[a-zA-Z0-9]*_', '', name).replace('.ipynb', '.html'))


pages = [page_name(o) for o in sidebar_pages()]


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    if sys.version_info < (3, 11): pytest.skip('smalldocs needs Python 3.11')
    import smalldocs                                                    # noqa: F401  from there on its absence is a failure
    tmp = tmp_path_factory.mktemp('site')
    p = run_in(copy_project(tmp/'project'), sys.executable, 'tools/build_site.py', '--out', tmp/'site', timeout=600)
    assert (tmp/'site'/'index.html').exists(), p.stdout[-5000:]
    return tmp/'site', p


class Page(HTMLParser):
    "Ids, links, images and outputs of an HTML page"
    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.images, self.loaded, self.outputs, self.foreign, self.main = set(), [], [], [], 0, [], 0
        self.feed(path.read_text(encoding='utf-8'))
    def handle_starttag(self, tag, attrs):
        d = dict(attrs)
        if tag == 'main': self.main += 1
        self.ids |= {d[o] for o in ('id', 'name') if d.get(o)}
        if tag == 'a' and d.get('href'): self.links.append(d['href'])
        if tag in ('img', 'source') and d.get('src') is not None: self.images.append(d['src'])
        if 'cell-output' in (d.get('class') or '').split(): self.outputs += 1
        url = d.get('src') if tag in ('script', 'img', 'iframe', 'video') else d.get('href') if tag == 'link' else None
        if url and re.match(r'(https?:)?//', url): self.foreign.append(url)
        elif url and tag in ('script', 'link'): self.loaded.append(url)


def test_built_without_warnings(site):
    "smalldocs render and smalldocs check are clean, and every formula became MathML"
    assert site[1].returncode == 0, site[1].stdout


def test_every_page_is_there(site): assert [o for o in pages if not (site[0]/o).exists()] == []


def test_links_and_images(site):
    "No broken internal link, no missing image, nothing fetched from another host"
    site, bad, parsed = site[0], [], {}
    def get(p):
        if p not in parsed: parsed[p] = Page(p)
        return parsed[p]
    for path in sorted(site.rglob('*.html')):
        name = path.relative_to(site)
        page = get(path)
        bad += [f'{name}: fetches {o}' for o in page.foreign]
        for url in page.links + page.images:
            u = urlsplit(url)
            if u.scheme or u.netloc:
                if u.scheme == 'data' and url.endswith(','): bad.append(f'{name}: empty image')
                continue
            target = (path.parent/unquote(u.path)).resolve() if u.path else path
            if target.is_dir(): target = target/'index.html'
            if not target.exists(): bad.append(f'{name}: {url} does not exist')
            elif u.fragment and target.suffix == '.html' and unquote(u.fragment) not in get(target).ids: bad.append(f'{name}: no {u.fragment!r} in {target.name}')
        bad += [f'{name}: an image without a source' for o in page.images if not o]
    assert not bad, '\n'.join(dict.fromkeys(bad))


texts = {'glossary.html'}       # its cells only check it


def test_no_page_without_output(site): assert [o for o in pages if o not in texts and not Page(site[0]/o).outputs] == []


def test_weight(site):
    "A page with all that it loads weighs at most 2 MB"
    site, heavy = site[0], []
    def size(f): return f.stat().st_size if f.is_file() else 0
    for o in pages:
        p = Page(site/o)
        urls = {u.split('?')[0] for u in p.loaded + p.images if not urlsplit(u).scheme}
        total = size(site/o) + sum(size((site/o).parent/unquote(u)) for u in urls)
        if any('bootstrap-icons' in u for u in urls): total += size(site/'site_libs/bootstrap-icons/fonts/bootstrap-icons.woff2')
        if total > 2e6: heavy.append(f'{o}: {total/1e6:.2f} MB')
    assert not heavy, heavy


def test_pictures_have_texts(site):
    "Every picture has a text for those who cannot see it"
    bad = [f'{o}: {m[0][:80]}' for o in pages for m in re.finditer(r'<img\b[^>]*>', (site[0]/o).read_text(encoding='utf-8')) if not re.search(r'\balt="[^"]', m[0])]
    bad += [f'{o}: an alternative text made of a heading' for o in pages if 'alt="Picture: ' in (site[0]/o).read_text(encoding='utf-8')]
    assert not bad, '\n'.join(bad)


def test_head_of_every_page(site):
    "A title of its own, a description, the language, one main and one first heading, and style and scripts that exist"
    bad, titles = [], {}
    for o in pages:
        text = (site[0]/o).read_text(encoding='utf-8'); title = re.search(r'<title>\s*(\S[^<]*)</title>', text)
        if title: titles.setdefault(title[1], []).append(o)
        else: bad.append(f'{o}: no title')
        if not re.search(r'<meta name="description" content="[^"]{10,}', text): bad.append(f'{o}: no description')
        if not re.search(r'<html\b[^>]*\blang="en', text): bad.append(f'{o}: no language')
        p = Page(site[0]/o)
        if p.main != 1 or len(re.findall(r'<h1\b', text)) != 1: bad.append(f'{o}: not one main and one h1')
        bad += [f'{o}: {u} is missing' for u in p.loaded if not urlsplit(u).scheme and not ((site[0]/o).parent/unquote(u.split('?')[0])).exists()]
    assert not bad + [v for v in titles.values() if len(v) > 1], bad + list(titles.items())


def test_citations(site):
    "Every 'author year' in the text of a page leads to the bibliography"
    keys = citations((site[0]/'bibliography.html').read_text(encoding='utf-8'))
    assert len(keys) > 30
    bad = {o: missing for o in pages if o != 'bibliography.html' and (missing := cite(split_main((site[0]/o).read_text(encoding='utf-8'))[1], keys)[1])}
    assert not bad, f'add these to nbs/references.bib: {bad}'


def test_every_exported_name_is_in_the_reference(site):
    "Listed with a link to an entry of that name; constants lead nowhere, they have no entry"
    listed = (site[0]/'reference.html').read_text(encoding='utf-8')
    linked = set(re.findall(r'<a [^>]*><code>([\w.]+)</code></a>', listed))
    bad, assigned = [], {}
    for f in sorted((root/'dl4ia_nbdev').glob('[a-z]*.py')):
        for o in ast.parse(f.read_text(encoding='utf-8')).body:
            if isinstance(o, (ast.Assign, ast.AnnAssign)): assigned.setdefault(f, {}).update({t.id: o.value for t in getattr(o, 'targets', None) or [o.target] if isinstance(t, ast.Name)})
    constants = {n for names in assigned.values() for n in names}
    for f,names in assigned.items():
        for n in ast.literal_eval(names['__all__']) if '__all__' in names else []:
            if f'<code>{n}</code>' not in listed: bad.append(f'{f.stem}.{n} is not listed: python tools/run_notebook.py nbs/reference.ipynb --save')
            elif n not in linked and n not in constants: bad.append(f'{f.stem}.{n} has no link')
    assert not bad, '\n'.join(bad)


def test_notebooks_to_take_away(site):
    "Pages with code offer their notebook, in Colab and as a file; the file installs the package"
    n = 0
    for o in pages:
        page = (site[0]/o).read_text(encoding='utf-8')
        m = re.search(r'class="chapter-tools"><a [^>]*href="(https://colab[^"]*)"[^>]*>.*?href="([^"]*\.ipynb)" download', page)
        if not m: continue
        n += 1
        nb = json.loads(((site[0]/o).parent/m[2]).read_text(encoding='utf-8'))
        assert '%pip install' in ''.join(nb['cells'][1]['source']), o
        assert (root/m[1].split('/blob/main/')[1]).exists(), m[1]
    assert n >= len(pages) - 4


def test_text_for_programs(site):
    "llms.txt lists every page, and each of its links has a file"
    text = (site[0]/'llms.txt').read_text(encoding='utf-8')
    mds = [o.rsplit('/dl4ia_nbdev/', 1)[1] for o in re.findall(r'\]\((\S+?)\)', text)]
    assert {o.replace('.html', '.md') for o in pages} == set(mds) and all((site[0]/o).stat().st_size > 200 for o in mds)


def test_style_sheets_fetch_nothing(site):
    assert [o.name for o in site[0].rglob('*.css') if re.search(r'(@import|url\()\s*["\']?(url\()?https?://', o.read_text(encoding='utf-8'))] == []


# ---- in the browser ----

@pytest.fixture(scope='module')
def server(site):
    "The address of the site on this machine"
    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *a): pass
    s = http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Handler, directory=str(site[0])))
    threading.Thread(target=s.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{s.server_port}'
    s.shutdown()


same_everywhere = ['main pre', 'main math', '#quarto-header', '#quarto-sidebar', '#quarto-margin-sidebar']     # looked at on a few whole pages, below


@pytest.fixture(scope='session')
def axe_script():
    "axe-core's source, or None"
    script, why = find_axe()
    if not script and os.environ.get('DL4IA_REQUIRE_AXE') == '1': pytest.fail(why)
    return script


@pytest.mark.browser
@pytest.mark.parametrize('page', pages)
def test_page_in_browser(page, site, server, browser, axe_script):
    "No script error; every figure is loaded and visible; nothing serious for axe; 390 pixels are wide enough"
    look_like(browser)
    shots = os.environ.get('DL4IA_SHOTS')
    bad = examine(browser, f'{server}/{page}', shots and Path(shots)/page.replace('/', '_').replace('.html', '.png'))
    if axe_script: bad += axe(browser, axe_script, exclude=same_everywhere)
    look_like(browser, 390)
    wide = browser.execute_script('return document.documentElement.scrollWidth - document.documentElement.clientWidth')
    if wide > 0: bad.append(f'on a phone the page is {wide} px wider than the window')
    look_like(browser)
    assert not bad, '\n'.join([page, *bad])


@pytest.mark.browser
@pytest.mark.parametrize('dark,width', [(False, None), (True, 390)])
def test_axe_in_light_and_dark(dark, width, site, server, browser, axe_script):
    "Pages with all that there is (code, tables, formulas, outputs), wide in the light and narrow in the dark"
    if not axe_script: pytest.skip('no axe-core')
    bad = []
    try:
        for page in ['index.html', 'encoders.html', 'infonce.html', 'tour.html']:
            look_like(browser, width, dark)
            browser.get(f'{server}/{page}')
            assert browser.execute_script("return document.querySelector('.quarto-dark') !== null") == dark
            bad += [f'{page}: {o}' for o in axe(browser, axe_script)]
    finally: look_like(browser)
    assert not bad, '\n'.join(bad)


@pytest.mark.browser
def test_keyboard(site, server, browser):
    "The first Tab leads past the navigation; sections of the sidebar open with Enter; a film plays without Python"
    from selenium.webdriver.common.keys import Keys
    browser.get(f'{server}/kmeans.html')
    active = lambda: browser.switch_to.active_element
    browser.find_element('tag name', 'body').send_keys(Keys.TAB)
    assert 'skip-link' in active().get_attribute('class')
    section = browser.find_element('css selector', 'button.sidebar-link')
    assert section.get_attribute('aria-expanded') == 'true'
    section.send_keys(Keys.ENTER)
    assert section.get_attribute('aria-expanded') == 'false'
    film = browser.find_element('css selector', '.film')
    before = film.find_element('tag name', 'img').get_attribute('src')[-200:]
    film.find_element('css selector', 'input[type=range]').send_keys(Keys.ARROW_RIGHT)
    assert film.find_element('tag name', 'span').text.startswith('2/') and film.find_element('tag name', 'img').get_attribute('src')[-200:] != before


@pytest.mark.browser
def test_a_film_that_stands_twice_on_a_page(browser, tmp_path):
    from selenium.webdriver.common.keys import Keys
    from dl4ia_nbdev.plot import Film
    (tmp_path/'p.html').write_text('<meta charset="utf-8">' + Film(lambda step, ax: ax.plot([0, step]), [1, 2], dpi=30)._repr_html_()*2, encoding='utf-8'); browser.get((tmp_path/'p.html').as_uri())
    films = browser.find_elements('css selector', '.film'); films[1].find_element('css selector', 'input').send_keys(Keys.ARROW_RIGHT)
    assert [f.find_element('tag name', 'span').text for f in films] == ['1/2', '2/2']


def test_search_index(site):
    "The index that the search box reads has every page, and every function and class by name"
    entries = json.loads((site[0]/'search.json').read_text(encoding='utf-8'))
    found = {urlsplit(o['href']).path for o in entries}
    assert set(pages) <= found, set(pages) - found
    listed = re.findall(r'<tr>\s*<td[^>]*><a [^>]*><code>(\w+)</code></a></td>', (site[0]/'reference.html').read_text(encoding='utf-8'))
    assert len(listed) > 150 and set(listed) <= {o['section'] for o in entries}, set(listed) - {o['section'] for o in entries}

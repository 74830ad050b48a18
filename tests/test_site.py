"""The documentation site, built from a copy of the project: links, images, outputs; then every page in headless Chromium.

Without Chromium the browser tests skip; with DL4IA_REQUIRE_BROWSER=1 they fail. DL4IA_SHOTS=folder keeps a screenshot of each page.
"""
import functools, http.server, json, os, re, sys, threading
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from browser import examine
from conftest import copy_project, run_in, sidebar_pages


def page_name(nb):
    "The page that nbdev makes of the notebook `nb`: 01_kmeans.ipynb gives kmeans.html"
    head, name = os.path.split(nb)
    return os.path.join(head, re.sub(r'^\d+[a-zA-Z0-9]*_', '', name).replace('.ipynb', '.html'))


pages = [page_name(o) for o in sidebar_pages()]


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    pytest.importorskip('smalldocs', reason='smalldocs needs Python 3.11')
    tmp = tmp_path_factory.mktemp('site')
    p = run_in(copy_project(tmp/'project'), sys.executable, 'tools/build_site.py', '--out', tmp/'site', timeout=600)
    assert (tmp/'site'/'index.html').exists(), p.stdout[-5000:]
    return tmp/'site', p


class Page(HTMLParser):
    "Ids, links, images and outputs of an HTML page"
    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.images, self.outputs, self.foreign, self.main = set(), [], [], 0, [], 0
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


def test_no_page_without_output(site): assert [o for o in pages if not Page(site[0]/o).outputs] == []


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


@pytest.mark.browser
@pytest.mark.parametrize('page', pages)
def test_page_in_browser(page, site, server, browser):
    "No script error; every figure is loaded and visible; the page has a height"
    shots = os.environ.get('DL4IA_SHOTS')
    bad = examine(browser, f'{server}/{page}', shots and Path(shots)/page.replace('/', '_').replace('.html', '.png'))
    assert not bad, '\n'.join([page, *bad])


def test_search_index(site):
    "The index that the search box reads has every page"
    found = {urlsplit(o['href']).path for o in json.loads((site[0]/'search.json').read_text(encoding='utf-8'))}
    assert set(pages) <= found, set(pages) - found

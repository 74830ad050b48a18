#!/usr/bin/env python
"""Finish a rendered site: what neither Quarto nor smalldocs does to its pages.

    python tools/finish_site.py _docs            # after nbdev_docs; tools/build_site.py does it by itself

`_proc` must hold the processed notebooks of which the site was made. Every page gets: pictures as files of their own, loaded when
they come into view, each with a text for those who cannot see it; citations as links to the bibliography; buttons that open the chapter in Colab and download it;
a link past the navigation, names for the regions of the page, scrolling boxes that the keyboard reaches. The site gets its notebooks,
its text without markup (llms.txt and a .md file for each page), and style sheets that fetch nothing and hold no icon that is not used.
All of it can be done twice: a finished page stays as it is.
"""
import base64, hashlib, html, io, json, posixpath, re, sys
from pathlib import Path

import yaml
from PIL import Image

root = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(root/'tools'))
from readme import PICTURES, directives, fenced, hidden

install = '#| hide\n#| eval: false\n%pip install -q "dl4ia_nbdev[notebook]"      # for Colab and new environments; where it is installed nothing happens'


# ---- pages and their notebooks ----

def page_name(nb, proc):
    "The page (a path within the site) that nbdev wants of the processed notebook `nb`: its `output-file`"
    first = next(iter(json.loads(nb.read_text(encoding='utf-8'))['cells']), {})
    m = re.search(r'^output-file:\s*(\S+)', ''.join(first.get('source', '')), re.M) if first.get('cell_type') == 'raw' else None
    return (nb.relative_to(proc).parent/(m[1] if m else f'{nb.stem}.html')).as_posix()


def notebooks(proc):
    "The processed notebooks by page: {'kmeans.html': Path('_proc/01_kmeans.ipynb')}"
    return {page_name(o, proc): o for o in sorted(proc.rglob('*.ipynb')) if not any(p[0] in '_.' for p in o.relative_to(proc).parts)}


def split_main(page):
    "`page` as what stands before the text, the text, and what follows"
    a, b = page.find('<main'), page.rfind('</main>')
    return (page[:a], page[a:b], page[b:]) if -1 < a < b else (page, '', '')


# ---- pictures ----

_png = re.compile(r'(<img\b[^>]*\bsrc=")data:image/(png|jpeg|gif);base64,([A-Za-z0-9+/=\s]{2000,})("[^>]*>)')

def picture_size(b):
    "(width, height) of a picture's bytes, None where they are no picture"
    try: return Image.open(io.BytesIO(b)).size
    except OSError: return None


def smallest(data, kind):
    "(bytes, kind) of the same pixels: lossless WebP where that is smaller than the PNG"
    if kind != 'png': return data, kind.replace('jpeg', 'jpg')
    try:
        out = io.BytesIO()
        im = Image.open(io.BytesIO(data))
        im.convert('RGBA' if im.mode in ('RGBA', 'LA') or 'transparency' in im.info else 'RGB').save(out, 'webp', lossless=True, method=3, quality=50)
    except (OSError, KeyError, SyntaxError): return data, kind
    return (out.getvalue(), 'webp') if out.tell() < len(data) else (data, kind)


def pictures(page, site, up):
    "`page` with its stored pictures as files under figures/: a third smaller at least, loaded when they come into view"
    def one(m):
        data = base64.b64decode(m[3])
        stem, (small, kind) = f'figures/{hashlib.sha256(data).hexdigest()[:16]}', smallest(data, m[2])
        name = f'{stem}.{kind}'
        (site/'figures').mkdir(exist_ok=True)
        (site/name).write_bytes(small)
        size = picture_size(data) if not re.search(r'\b(width|height)="', m[0][:200] + m[4]) else None
        wh = f' width="{size[0]}" height="{size[1]}"' if size else ''
        return f'{m[1]}{up}{name}{m[4][0]}{wh} loading="lazy" decoding="async"{m[4][1:]}'
    return _png.sub(one, page)


def alt_texts(main):
    "`main` with a text for every picture, and the pictures that had none: their caption, else the heading above them"
    bad, out, pos, heading = [], [], 0, ''
    text = lambda s: html.escape(' '.join(html.unescape(re.sub(r'<[^>]+>', '', s)).split()), quote=True)
    for m in re.finditer(r'<h[1-6]\b[^>]*>(.*?)</h[1-6]>|<img\b[^>]*>', main, re.S):
        if m[1] is not None: heading = text(m[1]); continue
        if re.search(r'\salt="[^"]', m[0]): continue
        fig = main[m.end():main.find('</figure>', m.end())] if '<figure' in main[main.rfind('</figure>', 0, m.start())+1:m.start()] else ''
        cap = re.search(r'<figcaption[^>]*>(.*?)</figcaption>', fig, re.S)
        alt = text(cap[1]) if cap else f'Picture: {heading}'
        if not cap: bad.append(f'a picture without alt text under {html.unescape(heading)!r}')
        out += [main[pos:m.start()], re.sub(r'\salt(="")?(?=[\s>])', '', m[0]).replace('<img', f'<img alt="{alt}"', 1)]
        pos = m.end()
    return ''.join(out) + main[pos:], bad


# ---- tables ----

def stack(main):
    "`main` with its wide tables of text marked: on a phone each row becomes a list of what the column heads say"
    def one(m):
        rows = [re.findall(r'<t[hd]\b[^>]*>(.*?)</t[hd]>', r, re.S) for r in re.findall(r'<tr\b.*?</tr>', m[0], re.S)]
        text = lambda s: ' '.join(html.unescape(re.sub(r'<[^>]+>', '', s)).split())
        wide = max((sum(len(text(c)) for c in r) for r in rows), default=0)
        if 'data-label' in m[0] or len(rows) < 2 or len(rows[0]) < 3 or wide < 60 or 'class="dl4ia"' in m[0][:200]: return m[0]
        heads, col = [html.escape(text(c)) for c in rows[0]], iter([])
        def cell(c):
            nonlocal col
            if c[0].startswith('<tr'):
                col = iter(heads)
                return c[0]
            return f'<td data-label="{next(col, "")}"{c[1]}>'
        body = m[0].find('<tbody')
        marked = re.sub(r'<tr\b[^>]*>|<td\b([^>]*)>', cell, m[0][body:])
        return re.sub(r'^<table\b(?: class="([^"]*)")?', lambda c: f'<table class="{(c[1] + " ") if c[1] else ""}stack"', m[0][:body]) + marked
    return re.sub(r'<table\b(?:(?!<table\b).)*?</table>', one, main, flags=re.S)


# ---- citations ----

_name = r'(?:(?:van|von|de|da|der|den) )*[A-ZÀ-Þ][\w’\'-]+'
_cite = re.compile(rf'({_name}(?:(?:, and |, | and | & | &amp; ){_name})*)( et al\.)?,? (\(?)((?:19|20)\d\d)(?![\d-])')
_no_author = {'Middlebury', *'January February March April May June July August September October November December'.split()}      # a data set, dates
_skip = {'a', 'code', 'pre', 'script', 'style', 'math', 'h1', 'h2', 'h3', 'h4', 'h5', 'h6', 'summary', 'title', 'button'}


def citations(bibliography):
    "What can be cited: (first author, year) to the entry's id, read from the page of the bibliography"
    return {tuple(html.unescape(m[2]).rsplit(' ', 1)): m[1] for m in re.finditer(r'<li id="([\w-]+)" data-cite="([^"]+)"', bibliography)}


def cite(main, keys, page='bibliography.html'):
    "`main` with each 'Caron et al. 2018' as a link to its entry, and the citations that have none"
    missing, out, skip = [], [], []

    def one(m):
        names = list(re.finditer(_name, m[1]))
        for o in names:         # 'PyTorch, Kingma & Ba 2015' cites Kingma
            if (html.unescape(o[0]).replace('’', "'"), m[4]) in keys:
                at = m.start(1) + o.start() - m.start()
                return f'{m[0][:at]}<a class="cite" href="{page}#{keys[html.unescape(o[0]).replace("’", chr(39)), m[4]]}">{m[0][at:]}</a>'
        missing.append(html.unescape(m[0]))
        return m[0]
    for part in re.split(r'(<!--.*?-->|<[^>]+>)', main, flags=re.S):
        tag = re.match(r'<(/?)(\w+)', part)
        if tag:
            if tag[2].lower() in _skip:
                if not tag[1]: skip.append(tag[2].lower())
                elif tag[2].lower() in skip: del skip[len(skip) - 1 - skip[::-1].index(tag[2].lower()):]
        elif part[:1] != '<' and not skip: part = _cite.sub(one, part)
        out.append(part)
    return ''.join(out), [o for o in missing if o.split()[0] not in _no_author]


# ---- links to the reference ----

def entries(page):
    "Name to anchor of the reference entries of a page, where a heading's own anchor is another's (`AlexNet` beside `alexnet`)"
    found = re.findall(r'<h[1-6][^>]*\bid="([^"]+)"[^>]*>\s*([A-Za-z_][\w.]*)\s*</h', page)
    return {n: i for i, n in found if i != n.lower()}


def right_entry(page, table):
    "`page` with links such as alexnet.html#alexnet around `AlexNet` led to the entry of that name; `table` is {page name: entries}"
    def one(m):
        to = table.get(posixpath.basename(m[2]), {}).get(m[4])
        return f'{m[1]}{m[2]}#{to}{m[3]}{m[4]}</code></a>' if to else m[0]
    return re.sub(r'(<a\b[^>]*\bhref=")([^"#]*)#[\w.-]+("[^>]*><code>)([A-Za-z_][\w.]*)</code></a>', one, page)


# ---- reading without a mouse, or without eyes ----

skip_link = '<a class="skip-link" href="#quarto-document-content">Skip to the text</a>'
reach = """<script id="reach">(function(){
function mend(){document.querySelectorAll('main pre, main .cell-output, main .sd-table, main math[display=block], main .table-wrap, main .features-container, #TOC, #quarto-sidebar, #quarto-margin-sidebar').forEach(function(o){
var more=o.scrollWidth>o.clientWidth+1&&/auto|scroll/.test(getComputedStyle(o).overflowX)||o.scrollHeight>o.clientHeight+1&&/auto|scroll/.test(getComputedStyle(o).overflowY);
if(more)o.tabIndex=0;else if(o.getAttribute('tabindex')==='0')o.removeAttribute('tabindex');});}
var wait;function later(){clearTimeout(wait);wait=setTimeout(mend,100);}
if(document.readyState==='loading')document.addEventListener('DOMContentLoaded',mend);else mend();
addEventListener('load',mend);addEventListener('resize',later);document.addEventListener('toggle',later,true);document.addEventListener('shown.bs.collapse',later);})();</script>"""


def labels(page):
    "`page` with a link past the navigation, a name for each region, and sections of the sidebar that open by keyboard"
    if 'class="skip-link"' in page: return page
    page = re.sub(r'(<body\b[^>]*>)', lambda m: m[1] + skip_link, page, count=1)
    for tag, label in [(r'nav class="navbar\b', 'Site'), (r'nav class="quarto-secondary-nav\b', 'Page'), (r'nav id="quarto-sidebar"', 'Chapters'), (r'nav class="page-navigation"', 'Chapter before and after')]:
        page = re.sub(f'<{tag}', lambda m: m[0].replace('<nav', f'<nav aria-label="{label}"', 1), page, count=1)
    page = re.sub(r'<nav class="quarto-page-breadcrumbs quarto-title-breadcrumbs([^"]*)" aria-label="breadcrumb"', r'<nav class="quarto-page-breadcrumbs quarto-title-breadcrumbs\1" aria-label="Where this page is"', page)
    page = re.sub(r'<div id="quarto-margin-sidebar"', '<div role="complementary" aria-label="On this page" id="quarto-margin-sidebar"', page, count=1)
    # a section's name and its arrow do the same: the name becomes a button, the arrow leaves the order of the Tab key
    page = re.sub(r'<a (class="sidebar-item-text[^>]*?data-bs-toggle="collapse"[^>]*?) role="navigation"([^>]*)>(.*?)</a>', r'<button type="button" \1\2>\3</button>', page, flags=re.S)
    page = re.sub(r'<a (class="sidebar-item-toggle[^>]*?) role="navigation"([^>]*?) aria-label="[^"]*"([^>]*)>(.*?)</a>', r'<span \1\2\3 aria-hidden="true">\4</span>', page, flags=re.S)
    page = re.sub(r'<a (class="quarto-color-scheme-toggle[^>]*?)title="[^"]*"', r'<a \1title="Light or dark" aria-label="Light or dark"', page)
    page = re.sub(r'<th\b([^>]*)>\s*</th>', r'<td\1></td>', page)
    if 'class="sd-table"' not in page: page = re.sub(r'(<table\b.*?</table>)', r'<div class="table-wrap">\1</div>', page, flags=re.S)
    page = re.sub(r'<summary>((?:(?!</summary>).)*?)<(button|a)\b[^>]*>(.*?)</\2>((?:(?!</summary>).)*)</summary>', r'<summary>\1\4</summary>', page, flags=re.S)
    return page.replace('</body>', reach + '</body>', 1)


# ---- opening and keeping a chapter ----

def buttons(page, nb, git, up):
    "`page` with the two buttons under its title: open the notebook in Colab, download it"
    if 'class="chapter-tools"' in page: return page
    colab = f'https://colab.research.google.com/github/{git}/nbs/{nb}'
    tools = (f'<p class="chapter-tools"><a class="tool" href="{colab}" target="_blank" rel="noopener">Open in Colab</a> '
             f'<a class="tool" href="{up}notebooks/{nb}" download>Download the notebook</a></p>')
    return re.sub(r'(<header id="title-block-header".*?</header>)', lambda m: m[1] + tools, page, count=1, flags=re.S)


def runs(nb):
    "Has the processed notebook a cell of code that readers see?"
    cells = [directives(''.join(c['source'])) for c in json.loads(nb.read_text(encoding='utf-8'))['cells'] if c['cell_type'] == 'code']
    return any(code.strip() and not hidden & d.keys() and 'false' not in (d.get('echo'), d.get('include')) for d, code in cells)


def with_install(nb):
    "The notebook `nb` (JSON) with the cell that installs the package, after its title"
    if not any('%pip install' in ''.join(c['source']) for c in nb['cells'][:4]):
        at = 1 + (nb['cells'][0]['cell_type'] == 'raw')
        cell = dict(cell_type='code', execution_count=None, id='a0c01ab0', metadata={}, outputs=[], source=install.splitlines(keepends=True))
        nb['cells'].insert(at, cell)
    return nb


def copy_notebook(src, dest, url):
    "Copy a notebook for readers to run elsewhere: it installs the package, and its pictures come from the site"
    nb = with_install(json.loads(src.read_text(encoding='utf-8')))
    for c in nb['cells']:
        if c['cell_type'] == 'markdown': c['source'] = re.sub(r'(\]\()((?:\.\./)?images/)', lambda m: f'{m[1]}{url}/{m[2].removeprefix("../")}', ''.join(c['source'])).splitlines(keepends=True)
    dest.parent.mkdir(parents=True, exist_ok=True)
    dest.write_text(json.dumps(nb, indent=1, ensure_ascii=False) + '\n', encoding='utf-8')


# ---- text for programs that read ----

def plain(nb):
    "(title, description, text) of a processed notebook: Markdown, code and text outputs; pictures by their alt texts"
    cells, parts, title, about = json.loads(nb.read_text(encoding='utf-8'))['cells'], [], nb.stem, ''
    for c in cells:
        src = ''.join(c['source'])
        if c['cell_type'] == 'raw':
            front = yaml.safe_load(src.strip().strip('-')) if src.startswith('---') else None
            if isinstance(front, dict): title, about = (str(front.get(k) or d) for k, d in (('title', title), ('description', about)))
        elif c['cell_type'] == 'markdown': parts.append(re.sub(r'(!?\[[^\]]*\]\([^)]*\))\{[^}]*\}', r'\1', src))
        else:
            d, code = directives(src)
            if hidden & d.keys() or d.get('include') == 'false': continue
            if code.strip() and d.get('echo') != 'false': parts.append(fenced(code, 'python'))
            for o in c.get('outputs', []) if d.get('output') != 'false' else []:
                data = o.get('data', {})
                if o['output_type'] == 'stream': parts.append(fenced(''.join(o['text']).rstrip('\n')))
                elif 'text/markdown' in data: parts.append(''.join(data['text/markdown']))
                elif any(m in data for m in PICTURES): parts.append(f"[Figure: {d.get('fig-alt', d.get('fig-cap', 'no description')).strip(chr(34))}]")
                elif 'text/plain' in data: parts.append(fenced(''.join(data['text/plain']).rstrip('\n')))
    parts = [re.sub(r'<!-- WARNING.*?-->', '', o).strip() for o in parts]
    return title, about, '\n\n'.join([f'# {title}', *([f'> {about}'] if about else []), *filter(None, parts)]) + '\n'


def llms(site, nbs, url, about, title):
    "Write a .md file for each page of `nbs`, and llms.txt that lists them"
    lines = [f'# {title}', '', f'> {about}', '', 'Each page is a notebook; the files below are its text, code and text outputs without pictures.', '', '## Pages', '']
    for page, nb in nbs.items():
        t, d, text = plain(nb)
        md = page.removesuffix('.html') + '.md'
        (site/md).write_text(text, encoding='utf-8', newline='\n')
        lines.append(f'- [{t}]({url}/{md}): {d}')
    (site/'llms.txt').write_text('\n'.join(lines) + '\n', encoding='utf-8', newline='\n')


# ---- style sheets ----

def lighten(site):
    "Style sheets that fetch no font from the network, and rules for icons that a page or a script uses, no others"
    libs = site/'site_libs'
    for f in libs.rglob('*.css'):
        text = f.read_text(encoding='utf-8')
        new = re.sub(r'@import\s*url\(["\']?https?://[^)]*\)\s*;', '', text)
        if f.name.startswith('bootstrap-icons'):
            src = ''.join(o.read_text(encoding='utf-8') for o in site.rglob('*') if o.suffix in ('.html', '.js') and 'search' not in o.name)
            used = set(re.findall(r'\bbi-([a-z0-9-]+)', src))
            new = re.sub(r'\.bi-([a-z0-9-]+)::?before\s*\{[^}]*\}', lambda m: m[0] if m[1] in used else '', new)
        if new != text: f.write_text(new, encoding='utf-8', newline='\n')


# ---- all of it ----

def finish(site, proc, cfg):
    "Finish the pages of `site`, made of the notebooks in `proc`, with the addresses of nbdev's settings `cfg`; returns what a reader would miss"
    nbs, notes = notebooks(proc), []
    url, git = cfg.doc_host + cfg.doc_baseurl, f'{cfg.user}/{cfg.repo}/blob/{cfg.branch}'
    bib = site/'bibliography.html'
    keys = citations(bib.read_text(encoding='utf-8')) if bib.exists() else {}
    pages = {f.relative_to(site).as_posix(): f for f in sorted(site.rglob('*.html')) if 'site_libs' not in f.parts}
    table = {posixpath.basename(name): entries(f.read_text(encoding='utf-8')) for name, f in pages.items()}
    for name, f in pages.items():
        up = '../' * name.count('/')
        page = right_entry(labels(f.read_text(encoding='utf-8')), table)
        if name in nbs and runs(nbs[name]): page = buttons(page, nbs[name].relative_to(proc).as_posix(), git, up)
        head, main, foot = split_main(page)
        main, bad = alt_texts(main)
        notes += [f'{name}: {o}' for o in bad]
        main = stack(pictures(main, site, up))
        if name != 'bibliography.html':
            main, bad = cite(main, keys, f'{up}bibliography.html')
            notes += [f'{name}: {o!r} is not in the bibliography' for o in dict.fromkeys(bad)]
        f.write_text(head + main + foot, encoding='utf-8', newline='\n')
    for nb in nbs.values():
        src = root/cfg.nbs_path/nb.relative_to(proc)
        if src.exists(): copy_notebook(src, site/'notebooks'/nb.relative_to(proc), url)
    llms(site, nbs, url, cfg.description, cfg.title)
    lighten(site)
    return notes


def main():
    from nbdev.config import get_config
    cfg = get_config()
    notes = finish(Path(sys.argv[1] if len(sys.argv) > 1 else cfg.doc_path).resolve(), root/'_proc', cfg)
    for o in notes: print(o)
    sys.exit(bool(notes))


if __name__ == '__main__': main()

#!/usr/bin/env python
"""Build the documentation site without Quarto.

    python tools/build_site.py              # into _docs
    python tools/build_site.py --out DIR    # into DIR, which is replaced

nbdev writes the addresses (nbs/nbdev.yml) and the processed notebooks (_proc), then smalldocs renders _proc from the same
_quarto.yml that Quarto uses for the published site. Two things that Quarto does and smalldocs does not are done here. Pages
take the names that nbdev gives them (kmeans.html for 01_kmeans.ipynb), and links to the published site become relative. Maths,
which smalldocs leaves to a script from a content network, becomes MathML, which browsers draw themselves: the site needs no network.
What neither does is in tools/finish_site.py.
"""
import argparse, html, json, os, posixpath, re, shutil, subprocess, sys, time
from pathlib import Path

root = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(root/'tools'))
import finish_site

_math = re.compile(r'<span class="math (inline|display)">\\([(\[])(.*?)\\[)\]]</span>', re.S)
_katex = re.compile(r'\s*<(?:link|script)\b[^>]*\bkatex\b[^>]*>(?:</script>)?', re.I)


def mathml(page):
    "`page` (HTML) with its formulas as MathML, and the formulas that could not be converted"
    from latex2mathml.converter import convert
    bad = []

    def one(m):
        tex = html.unescape(m[3]).strip()
        known = re.sub(r'\\(arg|sup|inf|dim)(?![a-zA-Z])', r'\\operatorname{\1}', tex).replace('{aligned}', '{align*}')      # spellings that the converter knows
        try: ml = convert(known, display='block' if m[1] == 'display' else 'inline')
        except Exception as e:
            bad.append(f'{tex}: {type(e).__name__} {e}')
            return m[0]
        if re.search(r'\\[a-zA-Z]+|>(?:&|&amp;|&#x00026;)<', ml):
            bad.append(f'{tex}: came out as {re.sub("<[^>]*>", " ", ml)}')
            return m[0]
        return f'<span class="math {m[1]}" title="{html.escape(tex)}">{ml}</span>'
    page = _math.sub(one, page)
    return (page if bad else _katex.sub('', page)), bad


def page_names(proc):
    "New names of pages: nbdev's `output-file` in the front matter of each processed notebook"
    old = lambda nb: nb.relative_to(proc).with_suffix('.html').as_posix()
    return {old(nb): page for page, nb in finish_site.notebooks(proc).items() if old(nb) != page}


def quarto_like(site, proc, url):
    "Give the pages of `site` nbdev's names, make links to `url` relative, and formulas MathML; returns problems"
    names, problems = page_names(proc), []
    for old, new in names.items():
        if (site/old).exists(): (site/old).rename(site/new)
    base = {posixpath.basename(k): posixpath.basename(v) for k, v in names.items()}
    rename = re.compile(r'(?<![\w-])(' + '|'.join(map(re.escape, base)) + r')(?![\w-])') if base else None
    for f in sorted(o for o in site.rglob('*') if o.suffix in ('.html', '.json', '.xml') and 'site_libs' not in o.parts):
        text = f.read_text(encoding='utf-8')
        if rename: text = rename.sub(lambda m: base[m[1]], text)
        if f.suffix == '.html':
            up = '../' * (len(f.relative_to(site).parts) - 1)
            text = re.sub(r'(<a\b[^>]*\bhref=")' + re.escape(url) + r'/?', lambda m: m[1] + (up or './'), text)
            text, bad = mathml(text)
            problems += [f'{f.relative_to(site)}: formula not converted: {o}' for o in bad]
        f.write_text(text, encoding='utf-8', newline='\n')
    return problems


# not problems: `quarto_like` does what the first three ask for; the last closes every report
known = 'output-file is not read by smalldocs', 'html-math-method is ignored', 'respect-user-color-scheme is ignored', ' thing(s) to look at'

def build(out=None, check=True, quiet=False):
    "Build the site into `out`; returns a list of problems"
    out = Path(out or root/'_docs').resolve()
    os.chdir(root)
    sys.path.insert(0, str(root))
    os.environ['PYTHONPATH'] = os.pathsep.join([str(root), *filter(None, [os.environ.get('PYTHONPATH')])])
    from nbdev.config import get_config
    from nbdev.quarto import refresh_quarto_yml
    from nbdev.serve import proc_nbs
    say = (lambda *a: None) if quiet else print
    cfg, start = get_config(), time.time()
    refresh_quarto_yml()
    shutil.rmtree(root/'_proc', ignore_errors=True)
    proc = proc_nbs(n_workers=min(2, os.cpu_count() or 1))
    say(f'notebooks processed, {time.time()-start:.0f} s')
    cmd = [sys.executable, '-m', 'smalldocs.cli']
    run = lambda *a: subprocess.run([*cmd, *a], cwd=root, stdin=subprocess.DEVNULL, text=True, encoding='utf-8', stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    r = run('render', '--quiet', str(proc))
    lines = lambda r: [l.removeprefix('warning: ') for l in r.stdout.splitlines() if l.strip() and not any(o in l for o in known)]
    problems = lines(r)
    if r.returncode: return problems or [f'smalldocs render ended with status {r.returncode}']
    if check: problems += lines(run('check', str(proc)))
    site = proc/cfg.doc_path.name
    problems += quarto_like(site, proc, cfg.doc_host + cfg.doc_baseurl)
    problems += finish_site.finish(site, proc, cfg)
    if out.exists() and any(out.iterdir()) and not (out/'site_libs').is_dir(): return problems + [f'{out} holds something other than a site: not replaced']
    shutil.rmtree(out, ignore_errors=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(site, out)
    say(f'site built in {out}, {len(list(out.rglob("*.html")))} pages, {time.time()-start:.0f} s')
    return list(dict.fromkeys(problems))


def main():
    p = argparse.ArgumentParser(description='Build the documentation site with nbdev and smalldocs.')
    p.add_argument('--out', help='folder to write (replaced); default _docs')
    p.add_argument('--no-check', action='store_true', help='leave out smalldocs check')
    a = p.parse_args()
    problems = build(a.out, check=not a.no_check)
    for o in problems: print(o, file=sys.stderr)
    sys.exit(bool(problems))


if __name__ == '__main__': main()

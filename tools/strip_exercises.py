#!/usr/bin/env python
"""Put the exercises into the package: nbs/exercises/*.ipynb without outputs, into dl4ia_nbdev/sheets.

    python tools/strip_exercises.py            # write them
    python tools/strip_exercises.py --check    # exit with 1 if they are not in step

What is left out: outputs, cells that begin with `#| hide`, the lines of directives, and text that begins with `<!-- site -->`,
which is for the pages only. Solutions stay in, between their markers: `dl4ia_exercises` puts blanks in their place.
"""
import argparse, json, re, sys
from pathlib import Path

root = Path(__file__).resolve().parent.parent
sources, target = root/'nbs'/'exercises', root/'dl4ia_nbdev'/'sheets'


def stripped(nb):
    "The notebook `nb` (JSON) as the package carries it"
    cells = []
    for c in nb['cells']:
        s = ''.join(c['source'])
        if s.startswith('<!-- site -->') or re.match(r'#\|\s*hide\b', s): continue
        if c['cell_type'] == 'code': s = re.sub(r'^#\|.*\n?', '', s, flags=re.M)
        if not s.strip(): continue
        cells.append(dict(cell_type=c['cell_type'], id=c['id'], metadata={}, source=s.splitlines(keepends=True)) | (dict(execution_count=None, outputs=[]) if c['cell_type'] == 'code' else {}))
    return dict(cells=cells, metadata=dict(kernelspec=dict(display_name='Python 3', language='python', name='python3')), nbformat=4, nbformat_minor=5)


def packed():
    "Name of the file -> its text, for every notebook with exercises"
    res = {}
    for f in sorted(sources.glob('*.ipynb')):
        nb = json.loads(f.read_text(encoding='utf-8'))
        if any('# BEGIN SOLUTION' in ''.join(c['source']) for c in nb['cells']): res[f.name] = json.dumps(stripped(nb), indent=1, ensure_ascii=False, sort_keys=True) + '\n'
    return res


def differences():
    "Names of packaged files that are missing, stale, or of no source"
    want, have = packed(), {f.name: f.read_text(encoding='utf-8') for f in target.glob('*.ipynb')}
    return sorted(n for n in want.keys() | have.keys() if want.get(n) != have.get(n))


def main():
    p = argparse.ArgumentParser(description='Put the exercises into the package, without outputs.')
    p.add_argument('--check', action='store_true', help='write nothing; exit with 1 if the package is not in step')
    a = p.parse_args()
    bad = differences()
    if a.check:
        for o in bad: print(f'{target.relative_to(root).as_posix()}/{o} is not in step with nbs/exercises: python tools/strip_exercises.py', file=sys.stderr)
        sys.exit(bool(bad))
    target.mkdir(exist_ok=True)
    for o in bad:
        text = packed().get(o)
        if text is None: (target/o).unlink()
        else: (target/o).write_text(text, encoding='utf-8', newline='\n')
    print(f"{len(packed())} notebooks in {target.relative_to(root).as_posix()}, {len(bad)} of them changed")


if __name__ == '__main__': main()

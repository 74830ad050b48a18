#!/usr/bin/env python
"""Give every notebook with code that readers see the cell that installs the package where it is missing (Colab), after its title.

    python tools/install_cell.py            # insert it where it is not
    python tools/install_cell.py --check    # list the notebooks without it; exit 1 if there is one

The cell is hidden on the site and never run by the tests (`#| eval: false`).
"""
import json, sys
from pathlib import Path

root = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(root/'tools'))
from finish_site import runs, with_install


def missing(nbs=root/'nbs'):
    "Notebooks with code that lack the cell"
    found = [o for o in sorted(nbs.rglob('*.ipynb')) if not any(p[0] in '_.' for p in o.relative_to(nbs).parts) and runs(o)]
    return [o for o in found if '%pip install' not in ''.join(json.loads(o.read_text(encoding='utf-8'))['cells'][1]['source'])]


def main():
    todo = missing()
    for o in todo:
        print(o.relative_to(root).as_posix())
        if '--check' not in sys.argv:
            nb = with_install(json.loads(o.read_text(encoding='utf-8')))
            o.write_text(json.dumps(nb, indent=1, ensure_ascii=False, sort_keys=True) + '\n', encoding='utf-8', newline='\n')
    sys.exit(bool(todo) and '--check' in sys.argv)


if __name__ == '__main__': main()

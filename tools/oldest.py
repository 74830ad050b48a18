#!/usr/bin/env python
"""The lower bounds of settings.ini as versions (the last patch of each), for pip's option -c: an environment in which everything is as old as is promised.

    python tools/oldest.py > oldest.txt && pip install -e '.[dev]' -c oldest.txt && pytest nbs
"""
import configparser, re
from pathlib import Path


def oldest(settings=Path(__file__).resolve().parent.parent/'settings.ini'):
    "One line a requirement, at run time and of the extras [fast], [onnx] and [parquet]: name==lowest version.*"
    c = configparser.ConfigParser(interpolation=None); c.read(settings, encoding='utf-8'); lines = []
    for r in ' '.join(c['DEFAULT'][o] for o in ('requirements', 'fast_requirements', 'onnx_requirements', 'parquet_requirements')).split():
        m = re.fullmatch(r'([\w-]+)>=([\d.]+)', r)
        if not m: raise ValueError(f'settings.ini: a requirement must have a lower bound and nothing else, got {r!r}')
        lines.append(f'{m[1]}=={m[2]}.*')
    return lines


if __name__ == '__main__': print('\n'.join(oldest()))

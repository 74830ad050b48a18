"The package ships py.typed, so its annotations are a promise: mypy has nothing to say about the modules, nor about a script that uses them."
import sys

import pytest
from PIL import Image

from conftest import root, run_in


def test_mypy(pytestconfig, tmp_path):
    "One call, settings from pyproject.toml; later calls find the first one's work in pytest's cache"
    pytest.importorskip('mypy')
    cache = getattr(pytestconfig, 'cache', None)
    p = run_in(root, sys.executable, '-m', 'mypy', '--cache-dir', cache.mkdir('mypy') if cache else tmp_path)
    assert p.returncode == 0, p.stdout


def test_typed_user_runs(tmp_path):
    "What mypy accepts must work"
    for i in range(40):
        f = tmp_path/'pictures'/('warm', 'cold')[i % 2]/f'{i}.png'
        f.parent.mkdir(parents=True, exist_ok=True)
        noise, flat = Image.effect_noise((40, 32), 30 + i), Image.new('L', (40, 32), 60)
        Image.merge('RGB', ((noise, flat, flat), (flat, flat, noise))[i % 2]).save(f)
    p = run_in(root, sys.executable, 'tests/typed_user.py', tmp_path/'pictures', tmp_path/'page.html', MPLBACKEND='Agg')
    assert p.returncode == 0 and 'SimCLR' in p.stdout, p.stdout

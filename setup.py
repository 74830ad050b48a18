"Metadata of the package, read from settings.ini. It gives a value for every name that pyproject.toml lists as dynamic."
import re
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

root = Path(__file__).parent
parser = ConfigParser(delimiters=['='])
parser.read(root/'settings.ini', encoding='utf-8')
cfg = parser['DEFAULT']

licenses = {'apache2': 'Apache-2.0', 'mit': 'MIT', 'bsd3': 'BSD-3-Clause'}
statuses = {'1': 'Planning', '2': 'Pre-Alpha', '3': 'Alpha', '4': 'Beta', '5': 'Production/Stable', '6': 'Mature', '7': 'Inactive'}
notebook, fast, onnx, parquet = (cfg[f'{o}_requirements'].split() for o in ('notebook', 'fast', 'onnx', 'parquet'))


def absolute(text):
    "Links and pictures with whole addresses: an index of packages has no files beside the text"
    blob, raw = (f"{cfg['git_url']}/{o}/{cfg['branch']}/" for o in ('blob', 'raw'))
    return re.sub(r'(!?)(\[[^\]]*\]\()(?![a-z][a-z0-9+.-]*:|#|/)', lambda m: m[1] + m[2] + (raw if m[1] else blob), text)


setup(
    name=cfg['lib_name'],
    version=cfg['version'],
    description=cfg['description'],
    long_description=absolute((root/'README.md').read_text(encoding='utf-8')) if (root/'README.md').exists() else cfg['description'],
    long_description_content_type='text/markdown',
    author=cfg['author'],
    license=licenses[cfg['license']],
    license_files=['LICENSE'],
    keywords=[o.strip() for o in cfg['keywords'].split(',')],
    url=cfg['git_url'],
    project_urls={'Documentation': cfg['doc_host'] + cfg['doc_baseurl'], 'Source': cfg['git_url']},
    classifiers=[f"Development Status :: {cfg['status']} - {statuses[cfg['status']]}",
                 f"Intended Audience :: {cfg['audience']}", 'Intended Audience :: Education', 'Intended Audience :: Science/Research',
                 f"Natural Language :: {cfg['language']}", 'Programming Language :: Python :: 3',
                 'Topic :: Scientific/Engineering :: Artificial Intelligence', 'Topic :: Scientific/Engineering :: Image Recognition'],
    python_requires=f">={cfg['min_python']}",
    packages=find_packages(include=[cfg['lib_name'], cfg['lib_name'] + '.*']),
    package_data={cfg['lib_name']: ['py.typed', 'sheets/*.ipynb', 'weights/*.safetensors']},
    install_requires=cfg['requirements'].split(),
    extras_require={'notebook': notebook + fast, 'fast': fast, 'onnx': onnx, 'parquet': parquet, 'dev': cfg['dev_requirements'].split() + notebook + fast + onnx + parquet},
    entry_points={'console_scripts': cfg['console_scripts'].split(), 'nbdev': [f"{cfg['lib_name']}={cfg['lib_path']}._modidx:d"]},
    zip_safe=False,
)

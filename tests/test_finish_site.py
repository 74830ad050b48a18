"What tools/finish_site.py does to a page, on small pieces; tests/test_site.py looks at whole pages."
import base64, io, json, re

import numpy as np
import pytest
from PIL import Image

from finish_site import alt_texts, citations, cite, copy_notebook, entries, labels, lighten, page_name, pictures, plain, right_entry, runs, split_main, stack

keys = {('Caron', '2018'): 'caron2018', ('Arthur', '2007'): 'arthur2007', ('Oord', '2018'): 'oord2018', ('Ben-David', '2006'): 'bendavid2006', ('Kingma', '2015'): 'kingma2015'}


def test_citations_are_read(): assert citations('<li id="caron2018" data-cite="Caron 2018">x</li><li id="a">') == {('Caron', '2018'): 'caron2018'}


def test_cite():
    link = lambda text, key: f'<a class="cite" href="bibliography.html#{key}">{text}</a>'
    for text, key in [('Caron et al. 2018', 'caron2018'), ('Arthur &amp; Vassilvitskii 2007', 'arthur2007'), ('Arthur, Vassilvitskii 2007', 'arthur2007'), ('Caron et al. (2018', 'caron2018'),
                      ('Ben-David, von Luxburg &amp; Pál 2006', 'bendavid2006'), ('Caron, Bojanowski, Joulin, Douze 2018', 'caron2018')]:
        assert cite(f'<p>see {text}, §3</p>', keys) == (f'<p>see {link(text, key)}, §3</p>', [])
    assert cite('<p>In PyTorch, Kingma &amp; Ba 2015</p>', keys)[0] == f'<p>In PyTorch, {link("Kingma &amp; Ba 2015", "kingma2015")}</p>'
    for o in ['<code>Caron et al. 2018</code>', '<a href="x">Caron et al. 2018</a>', '<h2>Caron 2018</h2>', '<!-- Caron 2018 -->', '<img alt="Caron 2018">', 'January 2026', 'Caron 2018-05']: assert cite(o, keys) == (o, [])
    assert cite('<p>Nobody &amp; Else 1999</p>', keys)[1] == ['Nobody & Else 1999']
    once = cite('<p>Caron et al. 2018</p>', keys)[0]
    assert cite(once, keys) == (once, [])


def test_alt_texts():
    main, bad = alt_texts('<h2>A head</h2><figure><img src="a.png"><figcaption>What <em>to</em> see</figcaption></figure><img alt="is there" src="b"><img src="c" alt="">')
    assert 'alt="What to see" src="a.png"' in main and main.count('alt=') == 3 and 'alt="Picture: A head" src="c"' in main
    assert bad == ["a picture without alt text under 'A head'"] and alt_texts(main) == (main, [])


@pytest.mark.parametrize('kind,ext', [('png', 'webp'), ('jpeg', 'jpg')])
def test_pictures(tmp_path, kind, ext):
    buf = io.BytesIO(); rgb = Image.effect_noise((60, 40), 50).convert('RGB'); rgb.save(buf, kind)
    page = f'<p><img src="data:image/{kind};base64,{base64.b64encode(buf.getvalue()).decode()}" alt="x"></p>'
    out = pictures(page, tmp_path, '../')
    assert re.fullmatch(rf'<p><img src="\.\./figures/\w{{16}}\.{ext}" width="60" height="40" loading="lazy" decoding="async" alt="x"></p>', out)
    kept = next((tmp_path/'figures').iterdir()).read_bytes()
    assert np.array_equal(*(np.asarray(Image.open(io.BytesIO(o)).convert('RGB')) for o in (kept, buf.getvalue()))) and pictures(out, tmp_path, '../') == out


def test_stack():
    long = 'a text that is long enough to be hard to read on a phone'
    table = f'<table class="table"><thead><tr><th>n</th><th>what</th><th>where</th></tr></thead><tbody><tr><td>1</td><td>{long}</td><td>here</td></tr></tbody></table>'
    out = stack(table)
    assert 'class="table stack"' in out and '<td data-label="what">' in out and '<td data-label="where">here' in out and stack(out) == out
    for o in [table.replace(long, 'short'), table.replace('class="table"', 'class="dl4ia"')]: assert stack(o) == o


def test_labels():
    page = ('<html><body class="x"><nav class="navbar y"></nav><nav id="quarto-sidebar"><a class="sidebar-item-text sidebar-link" data-bs-toggle="collapse" data-bs-target="#s" role="navigation" aria-expanded="true"><span>A</span></a>'
            '<a class="sidebar-item-toggle" data-bs-toggle="collapse" role="navigation" aria-expanded="true" aria-label="Toggle section"><i></i></a></nav><main><table class="table"><tr><th></th></tr></table></main></body></html>')
    out = labels(page)
    for o in ['<body class="x"><a class="skip-link"', '<nav aria-label="Site" class="navbar', '<nav aria-label="Chapters" id="quarto-sidebar"', '<button type="button" class="sidebar-item-text', '<span class="sidebar-item-toggle', '<td></td>', '<div class="table-wrap">', 'id="reach"']: assert o in out, o
    assert labels(out) == out and split_main(out)[1].startswith('<main')


def test_right_entry():
    page = '<h3 id="alexnet" class="anchored">alexnet</h3><h3 id="alexnet-1">AlexNet</h3>'
    assert entries(page) == {'AlexNet': 'alexnet-1'}
    link = lambda name, to: f'<a href="./alexnet.html#{to}"><code>{name}</code></a>'
    assert right_entry(link('AlexNet', 'alexnet') + link('alexnet', 'alexnet'), {'alexnet.html': entries(page)}) == link('AlexNet', 'alexnet-1') + link('alexnet', 'alexnet')


def test_notebooks(tmp_path):
    nb = dict(cells=[dict(cell_type='raw', source=['---\n', 'title: T\n', 'description: D\n', 'output-file: t.html\n', '---']), dict(cell_type='markdown', source=['![a](images/a.svg)']),
                     dict(cell_type='code', source=['#| fig-alt: a cat\n', 'plot()'], outputs=[dict(output_type='display_data', data={'image/png': 'x'})])])
    (tmp_path/'sub').mkdir()
    file = tmp_path/'sub'/'00_t.ipynb'
    file.write_text(json.dumps(nb))
    assert page_name(file, tmp_path) == 'sub/t.html' and runs(file)
    assert plain(file) == ('T', 'D', '# T\n\n> D\n\n![a](images/a.svg)\n\n```python\nplot()\n```\n\n[Figure: a cat]\n')
    for i in range(2): copy_notebook(file, file, 'https://x.y')         # twice: the cell comes once
    cells = json.loads(file.read_text())['cells']
    assert ['%pip install' in ''.join(c['source']) for c in cells] == [False, False, True, False] and cells[1]['source'] == ['![a](https://x.y/images/a.svg)']
    nb['cells'][2]['source'] = ['#| echo: false\n', 'plot()']
    file.write_text(json.dumps(nb))
    assert not runs(file)


def test_lighten(tmp_path):
    libs = tmp_path/'site_libs'
    libs.mkdir()
    (libs/'theme.css').write_text('@import url(https://fonts.example.org/css2?family=A:wght@300;400&display=swap);p{color:red}')
    (libs/'bootstrap-icons.min.css').write_text('.bi-search::before{content:"a"}.bi-heart::before{content:"b"}.bi{x:y}')
    (tmp_path/'a.html').write_text('<i class="bi bi-search"></i>')
    lighten(tmp_path)
    assert (libs/'theme.css').read_text() == 'p{color:red}' and (libs/'bootstrap-icons.min.css').read_text() == '.bi-search::before{content:"a"}.bi{x:y}'

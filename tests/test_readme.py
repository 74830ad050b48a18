"README.md's generator on a small index notebook."
import base64, json

from readme import markdown, readme, relink


def test_links():
    assert relink('01_kmeans.ipynb') == 'nbs/01_kmeans.ipynb' and relink('images/a.png') == 'nbs/images/a.png'
    assert relink('01_kmeans.ipynb#x') == 'nbs/01_kmeans.ipynb#x' and relink('../CONTRIBUTING.md') == 'CONTRIBUTING.md'
    for o in ['https://example.org/a', '#here', 'mailto:x', 'data:image/png;base64,AA']: assert relink(o) == o


def test_markdown():
    text = '![a](images/a.png){width=70%} and `[x](y)`\n\n::: {.callout-tip}\nHi [b](b.ipynb)\n:::\n\n```\n[c](c.ipynb)\n:::\n```'
    assert markdown(text) == '![a](nbs/images/a.png) and `[x](y)`\n\nHi [b](nbs/b.ipynb)\n\n```\n[c](c.ipynb)\n:::\n```'


def test_cells(tmp_path):
    code = lambda s, *outs: dict(cell_type='code', source=s.splitlines(True), outputs=list(outs))
    show = lambda **data: dict(output_type='display_data', data={k.replace('_', '/'): v for k, v in data.items()})
    cells = [dict(cell_type='markdown', source=['# T\n', '> d']), code('#| hide\nsecret'), code('#| echo: false\nquiet', show(text_plain=['42'])),
             code("#| eval: false\nshown", dict(output_type='stream', name='stdout', text=['a\n', 'b\n'])),
             code('#| fig-alt: "A cat"\nplot()', show(image_png=base64.b64encode(b'png').decode(), text_plain=['<Figure>'])), code('x', show(text_markdown=['**m**'], text_plain=['m'])), code('y', show(image_jpeg=base64.b64encode(b'jpeg').decode()))]
    (tmp_path/'i.ipynb').write_text(json.dumps(dict(cells=cells)))
    text, pics = readme(tmp_path/'i.ipynb')
    parts = text.split('\n\n')
    assert parts[0].startswith('<!--') and parts[1:] == ['# T\n> d', '```\n42\n```', '```python\nshown\n```', '```\na\nb\n```', '```python\nplot()\n```', '![A cat](nbs/images/index_1.png)', '```python\nx\n```', '**m**', '```python\ny\n```', '![](nbs/images/index_2.jpeg)\n']
    assert pics == {'nbs/images/index_1.png': b'png', 'nbs/images/index_2.jpeg': b'jpeg'}

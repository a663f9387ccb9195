"""Items that have only a text or a picture, from a file to predictions."""

import json

import numpy as np
import pytest

import mtl_jax
from mtl_jax.data import item_content
from mtl_jax.experiment import predict, trained

COLORS = ('red', 'blue')


class Letters:
  """Vectors of what an item consists of: of texts and of files alike."""

  features = 5

  def __init__(self, name):
    self.fingerprint = f'letters of {name}'

  def encode(self, items):
    made = []
    for item in items:
      content = item.encode() if isinstance(item, str) else item.read_bytes()
      made.append(np.bincount(np.array(list(content)) % 5, minlength=5))
    return np.array(made, np.float32)


@pytest.fixture(scope='module')
def ran(tmp_path_factory):
  """The folder of a run on 40 items, and of their pictures."""
  path = tmp_path_factory.mktemp('content')
  rows = ['title,cover,kind,size']
  for i in range(40):
    color = COLORS[i % 2]
    (path / f'{i}.png').write_bytes(color.encode() * (1 + i % 3))
    title = f'{color} {i}' if i % 5 else ''
    rows.append(f'{title},{i}.png,{color},{i % 7}')
  (path / 'items.csv').write_text('\n'.join(rows))
  config = mtl_jax.default_config()
  config.targets = {
    'kind': {'kind': 'classification'},
    'size': {'kind': 'regression'},
  }
  config.data.name = 'mtl_jax.data.item_content.load'
  config.data.settings = {
    'files': {
      'train': f'{path}/items.csv[:60%]',
      'validation': f'{path}/items.csv[60%:80%]',
      'test': f'{path}/items.csv[80%:]',
    },
    'columns': {'kind': 'class', 'size': 'float'},
    'text': 'title',
    'picture': 'cover',
    'folder': str(path),
  }
  names = ('text', 'text_mask', 'picture', 'picture_mask', 'kind', 'size')
  config.data.features = {name: name for name in names}
  config.data.batch_size = 8
  config.model.trunk = {
    'name': 'fusion',
    'inputs': ('text', 'picture'),
    'how': 'concat',
    'features': 8,
  }
  config.training.update({'steps': 4, 'evaluate_every': 4})
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv('MTL_JAX_CACHE', str(path / 'cache'))
    for name in ('text_encoder', 'picture_encoder'):
      patch.setattr(item_content, name, Letters)
    mtl_jax.run(config, path / 'run')
    yield path


def write(path, text, ending='jsonl'):
  file = path / f'new.{ending}'
  file.write_text(text)
  return str(file)


def test_a_text_and_a_picture_are_enough(ran, tmp_path):
  rows = [
    {'title': 'red shoe', 'cover': '1.png'},
    {'title': 'blue sky'},
    {'cover': '0.png'},
  ]
  file = write(tmp_path, '\n'.join(json.dumps(row) for row in rows))
  out = tmp_path / 'out.jsonl'
  predict.predict_file(ran / 'run', file, str(out))
  found = [json.loads(line) for line in out.read_text().splitlines()]
  content = item_content.Content(
    ['a', 'b', 'c'],
    text=['red shoe', 'blue sky', None],
    picture=[ran / '1.png', None, ran / '0.png'],
  )
  model = trained.load(ran / 'run')
  wanted = model.predict(item_content.rows_of(content))
  for i, row in enumerate(found):
    own = row['kind']['probabilities']
    assert set(own) == set(COLORS)
    np.testing.assert_allclose(
      [
        own[name] for name in model.experiment.data['main'].info.classes['kind']
      ],
      wanted['kind'][i],
      atol=1e-6,
    )
    assert row['size'] == pytest.approx(float(wanted['size'][i, 0]), abs=1e-5)


def test_a_file_of_texts_alone_says_what_is_missing(ran, tmp_path, capsys):
  file = write(tmp_path, 'title\nred shoe\n', 'csv')
  predict.predict_file(ran / 'run', file)
  said = capsys.readouterr()
  assert "has no 'cover': it is missing in every example" in said.err
  assert json.loads(said.out)['kind']['label'] in COLORS


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('title,cover\n,\n', 'Expected one of title, cover in row 1 .* describe'),
    ('title,cover\nx,no.png\n', "'cover', row 1: expected a file .*no.png"),
    ('titel,cover\nx,1.png\n', "rename 'titel'"),
    ('name\nx\n', "found name; add 'title'"),
  ],
)
def test_what_describes_no_item_is_told(ran, tmp_path, text, message):
  with pytest.raises(ValueError, match=message):
    predict.predict_file(ran / 'run', write(tmp_path, text, 'csv'))

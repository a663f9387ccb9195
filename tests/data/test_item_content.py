"""A user's own items: texts, pictures and frames, any of them missing."""

import emoji_case
import numpy as np
import pytest

import mtl_jax
from mtl_jax.config import settings as settings_lib
from mtl_jax.data import item_content
from mtl_jax.experiment import config_data


@pytest.fixture
def items(tmp_path, monkeypatch):
  """Four items: a whole one, one of text, one of picture, one of nothing."""
  emoji_case.write(tmp_path, monkeypatch)
  for name in ('a.png', 'c.png', 'clip/2.png', 'clip/1.png', 'clip/note.txt'):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(name.encode())
  (tmp_path / 'items.csv').write_text(
    'title,more,cover,clip,price\n'
    'red,shoe,a.png,clip,2\n'
    'blue,,,,3\n'
    ',,c.png,,\n'
    ',,,,4\n'
  )
  return tmp_path


def settings(at, **changes):
  return {
    'files': {'train': str(at / 'items.csv')},
    'columns': {'price': 'float'},
    'text': ('title', 'more'),
    'picture': 'cover',
    'frames': 'clip',
    'folder': str(at),
    'frame_count': 3,
    **changes,
  }


def test_any_modality_may_be_missing(items):
  table = item_content.load(**settings(items))['train']
  raw = table.read(range(4), list(table.fields))
  assert raw['text_mask'].tolist() == [[1], [1], [0], [0]]
  assert raw['picture_mask'].tolist() == [[1], [0], [1], [0]]
  assert raw['frame_mask'].tolist() == [[1, 1, 0], [0] * 3, [0] * 3, [0] * 3]
  words, pixels = emoji_case.Letters(6), emoji_case.Letters(5)
  wanted = words.encode(['red. shoe', 'blue'])
  np.testing.assert_array_equal(raw['text'][:2], wanted)
  np.testing.assert_array_equal(
    raw['picture'][[0, 2]], pixels.encode([b'a.png', b'c.png'])
  )
  # In the order of their names.
  np.testing.assert_array_equal(
    raw['frames'][0, :2], pixels.encode([b'clip/1.png', b'clip/2.png'])
  )
  assert not raw['text'][2:].any() and not raw['frames'][1:].any()
  np.testing.assert_array_equal(raw['price'], [2, 3, np.nan, 4])
  only = item_content.load(**settings(items, picture='', frames=''))['train']
  assert set(only.fields) == {'price', 'title', 'more', 'text', 'text_mask'}


@pytest.mark.parametrize(
  'change, message',
  [
    ({'text': (), 'picture': '', 'frames': ''}, 'Expected a column of texts'),
    ({'folder': 'elsewhere'}, "'cover', row 1: expected a file elsewhere/a.p"),
    ({'frames': 'cover'}, "'cover', row 1: .* or leave the cell empty"),
    (
      {'columns': {'price': 'float', 'text': 'string'}},
      "expected no column 'text'",
    ),
  ],
)
def test_what_leads_nowhere_is_told(change, message, items):
  if 'columns' in change:
    file = items / 'items.csv'
    file.write_text(file.read_text().replace('title', 'text', 1))
    change = {**change, 'text': ('text', 'more')}
  with pytest.raises(ValueError, match=message):
    item_content.load(**settings(items, **change))


def test_columns_of_a_data_set_stand_for_its_vectors(items):
  own = item_content.columns_of(
    'mtl_jax.data.item_content.load', settings(items)
  )
  assert own.kinds == dict.fromkeys(
    ('title', 'more', 'cover', 'clip'), 'string'
  )
  assert 'frame_mask' in own.made and 'text' in own.made
  arrays = own.arrays({'title': ['red', ''], 'cover': ['', 'c.png']}, 2, 'f')
  assert arrays['text_mask'].tolist() == [[1], [0]]
  assert arrays['picture_mask'].tolist() == [[0], [1]]
  assert not arrays['frame_mask'].any()
  still = item_content.columns_of('mtl_jax.data.emoji.load', {'fold': 1})
  assert still.kinds == {'text': 'string', 'picture': 'string'}
  moving = item_content.columns_of('mtl_jax.data.emoji.load', {'frames': 2})
  assert moving.frames == 'frames' and moving.frame_count == 2
  assert item_content.columns_of('interactions', {}) is None


def test_files_are_read_as_the_config_says(items):
  """Semicolons of a spreadsheet, and a mark of what is missing."""
  text = (items / 'items.csv').read_text().replace(',', ';')
  (items / 'items.csv').write_text(text.replace('blue', '-'), 'gb18030')
  config = mtl_jax.default_config()
  config.data.name = 'mtl_jax.data.item_content.load'
  config.data.settings = settings(items, picture='', frames='')
  config.data.separator, config.data.missing = ';', ('', '-')
  config.data.encoding = 'gb18030'
  stream = settings_lib.from_config(config).data
  source = config_data.load_data(stream, 'main')
  raw = source.splits['train'].take(np.arange(4))
  assert raw['text_mask'].tolist() == [[1], [0], [0], [0]]
  with pytest.raises(ValueError, match="data set 'mtl_jax.*found 'texst'"):
    config.data.settings = {**settings(items), 'texst': 'minilm'}
    config_data.load_data(settings_lib.from_config(config).data, 'main')

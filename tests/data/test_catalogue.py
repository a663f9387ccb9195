"""Any data set of the TFDS catalogue, named with a mapping of its features."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from mtl_jax.data import (
  catalogue,
  loading,
  packages,
  pipeline,
  tokenization,
  train_batches,
)

pytestmark = pytest.mark.smoke


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv('MTL_JAX_CACHE', str(tmp_path))


def test_imdb_reviews_by_name():
  with tfds.testing.mock_data(num_examples=12):
    data = loading.load(
      'imdb_reviews',
      {'tokens': 'text', 'sentiment': 'label'},
      splits={
        'train': 'train[:90%]',
        'validation': 'train[90%:]',
        'test': 'test',
      },  # fmt: skip
      text={'tokens': tokenization.TextOptions(max_length=8, min_frequency=1)},
    )
  stream = pipeline.Stream(data.splits['train'], 4)
  batch = next(train_batches.train_iterator({'main': stream}, seed=0))['main']
  assert batch['tokens'].shape == batch['token_mask'].shape == (4, 8)
  assert set(batch['sentiment']) <= {0, 1}
  assert data.info.classes['sentiment'] == ('neg', 'pos')


def test_movielens_by_name():
  with tfds.testing.mock_data(num_examples=12):
    data = loading.load(
      'movielens/100k-ratings',
      {
        'user': 'user_id',
        'interests': 'movie_genres',
        'rating': 'user_rating',
        'occupation': 'user_occupation_label',
        'male': 'user_gender',
      },
      splits={'train': 'train[:80%]', 'validation': 'train[80%:]'},
    )
    batch = data.splits['train'].take(np.arange(12))
    raw = list(tfds.data_source('movielens/100k-ratings', split='train'))
  assert {key: values.dtype.name for key, values in batch.items()} == {
    'user': 'int32',
    'interests': 'int32',
    'rating': 'float32',
    'occupation': 'int32',
    'male': 'int32',
  }
  for i, record in enumerate(raw):
    hot = np.isin(np.arange(21), record['movie_genres'])
    np.testing.assert_array_equal(batch['interests'][i], hot)
    np.testing.assert_allclose(batch['rating'][i], record['user_rating'])
    assert batch['occupation'][i] == record['user_occupation_label']
  assert data.info.cardinalities['male'] == 2
  users = {record['user_id'] for record in raw}
  assert data.info.cardinalities['user'] == len(users) + 1


def test_only_the_features_that_are_read_are_decoded():
  class Broken(tfds.features.Text):
    def decode_example_np(self, example_data):
      raise AssertionError('decoded in vain')

  class DecodedInPart(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version('1.0.0')

    def _info(self):
      return tfds.core.DatasetInfo(
        builder=self,
        features=tfds.features.FeaturesDict(
          {
            'bad': Broken(),
            'inner': {'label': tfds.features.ClassLabel(num_classes=3)},
            'ragged': tfds.features.Sequence(np.int64),
            'image': tfds.features.Tensor(shape=(2, 2, 1), dtype=np.uint8),
            'flag': np.bool_,
          }
        ),
      )

    def _split_generators(self, dl_manager):
      return {'train': self._generate_examples()}

    def _generate_examples(self):
      for i in range(5):
        yield (
          i,
          {
            'bad': 'x',
            'inner': {'label': i % 3},
            'ragged': [1] * i,
            'image': np.full((2, 2, 1), i, np.uint8),
            'flag': i > 2,
          },
        )

  builder = DecodedInPart(
    data_dir=packages.cache_dir(), file_format='array_record'
  )
  builder.download_and_prepare()
  table = catalogue.from_tfds(builder, 'train[:60%]')
  assert table.size == 3
  assert {name: f.kind for name, f in table.fields.items()} == {
    'bad': 'string', 'inner/label': 'class', 'image': 'image', 'flag': 'class',
  }  # fmt: skip
  raw = table.read([0, 2], ['inner/label', 'image'])
  assert [int(v[0, 0, 0]) % 3 for v in raw['image']] == raw['inner/label']
  with pytest.raises(AssertionError, match='decoded in vain'):
    table.read([0], ['bad'])


def make_small():
  return catalogue.make_builder('synthetic_sequences', settings={'count': 20})


def test_a_set_is_prepared_once_and_says_so(capsys, caplog):
  make_small()
  assert not caplog.records
  first = capsys.readouterr()
  assert first.err.startswith('Preparing synthetic_sequences in ')
  assert first.err.count('\n') == 1
  make_small()
  second = capsys.readouterr()
  assert first.out + second.out + second.err == ''


@pytest.mark.parametrize(
  'split, message',
  [
    ('valid', "expected a split, found 'valid'; did you mean 'validation'"),
    ('train[:0]', r'train\[:0\]\]: .* found an empty split'),
  ],
)
def test_bad_splits(split, message):
  with pytest.raises(ValueError, match=message):
    catalogue.from_tfds(make_small(), split)


@pytest.mark.parametrize(
  'name, settings, message',
  [
    ('clothing_review', None, "mean 'clothing_reviews'.*Our own are"),
    ('imdb_review', None, "found 'imdb_review'; did you mean 'imdb_reviews'"),
    ('imdb_reviewz', {'a': 1}, "found 'imdb_reviewz'; did you mean"),
    ('imdb_reviews', {'a': 1}, "found {'a': 1} for 'imdb_reviews'; leave"),
    ('clothing_reviews', {'a': 1}, 'settings for one of click_funnel'),
    ('two_digits', {'sorce': 1}, "'sorce'; did you mean 'source'"),
    ('two_digits/lin', None, "config of 'two_digits', found 'lin'"),
  ],
)
def test_bad_names(name, settings, message):
  with pytest.raises(ValueError, match=message):
    catalogue.make_builder(name, settings=settings)


def test_data_that_cannot_be_prepared(monkeypatch):
  def fail(*args, **kwargs):
    raise OSError('No space left on device')

  monkeypatch.setattr(tfds.core.DatasetBuilder, 'download_and_prepare', fail)
  with pytest.raises(RuntimeError, match='No space left on device.*; connect'):
    make_small()


def cut(path):
  path.write_bytes(path.read_bytes()[:100])


def zero(path):
  path.write_bytes(bytes(len(path.read_bytes())))


def remove(path):
  path.unlink()


@pytest.mark.parametrize(
  'harm, found',
  [
    (cut, 'at least 64KB'),
    (zero, 'Corrupted'),
    (remove, 'No such file'),
  ],
)
def test_damaged_files_name_their_folder(harm, found):
  folder = make_small().data_path
  (path,) = folder.glob('*-train.array_record*')
  harm(path)
  with pytest.raises(RuntimeError, match=found) as error:
    catalogue.from_tfds(make_small(), 'train').read([0], ['value'])
  message = str(error.value)
  assert message.startswith(f'Expected prepared data in {folder}, found a file')
  assert message.endswith(f'delete {folder}, it is prepared again.')


def test_a_folder_without_its_description():
  folder = make_small().data_path
  (folder / 'dataset_info.json').unlink()
  with pytest.raises(RuntimeError, match=f'delete {folder}, it is prepared'):
    catalogue.from_tfds(make_small(), 'train')

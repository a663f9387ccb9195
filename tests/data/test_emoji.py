"""Emoji from made packages: variants stay together, labels may be missing."""

import io
import pathlib

import emoji_case
import jax
import numpy as np
from PIL import Image
import pytest

import mtl_jax
from mtl_jax import evaluation
from mtl_jax.config import overrides, settings as settings_lib
from mtl_jax.data import emoji, item_content
from mtl_jax.experiment import build, run

CONFIG = pathlib.Path(__file__).parents[2] / 'configs' / 'rec' / 'emoji.py'


@pytest.fixture
def made(tmp_path, monkeypatch):
  emoji_case.write(tmp_path, monkeypatch)
  return tmp_path


def whole(table):
  return table.read(range(table.size), list(table.fields))


def test_every_fold_tests_each_emoji_once(made):
  seen = {}
  for fold in range(5):
    parts = {k: whole(v) for k, v in emoji.load(fold=fold).items()}
    texts = {k: {x.tobytes() for x in v['text']} for k, v in parts.items()}
    assert sum(len(v['group']) for v in parts.values()) == 51
    assert not texts['train'] & texts['test']
    for row in parts['test']['text']:
      seen[row.tobytes()] = seen.get(row.tobytes(), 0) + 1
  assert len(seen) == 51 and set(seen.values()) == {1}
  with pytest.raises(ValueError, match='a fold of 0 to 4, found 5; set'):
    emoji.load(fold=5)


def test_variants_have_one_stem():
  rows = [
    ('1F9D1-200D-1F373', 'cook'),
    ('1F468-1F3FB-200D-1F373', 'man cook: light skin tone'),
    ('1F937-200D-2642-FE0F', 'man shrugging'),
    ('1F937', 'person shrugging'),
    ('1F934', 'prince'),
    ('1F478', 'princess'),
    ('0031-FE0F-20E3', 'keycap: 1'),
    ('1F51F', 'keycap: 10'),
    ('1F1F3-1F1F4', 'flag: Norway'),
    ('1F1F8-1F1EF', 'flag: Svalbard'),
    ('1F1EB-1F1F7', 'flag: France'),
    ('1F600', 'grinning face'),
  ]
  pictures = [b'%d' % i for i in range(len(rows))]
  pictures[9] = pictures[8]
  made = [
    emoji.Emoji(code, label, '', '', '', '', picture)
    for (code, label), picture in zip(rows, pictures, strict=True)
  ]
  assert emoji.stems(made) == [0, 0, 2, 2, 4, 4, 6, 6, 8, 8, 10, 11]
  splits = emoji.split_of(made, 3)
  assert all(splits[i] == splits[i + 1] for i in range(0, 10, 2))


def test_sentiment_is_weighted_and_missing_below_five():
  table = 'Emoji,Occurrences,Negative,Neutral,Positive\n'
  table += '❤,20,5,5,10\n😀,4,0,0,4\n'
  found = emoji.read_sentiment(table.encode())
  assert found['2764'] == (0.25, 0.5, pytest.approx(np.log(20)))
  score, weight, frequency = found['1F600']
  assert np.isnan(score) and weight == 0 and frequency == np.log(4)


def test_labels_and_inputs_belong_together(made):
  tables = emoji.load(fold=1)
  names = tables['train'].fields['group'].names
  assert names == ('people', 'smileys', 'flags')
  for table in tables.values():
    raw = whole(table)
    assert raw['text'].shape[1:] == (6,) and raw['picture'].shape[1:] == (5,)
    faces = np.asarray(raw['group']) == names.index('smileys')
    known = np.isfinite(raw['frequency'])
    assert np.all(known <= (faces | (np.asarray(raw['frequency']) > 4.6)))
    weights = np.asarray(raw['sentiment_weight'])
    np.testing.assert_array_equal(weights > 0, np.isfinite(raw['sentiment']))
    n = np.exp(raw['frequency'][weights > 0])
    np.testing.assert_allclose(weights[weights > 0], n / (n + 20), rtol=1e-5)
  bare = emoji.load(fold=1, flags=False)
  assert sum(table.size for table in bare.values()) == 36
  assert not any(
    (np.asarray(whole(t)['group']) == names.index('flags')).any()
    for t in bare.values()
  )


def test_some_move(made, monkeypatch):
  frames = [Image.new('RGB', (4, 4), (40 * i, 0, 0)) for i in range(6)]
  moving, still = io.BytesIO(), io.BytesIO()
  frames[0].save(
    moving, 'WEBP', save_all=True, append_images=frames[1:], lossless=True
  )
  frames[0].save(still, 'WEBP')
  files = {
    'assets/1f44b.webp': moving.getvalue(),
    'assets/1f603.webp': still.getvalue(),
  }
  content = emoji_case.tarball(files)
  emoji_case.pin(monkeypatch, 'ANIMATED', content, 'tgz', made, emoji)
  tables = emoji.load(frames=3)
  raws = [whole(table) for table in tables.values()]
  masks = np.concatenate([raw['frame_mask'] for raw in raws])
  assert masks.shape == (51, 3) and masks.sum() == 3
  vectors = np.concatenate([raw['frames'] for raw in raws])
  (row,) = np.flatnonzero(masks.sum(1))
  wanted = [np.full((4, 4, 3), (40 * i, 0, 0), np.uint8) for i in (0, 2, 5)]
  letters = emoji_case.Letters(5)
  np.testing.assert_array_equal(vectors[row], letters.encode(wanted))


def small(how):
  config = overrides.load_config(f'{CONFIG}:{how}')
  overrides.apply_overrides(
    config,
    [
      'config.data.settings.fold=4',  # each split has some labels of each
      'config.training.steps=2',
      'config.data.batch_size=8',
      'config.data.evaluation_batch_size=16',
      'config.model.trunk.features=4',
    ],
  )
  return settings_lib.from_config(config)


@pytest.mark.parametrize('how', ['gate', 'concat', 'attention'])
def test_the_config_is_built_on_made_emoji(how, made):
  experiment = build.build(small(how))
  batch = experiment.data['main'].splits['train'].take(np.arange(8))

  def run_trunk():
    state = experiment.first_state(0)
    return experiment.model.features(
      state.params, {}, batch, stream='main', train=False
    )

  features, _ = jax.eval_shape(run_trunk)
  assert features.shape == ((8, 3, 5) if how == 'gate' else (8, 4))


@pytest.mark.slow
def test_the_config_trains_and_inputs_are_knocked_out(made):
  outcome = run.train(small('gate'), made / 'run')
  assert outcome.ended == 'finished'
  assert set(outcome.metrics) == {'group', 'subgroup', 'sentiment', 'frequency'}
  assert all(np.isfinite(x['loss']) for x in outcome.metrics.values())
  trained = mtl_jax.load(made / 'run')
  found = trained.knock_outs(('text', 'picture', 'chinese'))
  assert {how for _, how in found} == {'', *evaluation.HOWS}
  whole_result = found['', '']
  for task, metrics in outcome.metrics.items():
    assert whole_result.metrics[task]['loss'] == pytest.approx(
      metrics['loss'], rel=1e-5
    )
    for name in ('text', 'picture', 'chinese'):
      changed = found[name, 'permuted'].metrics[task]['loss']
      assert changed != pytest.approx(metrics['loss'], rel=1e-6)

  # A new item that has a name only.
  new = item_content.Content(['new'], text=['face 3'], picture=[None])
  (row,) = item_content.rows_of(new)
  predicted = trained.predict([{**row, 'chinese': ''}])
  assert predicted['group'].shape == (1, 3)
  assert np.all(np.isfinite(predicted['sentiment']))


def test_the_study_has_both_fusions_with_every_method():
  config = overrides.load_config(str(CONFIG.with_name('emoji_study.py')))
  settings = settings_lib.from_config(config)
  methods = settings.study.methods
  assert len(methods) == 12 and settings.population.seeds == 5
  for name, method in methods.items():
    how = name.partition('_')[0]
    assert method['model']['trunk']['how'] == how
    gate = method['model']['head']['name'] == 'gate'
    assert gate == (how == 'gate')
  assert 'chinese' not in settings.data.features

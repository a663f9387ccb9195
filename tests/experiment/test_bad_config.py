"""What a user may get wrong: each message is read."""

import re
import types

import numpy as np
import pytest

from mtl_jax import data
from mtl_jax.config import overrides, settings as settings_lib
from mtl_jax.experiment import build, checks

CASES = {
  'config.optimizr.name=adam': "found 'optimizr'; did you mean 'optimizer'?",
  'config.optimizer.learning_rat=1': "did you mean 'learning_rate'?",
  'config.seed=0.5': 'value of type int for config.seed, found 0.5',
  'config.optimizer=3': 'a section of keys for config.optimizer, found 3',
  'config.seed.x=1': "found the key 'config.seed.x' below it",
  'seed=1': "Expected --config.key=value, found '--seed=1'",
  'config.tasks=genre,ratng': "found 'ratng'; did you mean 'rating'?",
  'config.tasks=genre,genre': 'Expected every task once',
  'config.targets.genre.kind=clasification': "did you mean 'classification'?",
  'config.targets.genre.label=gnre': "no 'gnre'; did you mean 'genre'?",
  'config.targets.genre.weigth=2': "did you mean 'weight'?",
  'config.targets.rating.loss=mae': (
    "loss among mse, huber, quantile, poisson, found 'mae'"
  ),
  'config.targets.genre.num_classes=2': 'classes from 0 to 1, or -1',
  'config.targets.genre.stream=side': "Expected a stream .* found 'side'",
  'config.model.trunk.name=lstmm': "did you mean 'lstm'?",
  'config.model.trunk.width=3': "did you mean 'widths'?",
  'config.model.trunk.name=no_module.trunk': "module 'no_module' cannot be",
  'config.model.trunk.name=math.trunk': "module 'math' has no 'trunk'",
  'config.model.head.name=lin': "did you mean 'linear'?",
  'config.model.heads.genr={"name": "mlp"}': "found one of 'genr'",
  'config.model.dtype=float16': "float32, bfloat16, found 'float16'",
  'config.combinator.name=pcgrd': "did you mean 'pcgrad'?",
  'config.combinator.c=0.4': "option of combinator 'pcgrad', found 'c'",
  'config.optimizer.name=adamm': "an optimizer of Optax, found 'adamm'",
  'config.optimizer.options.b3=1.0': "option of optax.adam, found 'b3'",
  'config.optimizer.frozen=("trnk",)': "no match for 'trnk'; parameters",
  'config.combinator.before=({"name": "dw"},)': 'name of a transform',
  'config.combinator.wrappers=({"name": "evry_k"},)': "mean 'every_k'",
  'config.optimizer.schedule=cosin': "constant, cosine, .* found 'cosin'",
  'config.optimizer.learning_rate=-1.0': 'learning rate > 0',
  'config.training.sampling=al': "did you mean 'all'?",
  'config.training.accumulate=5': 'divides by 4 devices x 5 microbatches',
  'config.training.gramian_chunk=2': "'chunked' for chunks of 2 .* 'auto'",
  'config.training.steps=-1': 'config.training.steps >= 0, found -1',
  'config.training.epochs=0 config.training.steps=0': 'at least one step',
  'config.training.mode=gmap': "jit, shard_map, pmap, found 'gmap'",
  'config.training.patience=-1': 'patience >= 0, found -1',
  'config.training.keep=1': 'keep >= 2, found 1',
  'config.training.log_every=0': 'log_every >= 1, found 0',
  'config.optimizer.clip_norm=-1': 'clip_norm >= 0, found -1',
  'config.optimizer.weight_decay=-0.1': 'weight_decay >= 0',
  'config.optimizer.frozen=("(",)': 'a regular expression on parameter names',
  'config.optimizer.learning_rates=("trunk",0.1)': 'Expected pairs',
  'config.seed=-1': 'config.seed >= 0',
  'config.baselines=("popularty",)': "did you mean 'popularity'?",
  'config.targets.genre.score=accurcy': "a score among .* found 'accurcy'",
  'config.tasks=like config.targets.like.kind=entire_space '
  'config.targets.like.after=genre': "no 'genre' among like; add it to",
  'config.tasks=like,genre config.targets.like.kind=entire_space '
  'config.targets.like.after=genre': "found 'genre' with 3 outputs; name",
  'config.tasks=like config.targets.like.kind=order_calibrated': "'after'",
  'config.data.batch_size=100': 'from 1 to 60, the number of its training',
  'config.data.batch_size=0': 'from 1 to 60, .* found 0',
  'config.data.evaluation_batch_size=0': 'at least 1, found 0',
  'config.data.name=no_module.load': "module 'no_module' cannot be",
  'config.data.cache=no': "cache to be one of .* found 'no'",
}


@pytest.mark.parametrize('override', CASES)
def test_message(tiny, override):
  config = tiny.config()
  own = 'cache' not in override and 'data.name' not in override
  loaded = {'main': tiny.data()} if own else None
  with pytest.raises(ValueError, match=CASES[override]) as error:
    texts = override.replace(' config.', '\n--config.').split('\n')
    overrides.apply_overrides(config, ['--' + texts[0], *texts[1:]])
    experiment = build.build(
      settings_lib.from_config(config), sources=build.Sources(loaded)
    )
    experiment.make_model(None)
    data.train_iterator(experiment.training_streams(), seed=0)
  assert len(re.findall(r'[.?] [A-Z]', str(error.value))) <= 1


def test_batch_that_does_not_divide_is_named(tiny):
  config = tiny.config()
  config.training.accumulate = 2
  settings = settings_lib.from_config(config)
  source = types.SimpleNamespace(splits={'train': range(16)})

  def check(batch_size, devices):
    stream = types.SimpleNamespace(
      batch_size=batch_size, evaluation_batch_size=1
    )
    checks.check_batch_size('main', stream, source, settings, devices)

  check(16, 4)
  check(12, 1)
  with pytest.raises(ValueError, match='4 devices x 2 microb.*, found 12'):
    check(12, 4)


def test_labels_out_of_range_are_found_before_training(tiny):
  tables = tiny.tables()
  rows = tables['test'].read(range(30), ('x', 'genre', 'rating', 'like'))
  rows['genre'][3] = 7
  rows = {key: np.asarray(value) for key, value in rows.items()}
  tables['test'] = data.arrays.as_table(rows)
  features = {'inputs': 'x', 'genre': 'genre', 'rating': 'rating'}
  loaded = {'main': data.from_tables(tables, features, text={})}
  settings = settings_lib.from_config(tiny.config())
  with pytest.raises(ValueError, match="test, label 'genre'.* found 7 in exam"):
    build.build(settings, sources=build.Sources(loaded))


def test_a_split_that_is_missing(tiny):
  tables = tiny.tables()
  del tables['test']
  features = {'inputs': 'x', 'genre': 'genre', 'rating': 'rating'}
  loaded = {'main': data.from_tables(tables, features, text={})}
  settings = settings_lib.from_config(tiny.config())
  with pytest.raises(ValueError, match="found no 'test'"):
    build.build(settings, sources=build.Sources(loaded))


def test_an_empty_split_is_named(tiny, tmp_path):
  file = tmp_path / 'rows.csv'
  file.write_text('x,genre\n1.0,0\n2.0,1\n')
  config = tiny.config()
  config.data.splits.validation = f'{file}[:0%]'
  config.data.splits.train = config.data.splits.test = str(file)
  config.data.columns = {'x': 'float', 'genre': 'integer'}
  with pytest.raises(ValueError, match='expected at least one example'):
    build.build(settings_lib.from_config(config))


def test_a_validation_split_without_labels_is_named(tiny):
  tables = tiny.tables()
  rows = tables['validation'].read(range(30), ('x', 'genre', 'rating'))
  rows = {key: np.asarray(value) for key, value in rows.items()}
  rows['rating'] = np.full(30, np.nan, np.float32)
  tables['validation'] = data.arrays.as_table(rows)
  features = {'inputs': 'x', 'genre': 'genre', 'rating': 'rating'}
  loaded = {'main': data.from_tables(tables, features, text={})}
  with pytest.raises(ValueError, match="labels 'rating' in the validation"):
    build.build(
      settings_lib.from_config(tiny.config()), sources=build.Sources(loaded)
    )


def test_another_name_begins_with_its_own_defaults(tiny):
  config = tiny.config()
  overrides.apply_overrides(
    config,
    ['--config.model.trunk.features=3', '--config.model.trunk.name=lstm'],
  )
  assert config.model.trunk.to_dict() == {'name': 'lstm', 'features': 3}


def test_unreadable_config_files(tmp_path):
  with pytest.raises(ValueError, match='found no file'):
    overrides.load_config(str(tmp_path / 'none.py'))
  file = tmp_path / 'empty.py'
  file.write_text('')
  with pytest.raises(ValueError, match='function get_config .* found none'):
    overrides.load_config(str(file))
  file.write_text('def get_config(): return None')
  with pytest.raises(ValueError, match="found the argument 'class'"):
    overrides.load_config(f'{file}:class')

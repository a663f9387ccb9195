"""Users' files, from the config to predictions: what is refused, said, read."""

import json
import re
import shutil

import jax
import numpy as np
import pytest

import mtl_jax
from mtl_jax import data
from mtl_jax.config import settings as settings_lib
from mtl_jax.data import item_content
from mtl_jax.experiment import build, checks, config_data, methods, predict

RNG = np.random.default_rng(0)


def write_csv(path, header, rows):
  lines = [','.join(map(str, row)) for row in rows]
  path.write_text(header + '\n' + '\n'.join(lines) + '\n')


def make_config(folder, columns, targets, name='r.csv', inputs=None):
  config = mtl_jax.default_config()
  for split, part in (
    ('train', '[:60%]'), ('validation', '[60%:80%]'), ('test', '[80%:]'),
  ):  # fmt: skip
    config.data.splits[split] = f'{folder / name}{part}'
  config.data.columns = columns
  features = {} if inputs is None else {'inputs': tuple(inputs)}
  config.data.features = features | {
    column: column for column in columns if column not in (inputs or ())
  }
  config.data.batch_size = 8
  config.targets = targets
  config.model.trunk = {'name': 'mlp', 'widths': (8,)}
  return config


def make(config):
  return build.build(settings_lib.from_config(config))


def binary_rows(count=60):
  x = RNG.random(count).round(4)
  return [(a, i, int(a > 0.5)) for i, a in enumerate(x)]


COLUMNS = {'x': 'float', 'user': 'integer', 'y': 'integer'}


def test_the_order_of_targets_is_that_of_the_config():
  config = mtl_jax.default_config()
  config.targets = {'visits': {'kind': 'binary'}, 'amount': {'kind': 'binary'}}
  config.targets.more = {'kind': 'binary'}
  config.data.columns = {'user.age': 'float', 'b': 'class', 'a': 'class'}
  settings = settings_lib.from_config(config)
  assert list(settings.targets) == ['visits', 'amount', 'more']
  assert list(settings.data.columns) == ['user.age', 'b', 'a']
  again = settings_lib.from_config(config.to_dict())
  assert list(again.targets) == ['visits', 'amount', 'more']
  copy = config.copy_and_resolve_references()
  assert list(settings_lib.from_config(copy).targets)[0] == 'visits'


@pytest.mark.parametrize(
  'spec, message',
  [
    ({'weights': {'b': 1.0, 'a': 2.0, 'd': 1.0}}, "weights .* of 'd'"),
    ({'weights': {'b': 1.0}}, "weights of every task, found none of 'a'"),
  ],
)
def test_weights_by_name_of_unknown_tasks_are_refused(spec, message):
  with pytest.raises(ValueError, match=message):
    methods.make_method(
      {'name': 'weighted_sum', **spec},
      ['regression'] * 2,
      task_names=('a', 'b'),
    )


def test_weights_by_name_go_where_they_are_written():
  spec = {'name': 'weighted_sum', 'weights': {'b': 2.0, 'a': 0.5}}
  placed = methods._by_position('combinator', spec, methods.METHODS, ('a', 'b'))
  assert placed['weights'] == (0.5, 2.0)
  spec = {'name': 'pcd', 'primary': 'b'}
  placed = methods._by_position('combinator', spec, methods.METHODS, ('a', 'b'))
  assert placed['primary'] == 1
  with pytest.raises(ValueError, match="primary to be a task, found 'c'"):
    methods._by_position(
      'combinator', spec | {'primary': 'c'}, methods.METHODS, ('a', 'b')
    )


def test_ids_are_checked_against_their_tables(tmp_path):
  write_csv(tmp_path / 'r.csv', 'x,user,y', binary_rows())
  config = make_config(tmp_path, COLUMNS, {'y': {'kind': 'binary'}})
  config.model.inputs = {'name': 'encoder', 'categorical': {'user': (50, 2)}}
  with pytest.raises(
    ValueError, match=r"test: .*'user' from 0 to 49.* found 50 in example 3 of"
  ):
    make(config)
  config.model.inputs.categorical = {'user': 2}
  experiment = make(config)
  params, _ = experiment.model.init(
    jax.random.key(0), experiment.example_batch()
  )
  shapes = [x.shape for x in jax.tree.leaves(params)]
  assert (60, 2) in shapes
  rows = binary_rows()
  write_csv(tmp_path / 'r.csv', 'x,user,y', [('', '', 1), *rows[1:]])
  with pytest.raises(ValueError, match=r"data.fill\['user'\] to 'category'"):
    make(config)
  config.data.fill = {'user': 'category'}
  experiment = make(config)
  assert experiment.data['main'].info.cardinalities['user'] == 61


@pytest.mark.parametrize(
  'labels, message',
  [
    ([''] * 36 + ['0', '1'] * 12, "'y' in the train split .* found none"),
    (['0', '1'] * 18 + [''] * 24, "'y' in the validation split .* found none"),
    (['0'] * 36 + ['0', '1'] * 12, "both classes of 'y' in the train split"),
  ],
)
def test_a_task_that_cannot_be_learned_is_refused(tmp_path, labels, message):
  rows = [(i / 60, i, label) for i, label in enumerate(labels)]
  write_csv(tmp_path / 'r.csv', 'x,user,y', rows)
  config = make_config(tmp_path, COLUMNS, {'y': {'kind': 'binary'}}, inputs='x')
  with pytest.raises(ValueError, match=message):
    make(config)


def test_two_kinds_of_one_label_are_refused():
  targets = {
    'level': {'kind': 'classification', 'label': 'stars'},
    'stars': {'kind': 'regression'},
  }
  with pytest.raises(ValueError, match="share the label 'stars' to read it al"):
    config_data.labels_of(targets, 'main')
  targets['level'] = {'kind': 'exceeds', 'label': 'stars', 'threshold': 3}
  label = config_data.labels_of(targets, 'main')['stars']
  assert (label.kind, label.shift) == ('regression', False)


@pytest.mark.parametrize(
  ('name', 'settings', 'message'),
  [
    (
      'mtl_jax.data.emoji.load',
      {'fol': 1},
      "data set 'mtl_jax.data.emoji.load', found 'fol'; did you mean 'fold'",
    ),
    (
      'mtl_jax.data.item_content.load',
      {'files': {}, 'columns': {}, 'pictur': 'path'},
      "found 'pictur'; did you mean 'picture'",
    ),
    (
      'mtl_jax.data.item_content.load',
      {'columns': {}},
      "the option 'files' for data set .*, found none; set it",
    ),
  ],
)
def test_settings_of_a_function_that_it_does_not_know(name, settings, message):
  stream = settings_lib.DataSettings(name=name, settings=settings)
  with pytest.raises(ValueError, match=message):
    config_data.load_data(stream, 'main')


@pytest.mark.parametrize(
  ('typo', 'name'),
  [
    ('fils', 'files'),
    ('colums', 'columns'),
    ('readng', 'reading'),
    ('txt', 'text'),
    ('pictur', 'picture'),
    ('fames', 'frames'),
    ('foldr', 'folder'),
    ('frame_cont', 'frame_count'),
    ('textss', 'texts'),
    ('picturess', 'pictures'),
  ],
)
def test_each_setting_of_content_has_its_hint(typo, name):
  settings = {'files': {}, 'columns': {}, 'text': 'title'}
  settings.pop(name, None)
  stream = settings_lib.DataSettings(
    name='mtl_jax.data.item_content.load', settings={**settings, typo: 'x'}
  )
  with pytest.raises(ValueError, match=f"'{typo}'; did you mean '{name}'?"):
    config_data.load_data(stream, 'main')
  if name not in ('files', 'columns'):  # Python itself asks for these
    with pytest.raises(ValueError, match=f"'{typo}'; did you mean '{name}'?"):
      item_content.load(files={}, columns={}, **{typo: 'x'})


def test_many_values_far_apart_are_few_classes(tmp_path):
  zips = [10001, 60614, 94110]
  rows = [(i / 60, i, zips[i % 3]) for i in range(60)]
  write_csv(tmp_path / 'r.csv', 'x,user,y', rows)
  config = make_config(
    tmp_path, COLUMNS, {'y': {'kind': 'classification'}}, inputs='x'
  )
  (task,) = make(config).tasks
  assert task.size == 3 and task.labels == ('10001', '60614', '94110')


def test_the_table_of_labels_names_what_is_doubtful(tmp_path, capsys):
  write_csv(tmp_path / 'r.csv', 'x,user,y', binary_rows())
  config = make_config(
    tmp_path, COLUMNS, {'y': {'kind': 'binary'}}, inputs=('x', 'y')
  )
  config.data.features.y = 'y'
  config.data.splits.test = f'{tmp_path / "r.csv"}[:20%]'
  experiment, shown = make(config), set()
  checks.show_data(experiment, shown)
  printed = capsys.readouterr().out
  checks.show_data(experiment, shown)  # the next method of a study
  assert capsys.readouterr().out == ''
  assert re.search(r'y +train +0 \d+, 1 \d+ +36 +-', printed)
  assert "Note: 'y' is the label of task y and a part of the input" in printed
  assert 'train and test share 12 rows of' in printed


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """A run on JSONL in all its writings, whose data are gone afterwards."""
  folder = tmp_path_factory.mktemp('files')
  rng = np.random.default_rng(1)
  rows = []
  for i in range(120):
    price = round(10 * rng.random(), 2)
    row = {'price': price, 'age': int(rng.integers(20, 60))}
    row['good'] = ['bad', 'fine'][int(price > 5)]
    row['when'] = 1_700_000_000_000 + round(price * 1e6)
    row['tags'] = ['dear'] if price > 5 else []
    if i % 3:
      row['shop'] = ['north', 'south', None][i % 5 % 3]
    if i % 7 == 0:
      row['price'] = str(price)
    rows.append(row)
  (folder / 'r.jsonl').write_text(''.join(json.dumps(r) + '\n' for r in rows))
  columns = {
    'price': 'float', 'shop': 'string', 'age': 'integer', 'good': 'class',
    'when': 'integer', 'tags': 'set',
  }  # fmt: skip
  targets = {
    'good': {'kind': 'binary'},
    'when': {'kind': 'regression'},
    'tags': {'kind': 'multilabel'},
  }
  config = make_config(folder, columns, targets, 'r.jsonl')
  config.data.standardize = ('price', 'age')
  config.model.inputs = {
    'name': 'encoder',
    'categorical': {'shop': 2},
    'numeric': ('price', 'age'),
  }
  config.training.epochs = 12
  config.optimizer.learning_rate = 3e-2
  outcome = mtl_jax.run(config, folder / 'run')
  shutil.move(folder / 'r.jsonl', folder / 'gone.jsonl')
  return folder, outcome, rows


def predicted(finished, tmp_path, name, content, **options):
  (tmp_path / name).write_text(content, encoding='utf-8')
  target = tmp_path / 'out.jsonl'
  predict.predict_file(
    finished[0] / 'run', str(tmp_path / name), str(target), **options
  )
  return [json.loads(line) for line in target.read_text().splitlines()]


def test_predicting_equals_evaluating_without_the_data(finished, tmp_path):
  _, outcome, rows = finished
  test = rows[96:]
  found = predicted(
    finished, tmp_path, 'new.jsonl', ''.join(json.dumps(r) + '\n' for r in test)
  )
  right = [
    f['good']['label'] == r['good'] for f, r in zip(found, test, strict=True)
  ]
  assert np.mean(right) == pytest.approx(outcome.metrics['good']['accuracy'])
  assert np.mean(right) > 0.8
  error = [f['when'] - r['when'] for f, r in zip(found, test, strict=True)]
  assert np.mean(np.abs(error)) == pytest.approx(
    outcome.metrics['when']['mae'], rel=1e-3
  )
  assert set(found[0]['tags']['probabilities']) == {'dear'}


ROW = {'price': 9.5, 'shop': 'north', 'age': 30}


@pytest.mark.parametrize(
  'name, content, said',
  [
    ('good.jsonl', json.dumps(ROW), ''),
    ('bom.jsonl', '\ufeff' + json.dumps(ROW), ''),
    ('new.csv', 'price,shop,age\n9.5,north,30\n', ''),
    ('quotes.jsonl', '{"price": "9.5", "shop": " north", "age": 30.0}', ''),
    ('null.jsonl', '{"price": 9.5, "shop": null, "age": 30}',
     "missing inputs 'shop': 100% of the file"),
    ('absent.jsonl', '{"price": 9.5, "age": 30}', "has no 'shop': it is missi"),
    ('line.jsonl', '{"price": 9.5, "shop": "no\u2028rth", "age": 30}',
     "unknown categories of 'shop': 100% of the file"),
    ('hole.csv', 'price,shop,age\n9.5,north,\n',
     "missing inputs 'age': 100% of the file; filled with the mean"),
  ],
)  # fmt: skip
def test_what_training_reads_predicting_reads(
  finished, tmp_path, capsys, name, content, said
):
  (row,) = predicted(finished, tmp_path, name, content, tasks='good')
  assert row.keys() == {'good'}
  assert row['good']['probabilities']['fine'] > 0.5
  assert said in capsys.readouterr().err


@pytest.mark.parametrize(
  'content, options, message',
  [
    ('{"prise": 9.5, "age": 30}', {}, "rename 'prise'"),
    ('{"other": 1}', {}, 'Expected age, price, shop in .*, found other'),
    ('{"price": [9.5], "age": 30}', {}, 'expected one number.* example 1'),
    ('{"price": "much", "age": 30}', {}, "row 1, column 'price': .*'much'"),
    ('{"price;age;shop": 1}', {}, "write ',' between fields, as in training"),
    ('{"price": 9.5}', {'tasks': 'goof'}, "found 'goof'; did you mean 'good'"),
  ],
)
def test_what_cannot_be_predicted_is_refused(
  finished, tmp_path, content, options, message
):
  with pytest.raises(ValueError, match=message):
    predicted(finished, tmp_path, 'bad.jsonl', content, **options)


def test_the_outer_stream_is_fingerprinted_and_not_needed_to_predict(tmp_path):
  write_csv(tmp_path / 'r.csv', 'x,user,y', binary_rows())
  write_csv(tmp_path / 'outer.csv', 'x,user,y', binary_rows(20))
  config = make_config(
    tmp_path, COLUMNS, {'y': {'kind': 'binary'}}, inputs=('x', 'user')
  )
  config.combinator = {'name': 'auto_lambda', 'primary': 'y'}
  config.streams.outer = {
    'splits': {'train': str(tmp_path / 'outer.csv')}, 'batch_size': 8,
  }  # fmt: skip
  before = make(config)
  write_csv(tmp_path / 'outer.csv', 'x,user,y', binary_rows(20))
  after = make(config).fingerprints()
  assert before.fingerprints()['main'] == after['main']
  assert before.fingerprints()['outer'] != after['outer']
  (tmp_path / 'outer.csv').unlink()
  (tmp_path / 'r.csv').unlink()
  known = before.data['main']
  experiment = build.build(
    settings_lib.from_config(config),
    encoders={'main': known.encoder},
    facts={'main': known.info},
    sources=build.Sources({'main': data.blank(known.encoder, known.info)}),
  )
  assert experiment.outer is None and experiment.task_names == ('y',)


def test_ids_that_training_lacks_are_said(tmp_path):
  rows = [(0.1, i, i % 2) for i in range(60)]
  write_csv(tmp_path / 'r.csv', 'x,user,y', rows)
  config = make_config(tmp_path, COLUMNS, {'y': {'kind': 'binary'}})
  config.model.inputs = {'name': 'encoder', 'categorical': {'user': (60, 2)}}
  (line,) = [x for x in checks.notes(make(config)) if 'ids of' in x]
  assert "'user' that train lacks: 100% of validation, 100% of test" in line


def test_streams_that_number_one_table_by_themselves_are_said(tmp_path):
  """The row of 'b' in one stream is that of 'c' in the other."""
  columns = {'x': 'float', 'shop': 'string', 'y': 'integer'}
  for name, shops in (('r', 'ab'), ('s', 'acd')):
    rows = [(0.1, shops[i % len(shops)], i % 2) for i in range(60)]
    write_csv(tmp_path / f'{name}.csv', 'x,shop,y', rows)
  targets = {'y': {'kind': 'binary'}, 'z': {'kind': 'binary', 'label': 'y'}}
  config = make_config(tmp_path, columns, targets, inputs=('x',))
  other = make_config(tmp_path, columns, {}, 's.csv', inputs=('x',)).data
  config.streams.other = {
    key: other[key] for key in ('splits', 'columns', 'features', 'batch_size')
  }
  config.targets.z.stream = 'other'
  config.model.inputs = {'name': 'encoder', 'categorical': {'shop': 2}}
  experiment = make(config)
  (line,) = [x for x in checks.notes(experiment) if 'share one table' in x]
  assert line.startswith("Streams main, other share one table for 'shop'")
  params, _ = experiment.model.init(
    jax.random.key(0), experiment.example_batch()
  )
  tables = [x for x in jax.tree.leaves(params['inputs']) if x.shape[1:] == (2,)]
  assert [len(x) for x in tables] == [4]  # of the stream that has most
  own = {'name': 'encoder', 'categorical': {'shop': 2}}
  config.model.inputs = {'main': own, 'other': own}
  assert not [x for x in checks.notes(make(config)) if 'share one' in x]


def test_weights_are_printed_beside_their_tasks():
  spec = {
    'name': 'weighted_sum',
    'weights': {'b': 0.0, 'a': 2.0},
    'wrappers': ({'name': 'with_preference', 'preference': (0.25, 0.75)},),
  }
  assert methods.numbers_by_task(spec, ('a', 'b')) == [
    'weighted_sum, weights: a 2, b 0.',
    'with_preference, preference: a 0.25, b 0.75.',
  ]
  assert methods.numbers_by_task({'name': 'pcgrad'}, ('a', 'b')) == []


@pytest.mark.parametrize('name, content', [('a.csv', 'x\n'), ('a.jsonl', '\n')])
def test_a_file_without_examples_is_not_predicted(tmp_path, name, content):
  rows = {'x': [0.0, 1.0], 'y': [0, 1]}
  known = data.from_splits({'train': rows}, labels={'y': 'binary'})
  (tmp_path / name).write_text(content)
  with pytest.raises(ValueError, match='at least one example|found nothing'):
    predict.read_inputs(tmp_path / name, known.encoder, ['x'], data.Reading())


def test_groups_of_metrics_are_those_of_their_split(tmp_path):
  rows = [(0.1 * (i % 7), f'u{i % 6 + i // 48}', i % 2) for i in range(60)]
  write_csv(tmp_path / 'r.csv', 'x,user,y', rows)
  columns = COLUMNS | {'user': 'string'}
  target = {'kind': 'binary', 'group': 'user'}
  config = make_config(tmp_path, columns, {'y': target}, inputs=('x',))
  experiment = make(config)
  # Nobody reads the names as an input.
  assert not [x for x in checks.notes(experiment) if 'user' in x]
  (task,) = experiment.tasks
  batch = experiment.data['main'].splits['test'].take(np.arange(12))
  outputs, mask = np.arange(12.0)[:, None], np.ones(12)
  facts = task.metrics['groups'].from_batch(outputs, batch, mask)
  names = np.array([row[1] for row in rows[48:]])
  _, expected = np.unique(names, return_inverse=True)
  assert np.asarray(facts['groups']).tolist() == expected.tolist()
  assert len(set(expected)) == 6 and 'u6' not in [r[1] for r in rows[:36]]


def test_only_what_the_model_reads_counts_as_a_missing_input(tmp_path):
  rows = [
    (
      '' if i % 4 == 0 else i / 60,
      '' if i % 3 else i,
      i % 2,
      '' if i % 5 else i,
    )
    for i in range(60)
  ]
  write_csv(tmp_path / 'r.csv', 'x,w,y,z', rows)
  columns = dict.fromkeys('xwyz', 'float') | {'y': 'integer'}
  targets = {
    'y': {'kind': 'binary'},
    'z': {'kind': 'regression', 'weight_column': 'w'},
  }
  config = make_config(tmp_path, columns, targets, inputs=('x',))
  config.tasks = 'y'  # as in a single-task run of a study
  (line,) = checks.notes(make(config))
  assert line.startswith("missing inputs 'x (inputs)': 25% of train")


def test_a_label_that_the_model_reads_is_named_and_has_no_holes(tmp_path):
  rows = [(i * 7 % 60 / 60, i, i % 2) for i in range(60)]
  write_csv(tmp_path / 'r.csv', 'x,user,y', rows)
  targets = {'y': {'kind': 'binary'}, 'user': {'kind': 'regression'}}
  config = make_config(tmp_path, COLUMNS, targets)
  config.model.inputs = {'name': 'encoder', 'numeric': ('x', 'user')}
  (line,) = checks.notes(make(config))
  assert line.startswith("'user' is the label of task user and an input:")
  write_csv(tmp_path / 'r.csv', 'x,user,y', [(0, '', 1), *rows[1:]])
  with pytest.raises(
    ValueError, match="label 'user' in every row, .* 1 missin"
  ):
    make(config)
  config.data.features = {k: k for k in COLUMNS} | {'number': 'user'}
  config.model.inputs.numeric = ('x', 'number')
  (leak, gap) = checks.notes(make(config))
  assert "a part of the input 'number'" in leak
  assert gap.startswith("missing inputs 'user (number)': 2.78% of train")

"""The way to a Gramian is chosen by counting, and the counts are right."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import models, tasks as tasks_lib
from mtl_jax.training import engine, gramians, jaxprs

MB = 2**20


def plan(trunk, batch, num_tasks, **options):
  tasks = [tasks_lib.regression(f't{i}') for i in range(num_tasks)]
  heads = {task.name: models.LinearHead(1) for task in tasks}
  model = models.build_model(models.hard_sharing(), trunk, heads)
  arrays = {
    name: jax.ShapeDtypeStruct(shape, np.float32)
    for name, shape in batch.items()
  }
  example = {k: np.zeros((1, *x.shape[1:]), x.dtype) for k, x in arrays.items()}
  params, state = jax.eval_shape(
    lambda: model.init(jax.random.key(0), {'main': example})
  )
  made = {k: options.pop(k) for k in ENGINE if k in options}
  made_by = engine.Engine(model, tasks, **{'gramian': 'auto', **made})
  return made_by.plan(params, state, {'main': arrays}, **options)


ENGINE = ('accumulate', 'gramian', 'chunk', 'frozen')
SHAPES = {
  # Weights used at every time step: a backward pass costs much more than
  # reading two small rows again.
  'lstm': ((models.LSTM(16), {'inputs': (32, 50, 8)}, 2), 'stacked'),
  # The same for many examples of a small network ...
  'small': ((models.MLP(widths=(32,)), {'inputs': (512, 20)}, 2), 'stacked'),
  # ... but with many tasks the Jacobian is what costs,
  'tasks': ((models.MLP(widths=(256,) * 5), {'inputs': (64, 99)}, 40), 'layer'),
  # or with few examples of a large one.
  'wide': ((models.MLP(widths=(1024,) * 4), {'inputs': (8, 99)}, 4), 'layer'),
  # The activations of all tasks at once do not fit in 64 MB.
  'images': ((models.ResNet(), {'image': (64, 32, 32, 3)}, 40), 'chunked'),
}


@pytest.mark.parametrize('name', SHAPES)
def test_auto_picks_by_shape(name):
  (trunk, batch, num_tasks), expected = SHAPES[name]
  found = plan(trunk, batch, num_tasks, memory=64 * MB)
  assert found.automatic and found.gramian.startswith(expected)
  assert found.memory <= 64 * MB
  assert bool(found.chunk) == (expected == 'chunked')
  assert '(auto, +' in str(found)


def test_with_more_memory_no_chunks():
  (trunk, batch, num_tasks), _ = SHAPES['images']
  assert plan(trunk, batch, num_tasks, memory=1e12).gramian == 'stacked'


def test_what_is_named_is_kept():
  (trunk, batch, num_tasks), _ = SHAPES['tasks']
  for way in ('stacked', 'layerwise', 'features'):
    assert plan(trunk, batch, num_tasks, gramian=way) == gramians.Choice(way)
  found = plan(trunk, batch, num_tasks, gramian='chunked', chunk=7)
  assert (found.gramian, found.chunk) == ('chunked', 7)
  assert str(found) == 'chunked, 7 at a time'
  counted = plan(trunk, batch, num_tasks, gramian='chunked')
  assert counted.gramian == 'chunked' and 0 < counted.chunk < num_tasks


def shapes_of(num_tasks, sizes, accumulate=1):
  return gramians.Shapes(
    num_tasks=num_tasks,
    sizes=sizes,
    touched=sizes,
    forward=1e6,
    backward=8e6,
    activations=500,
    accumulate=accumulate,
  )


def test_features_are_never_chosen():
  shapes = shapes_of(4, (100, 10))
  names = {way.gramian for way in gramians.candidates(shapes)}
  assert names == {'stacked', 'chunked', 'layerwise'}


def test_what_each_way_holds():
  shapes = shapes_of(8, (1000, 10, 10))
  ways = {(w.gramian, w.chunk): w for w in gramians.candidates(shapes)}
  assert [chunk for _, chunk in ways] == [0, 0, 4, 2, 1]
  jacobian = 4 * 8 * 1020
  assert ways['stacked', 0].memory == jacobian + 8 * 2 * 500
  assert ways['chunked', 2].memory == jacobian + 2 * 2 * 500
  even = shapes_of(8, (100,) * 10)
  (_, layerwise, *_) = gramians.candidates(even)
  assert layerwise.memory == 3 * 4 * 8 * 100 + 8 * 2 * 500


def test_microbatches_leave_nothing_for_layerwise():
  shapes = shapes_of(4, (100, 10), accumulate=2)
  names = {way.gramian for way in gramians.candidates(shapes)}
  assert names == {'stacked', 'chunked'}


def test_if_nothing_fits_the_least_is_taken():
  shapes = shapes_of(4, (100, 10))
  ways = gramians.candidates(shapes)
  found = gramians.best(ways, memory=1)
  assert found.memory == min(way.memory for way in ways)


def test_of_tables_what_is_read_counts():
  tasks = [tasks_lib.regression(f't{i}') for i in range(4)]
  heads = {task.name: models.LinearHead(1) for task in tasks}
  model = models.build_model(
    models.hard_sharing(),
    models.CNNText(vocab_size=5000, embed_dim=16, filters=8),
    heads,
  )
  batch = {'main': {'tokens': np.ones((8, 30), np.int32)}}
  params, state = model.init(jax.random.key(0), batch)
  shapes = gramians.shapes_of(engine.Engine(model, tasks), params, state, batch)
  kernel = 3 * 16 * 8
  assert sorted(shapes.sizes) == sorted([8, kernel, 5000 * 16])
  assert sorted(shapes.touched) == sorted([8, kernel, 8 * 30 * 16])


def test_dense_layers_with_few_examples_cost_layerwise_less():
  (trunk, batch, num_tasks), _ = SHAPES['tasks']
  few = plan(trunk, batch, num_tasks)
  many = plan(trunk, {'inputs': (4096, 99)}, num_tasks, memory=1e12)
  # 99 x 256 and four times 256 x 256, and their biases.
  assert few.leaves == gramians.Leaves(5, 5, 0)
  assert 'of 10 parameters 5 by gradients, 5 by activations' in str(few)
  assert many.leaves is None or many.leaves.activations == 0
  # Over many devices it is all their examples that would meet.
  spread = plan(trunk, batch, num_tasks, devices=64)
  assert spread.operations > few.operations


@pytest.mark.smoke
def test_operations_are_those_of_the_compiler():
  def f(x, w, image, kernel):
    y = jnp.tanh(x @ w)
    z = jax.lax.conv_general_dilated(
      image, kernel, (1, 1), 'VALID', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )
    return y.sum() + z.sum()

  args = [
    np.ones(shape, np.float32)
    for shape in [(8, 64), (64, 96), (2, 12, 12, 8), (3, 3, 8, 16)]
  ]
  compiler = jax.jit(f).lower(*args).compile().cost_analysis()['flops']
  found = jaxprs.count(f, *args)
  assert 0.9 < found.flops / compiler < 1.1
  assert found.largest == 4 * 2 * 10 * 10 * 16


@pytest.mark.smoke
def test_loops_and_calls_are_counted_inside():
  w = np.ones((5, 5), np.float32)

  @jax.jit
  def body(x, _):
    return jax.lax.cond(x.sum() > 0, lambda x: x @ w @ w, lambda x: x @ w, x), x

  def f(x):
    return jax.lax.scan(body, x, length=7)

  assert jaxprs.count(f, w) == (7 * 2 * 2 * 5**3, 4 * 7 * 25)


def test_a_negative_chunk_is_refused():
  with pytest.raises(ValueError, match=r'chunk >= 0, found -1; set training\.'):
    gramians.check('chunked', -1)

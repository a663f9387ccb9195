"""What the tests of sharing architectures do by hand, in NumPy and float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import sharing_cases as cases

from mtl_jax import models

close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
TASKS = 'abc'
HEADS = {task: models.LinearHead(1) for task in TASKS}
ENCODER = models.InputEncoder(categorical={'user': (5, 3)}, numeric=['age'])
PERSON = {
  'user': jnp.array([0, 4, 1, 4]),
  'age': jnp.array([0.5, -1.0, 2.0, 0.1]),
}


def started(name, trunk, *, batch=None, inputs=None, **options):
  """A model around a trunk, its parameters redrawn, and a batch.

  Drawn anew, so that nothing is at the simple value that it starts with.
  """
  model = models.build_model(
    models.SHARING[name](**options), trunk, HEADS, inputs=inputs
  )
  batch = cases.make_batch('mlp') if batch is None else batch
  start = functools.partial(model.init, jax.random.key(1), {'main': batch})
  params, state = jax.eval_shape(start)
  if state:  # Statistics have a start of their own.
    _, state = start()
  rng = np.random.default_rng(0)
  params = jax.tree.map(
    lambda x: jnp.asarray(rng.normal(size=x.shape) * 0.7, x.dtype), params
  )
  return model, params, state, batch


def features_of(model, params, state, batch, **options):
  options = {'train': False, 'key': None, **options}
  return model.features(params, state, batch, stream='main', **options)[0]


def doubles(tree):
  return jax.tree.map(lambda x: np.asarray(x, np.float64), tree)


def relu(x):
  return np.maximum(x, 0)


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


def softmax(x):
  e = np.exp(x - x.max(-1, keepdims=True))
  return e / e.sum(-1, keepdims=True)


def dense(params, x):
  return x @ params['kernel'] + params.get('bias', 0)


def encoded(params):
  """What the encoder makes of the people, by hand."""
  table = params['embed_user']['embedding']
  return np.column_stack([table[PERSON['user']], np.float64(PERSON['age'])])


def expert_of(params, e):
  """Expert e of some, a layer with ReLU, as a function."""
  layer = jax.tree.map(lambda x: x[e], params['Dense_0'])
  return lambda x: relu(dense(layer, x))

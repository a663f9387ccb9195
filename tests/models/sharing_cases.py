"""Every sharing architecture, small, around every kind of trunk."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sweeps

from mtl_jax import models, tasks as tasks_lib

B, T = 6, 5
# (name in the table, options), and which trunks it fits; None = all.
ARCHITECTURES = {
  'aitm': ('aitm', {'order': ('c', 'a', 'b')}, None),
  'aitm stopped': ('aitm', {'stop_gradient': True}, ('mlp', 'cnn_text')),
  'branching': ('branching', {'experts': 3, 'draws': 'soft'}, None),
  'hard': ('hard', {}, None),
  'omoe': ('omoe', {'experts': 3}, None),
  'mmoe': ('mmoe', {'experts': 3}, None),
  'mmoe hidden gate': ('mmoe', {'experts': 2, 'gate_widths': (4,)}, ('mlp',)),
  'mmoe home': ('mmoe', {'experts': 2, 'expert_norm': 'layer'}, None),
  'cgc': ('cgc', {'shared_experts': 2, 'task_experts': 1}, None),
  'ple': ('ple', {'shared_experts': 2, 'task_experts': 1}, None),
  'ple three levels': (
    'ple',
    {'levels': 3, 'shared_experts': 1, 'task_experts': 2, 'level_widths': (4,)},
    ('mlp',),
  ),
  'ple without task experts': (
    'ple',
    {'levels': 3, 'shared_experts': 2, 'task_experts': 0},
    ('mlp',),
  ),
  'cross_stitch': ('cross_stitch', {}, None),
  'cross_stitch layers': (
    'cross_stitch',
    {'per_layer': True, 'per_unit': True},
    ('mlp',),
  ),
  'dselect_k': ('dselect_k', {'experts': 3}, None),
  'dselect_k static': (
    'dselect_k',
    {'experts': 4, 'per_example': False},
    ('mlp',),
  ),
  'film': ('film', {}, None),
  'film layers': ('film', {'per_layer': True}, ('mlp',)),
  'groups': ('groups', {'groups': (('a', 'c'), ('b',))}, None),
  'lora': ('lora', {'rank': 2}, None),
  'mtan': ('mtan', {}, ('mlp', 'lenet')),
  'routing': ('routing', {'share': 0.7}, None),
  'sluice': ('sluice', {}, None),
  'stem': ('stem', {'shared_experts': 2, 'task_experts': 2}, None),
  'home': (
    'home',
    {'categories': {'ab': ['a', 'b'], 'c': ['c']}, 'expert_norm': 'layer'},
    None,
  ),
  'home batch': ('home', {'task_experts': 1}, ('mlp',)),
  'pepnet': (
    'pepnet',
    {
      'domain': {'numeric': ['place']},
      'prior': {'categorical': {'user': (4, 3)}},
      'hidden': 5,
      'tower_widths': (4,),
    },
    None,
  ),
  'snr': ('snr', {'experts': 3}, None),
  'snr aver': ('snr', {'experts': 3, 'connections': 'aver'}, ('mlp',)),
  'sluice layers': ('sluice', {'per_layer': True}, ('mlp',)),
  'soft': ('soft', {}, None),
}
TRUNKS = {
  'mlp': lambda: models.MLP(widths=(6, 6), activation='gelu'),
  'cnn_text': lambda: models.CNNText(vocab_size=11, embed_dim=4, filters=6),
  'lstm': lambda: models.LSTM(features=4, mask='mask'),
  'transformer': lambda: models.Transformer(
    features=4,
    num_layers=1,
    num_heads=2,
    hidden=6,
    positions='learned',
    max_length=7,
    vocab_size=11,
    inputs='tokens',
  ),
}
CAUSAL = {'features': 4, 'num_layers': 1, 'inputs': 'steps', 'mask': 'mask'}
ATTENTION = {**CAUSAL, 'num_heads': 2, 'max_length': 7, 'times': 'times'}
TRUNKS |= {
  'causal_cnn': lambda: models.CausalCNN(**CAUSAL, hidden=5),
  'esasrec': lambda: models.ESASRec(**ATTENTION, hidden=5),
  'gru': lambda: models.GRU(features=4, inputs='steps', mask='mask'),
  'hstu': lambda: models.HSTU(**ATTENTION),
  'sasrec': lambda: models.SASRec(**ATTENTION, hidden=6),
}
TRUNKS['fusion'] = lambda: models.Fusion(
  inputs=('inputs', 'seen'), features=4, activation='tanh'
)
# Those of architectures that need an image.
IMAGES = {
  'lenet': lambda: models.LeNet(channels=(3, 6), window=3, features=8),
  'resnet': lambda: models.ResNet(widths=(3, 4), norm='none'),
}
# These are compiled around the MLP every day, and two around another trunk; the
# others, which have tests of their equations every day, the other trunks and
# the variants when CI runs the slow tests.
EVERY_DAY = ('cross_stitch', 'film', 'hard', 'lora', 'mmoe', 'ple')
SMOKE = ('mmoe', 'lora')
BESIDES = {
  'cgc': 'cnn_text',
  'mmoe': 'lstm',
  'cross_stitch': 'transformer',
  'omoe': 'causal_cnn',
  'ple': 'hstu',
  'film': 'sasrec',
  'lora': 'esasrec',
  'soft': 'gru',
  'hard': 'fusion',
}


def _case(name, trunk):
  first = name in EVERY_DAY and trunk == 'mlp'
  beside = trunk in ('cnn_text', 'lstm') and BESIDES.get(name) == trunk
  marks = sweeps.marks(first or beside, first and name in SMOKE)
  return pytest.param((name, trunk), marks=marks, id=f'{name}-{trunk}')


# They scale the one array that a trunk reads; `fusion` reads several.
UNFIT = {('home', 'fusion'), ('pepnet', 'fusion')}
PAIRS = [
  (name, trunk)
  for name, (_, _, fits) in ARCHITECTURES.items()
  for trunk in fits or TRUNKS
  if (name, trunk) not in UNFIT
]
# Trunks that are compiled under every architecture; of the others, which are
# alike, all pairs are traced.
CROSSED = ('mlp', 'cnn_text', 'lstm', 'transformer')
CASES = [
  _case(name, trunk)
  for name, trunk in PAIRS
  if trunk in (*CROSSED, *IMAGES) or BESIDES.get(name) == trunk
]


def make_model(
  name, trunk, axis_name=None, *, inputs=None, streams=None, **changes
):
  """The model of a case."""
  table_name, options, _ = ARCHITECTURES[name]
  sharing = models.SHARING[table_name]
  if (
    trunk == 'fusion' and 'gate_inputs' in inspect.signature(sharing).parameters
  ):
    options = {**options, 'gate_inputs': 'inputs'}
  heads = {task.name: models.LinearHead(task.size) for task in make_tasks()}
  return models.build_model(
    sharing(**{**options, **changes}),
    {**TRUNKS, **IMAGES}[trunk](),
    heads,
    inputs=inputs,
    axis_name=axis_name,
    streams=streams,
  )


def started(params):
  """Parameters of which none is zero, as after a while of training."""

  def move(x):
    # Not a constant, which a norm behind it would take away.
    steps = 0.1 * jnp.cos(1.0 + jnp.arange(x.size)).reshape(x.shape)
    return jnp.where(x == 0, steps.astype(x.dtype), x)

  return jax.tree.map(move, params)


def drawn(model, batch, seed=0):
  """Parameters and state of its shapes: their own start is long in compiling.

  Drawn at random, statistics of batches at their start.
  """
  rng = np.random.default_rng(seed)
  params, state = jax.eval_shape(
    lambda: model.init(jax.random.key(0), {'main': batch})
  )

  def draw(path, leaf):
    scale = max(leaf.shape[-2:-1], default=4) ** -0.5
    if path[-1].key == 'bias':
      scale = 0.1  # No layer is dead.
    return (rng.normal(size=leaf.shape) * scale).astype(leaf.dtype)

  def at_start(path, leaf):
    return np.full(leaf.shape, path[-1].key == 'var', leaf.dtype)

  each = jax.tree_util.tree_map_with_path
  return each(draw, params), each(at_start, state)


def certain(params):
  """Where connections are drawn, with logits against which noise is nothing."""
  return jax.tree_util.tree_map_with_path(
    lambda path, x: 1e3 * x if path[-1].key == 'logits' else x, params
  )


def make_tasks():
  """Three tasks, each of another kind."""
  return (
    tasks_lib.classification('a', 3),
    tasks_lib.regression('b'),
    tasks_lib.binary('c'),
  )


def make_batch(trunk, seed=0, size=B):
  """Arrays of one stream, with padding where the trunk has a mask."""
  rng = np.random.default_rng(seed)
  mask = np.arange(T) < rng.integers(2, T + 1, size)[:, None]
  arrays = {
    'mlp': {'inputs': rng.normal(size=(size, 4))},
    'cnn_text': {'tokens': rng.integers(1, 11, (size, T)) * mask},
    'transformer': {'tokens': rng.integers(1, 11, (size, T)) * mask},
    'fusion': {
      'inputs': rng.normal(size=(size, 3)),
      'input_mask': np.arange(size) % 3 > 0,  # some are absent
      'seen': rng.normal(size=(size, T, 3)),
      'seen_mask': mask,
    },
    'lstm': {'inputs': rng.normal(size=(size, T, 3)), 'mask': mask},
    **dict.fromkeys(
      ('causal_cnn', 'esasrec', 'gru', 'hstu', 'sasrec'),
      {
        'steps': rng.normal(size=(size, T, 4)),
        'mask': mask,
        'times': rng.integers(0, 99, (size, T)),
      },
    ),
    **dict.fromkeys(IMAGES, {'image': rng.normal(size=(size, 12, 10, 2))}),
  }[trunk]
  arrays |= {
    'a': rng.integers(0, 3, size),
    'b': rng.normal(size=size),
    'c': rng.integers(0, 2, size),
  }
  arrays |= {
    'place': rng.normal(size=size),
    'user': rng.integers(0, 4, size),
  }
  floats = {np.dtype('float64'): jnp.float32, np.dtype('int64'): jnp.int32}
  return {
    name: jnp.asarray(x, floats.get(x.dtype, x.dtype))
    for name, x in arrays.items()
  }

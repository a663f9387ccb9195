"""Fusion of modalities: what is absent does not count, and gates by NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sweeps

from mtl_jax import models
from mtl_jax.tasks import mask_key

B, F, D = 5, 3, 4
HOWS = ('concat', 'gate', 'attention')


def make_batch():
  rng = np.random.default_rng(0)
  there = np.array([[1, 1, 1], [1, 0, 1], [0, 1, 0], [1, 0, 0], [0, 0, 0]])
  steps = np.arange(F) < np.array([3, 2, 0, 1, 0])[:, None]
  return {
    'text': rng.normal(size=(B, 6)),
    'text_mask': there[:, :1].astype(np.float32),
    'picture': rng.normal(size=(B, 7)),
    'picture_mask': there[:, 1],
    'frames': rng.normal(size=(B, F, 7)),
    'frame_mask': (steps & (there[:, 2:] > 0)).astype(np.float32),
  }


def softmax(x):
  x = np.exp(x - x.max(-1, keepdims=True))
  return x / x.sum(-1, keepdims=True)


def make(how, **options):
  trunk = models.Fusion(
    inputs=('text', 'picture', 'frames'),
    how=how,
    features=D,
    activation='tanh',
    num_heads=2,
    **options,
  )
  batch = jax.tree.map(jnp.asarray, make_batch())
  variables = trunk.init(jax.random.key(0), batch, train=False)
  rng = np.random.default_rng(1)
  moved = jax.tree.map(
    lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype), variables
  )
  return trunk, moved, batch


@pytest.mark.parametrize('how', sweeps.some(HOWS, 'gate', 'attention'))
def test_what_is_absent_makes_no_difference(how):
  trunk, variables, batch = make(how)
  changed = {
    name: x
    if name.endswith('_mask')
    else jnp.where(
      (batch[mask_key(name)] > 0).reshape(*x.shape[: x.ndim - 1], 1),
      x,
      jnp.nan,
    )
    for name, x in batch.items()
  }
  present = {**batch, 'text_mask': 1 - batch['text_mask']}
  run = jax.jit(lambda b: trunk.apply(variables, b, train=False))
  first = run(batch)
  assert np.all(np.isfinite(first))
  np.testing.assert_array_equal(run(changed), first)
  rows = np.any(
    np.abs(run(present) - first) > 1e-3, axis=tuple(range(1, first.ndim))
  )
  assert rows.all()


def test_gates_and_pooled_frames_by_numpy():
  trunk, variables, batch = make('gate')
  features, head = (
    trunk.apply(variables, batch, train=False),
    models.GateHead(2),
  )
  parts = head.init(jax.random.key(1), features, batch, train=False)
  assert set(parts) == {'params'}
  outputs, noted = head.apply(
    parts, features, batch, train=False, mutable=['intermediates']
  )
  p = jax.tree.map(np.float64, variables['params'])
  b = make_batch()
  mask = b['frame_mask'] > 0
  look = np.tanh(
    b['frames'] @ p['look_frames']['kernel'] + p['look_frames']['bias']
  )
  score = (look @ p['weigh_frames']['kernel'])[..., 0]
  frames = np.einsum(
    'bt,btc->bc', softmax(np.where(mask, score, -1e30)), b['frames']
  )
  there = np.stack(
    [b['text_mask'][:, 0] > 0, b['picture_mask'] > 0, mask.any(1)], 1
  )
  z = np.stack(
    [
      np.tanh(x @ p[f'state_{name}']['kernel'] + p[f'state_{name}']['bias'])
      for name, x in (
        ('text', b['text']),
        ('picture', b['picture']),
        ('frames', frames),
      )
    ],
    1,
  )
  z = np.where(there[..., None], z, 0)
  np.testing.assert_allclose(features[..., :-1], z, atol=1e-5)
  np.testing.assert_array_equal(features[..., -1], there)
  h = jax.tree.map(np.float64, parts['params'])
  logits = z.reshape(B, -1) @ h['weigh']['kernel'] + h['weigh']['bias']
  weights = softmax(np.where(there, logits, -1e30)) * there
  (gate,) = noted['intermediates']['gate']
  np.testing.assert_allclose(gate, weights, atol=1e-5)
  mixed = np.einsum('bm,bmd->bd', weights, z)
  wanted = mixed @ h['output']['kernel'] + h['output']['bias']
  np.testing.assert_allclose(outputs, wanted, atol=1e-5)
  # Where nothing is there, the head says what it says without an item.
  np.testing.assert_allclose(outputs[4], h['output']['bias'], atol=1e-6)


def test_modality_dropout_leaves_something_of_each():
  """The share that is left out is the rate, but for a last one."""
  trunk = models.Fusion(
    inputs=('a', 'b'), how='gate', features=2, modality_dropout=0.3
  )
  batch = {
    'a': jnp.ones((4000, 2)),
    'b': jnp.ones((4000, 2)),
    'a_mask': jnp.arange(4000) % 4 > 0,
  }
  variables = trunk.init(jax.random.key(0), batch, train=False)
  kept = trunk.apply(
    variables, batch, train=True, rngs={'dropout': jax.random.key(2)}
  )[..., -1]
  there = np.asarray(batch['a_mask'])
  kept = np.asarray(kept)
  assert np.all(kept.any(1)) and not kept[~there, 0].any()
  assert np.all(kept[~there, 1])  # the only one
  # Of two: kept by its own draw, or both were drawn out and both came back.
  assert abs(kept[there, 0].mean() - (0.7 + 0.3 * 0.3)) < 0.025
  whole = trunk.apply(variables, batch, train=False)[..., -1]
  np.testing.assert_array_equal(whole[:, 0], there)


def test_tokens_are_means_of_their_rows():
  trunk = models.Fusion(
    inputs=('words',), how='gate', features=D, cardinalities={'words': 9}
  )
  batch = {'words': jnp.array([[3, 5, 0], [0, 0, 0]])}
  variables = trunk.init(jax.random.key(0), batch, train=False)
  features = trunk.apply(variables, batch, train=False)
  p = variables['params']
  x = p['embed_words']['embedding'][jnp.array([3, 5])].mean(0)
  state = p['state_words']
  wanted = jax.nn.relu(x @ state['kernel'] + state['bias'])
  np.testing.assert_allclose(features[0, 0, :-1], wanted, atol=1e-6)
  assert features[:, 0, -1].tolist() == [1, 0]


@pytest.mark.parametrize(
  'options, message',
  [
    ({'how': 'sum'}, "one of 'concat', 'gate', 'attention', found 'sum'"),
    ({'inputs': ()}, 'Fusion: expected names of modalities, found'),
    ({'inputs': 'text'}, 'Fusion: expected names of modalities, found'),
    ({'how': 'attention', 'features': 6}, 'a multiple of num_heads, found 6'),
    ({'modality_dropout': 1.0}, r'modality_dropout in \[0, 1\), found 1.0'),
  ],
)
def test_bad_settings_are_told(options, message):
  with pytest.raises(ValueError, match=message):
    models.Fusion(**options)


@pytest.mark.parametrize(
  'batch, options, message',
  [
    ({'x': jnp.ones((2, 3))}, {}, "Fusion: expected an array 'text' in the"),
    ({'text': jnp.ones(2)}, {}, r"expected 'text' to be \[B, C\].*\(2,\)"),
    ({'text': jnp.ones((2, 3), int)}, {}, "of tokens of 'text' in cardinal"),
    (
      {'text': jnp.ones((2, 3))},
      {'masks': {'text': 'no'}},
      "Fusion: expected a mask 'no' in the batch, found none",
    ),
  ],
)
def test_bad_batches_are_told(batch, options, message):
  trunk = models.Fusion(inputs=('text',), **options)
  with pytest.raises(ValueError, match=message):
    trunk.init(jax.random.key(0), batch, train=False)


def test_a_gate_needs_states_of_modalities():
  with pytest.raises(ValueError, match="'how': 'gate'"):
    models.GateHead(2).init(
      jax.random.key(0), jnp.ones((2, 3)), {}, train=False
    )

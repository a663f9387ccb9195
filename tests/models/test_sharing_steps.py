"""Every architecture around a causal trunk: a step knows what came before it.

What a step of a long history gets is what it would get as the newest step of a
history that ends there; so nothing later enters it, neither through the trunk
nor through gates.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sharing_cases
import sweeps

from mtl_jax import models

T, CUT, SIZE = 5, 3, 4
CASES = [
  name
  for name, (_, _, fits) in sharing_cases.ARCHITECTURES.items()
  if fits is None
]
EVERY_DAY = ('mmoe', 'pepnet')


def make_batch():
  """Histories, and behind them the same that end after `CUT` steps."""
  rng = np.random.default_rng(0)
  x = rng.normal(size=(SIZE, T, 3))
  x[0, 0] = 0
  mask = np.ones((SIZE, T))
  mask[0, 0] = 0
  short = np.zeros_like(x)
  short[:, T - CUT :] = x[:, :CUT]
  short_mask = np.zeros_like(mask)
  short_mask[:, T - CUT :] = mask[:, :CUT]
  both = np.concatenate([x, short]), np.concatenate([mask, short_mask])
  return {
    'inputs': jnp.asarray(both[0], jnp.float32),
    'mask': jnp.asarray(both[1], jnp.float32),
    'place': jnp.asarray(np.tile(rng.normal(size=SIZE), 2), jnp.float32),
    'user': jnp.asarray(np.tile(rng.integers(0, 4, SIZE), 2)),
  }


@pytest.mark.parametrize('name', sweeps.some(CASES, *EVERY_DAY))
def test_a_step_gets_what_it_would_get_as_the_last(name):
  table_name, options, _ = sharing_cases.ARCHITECTURES[name]
  trunk = models.Transformer(
    features=4, num_layers=1, num_heads=1, hidden=4, causal=True,
    pool='none', mask='mask',
  )  # fmt: skip
  heads = {
    task.name: models.LinearHead(2) for task in sharing_cases.make_tasks()
  }
  model = models.build_model(
    models.SHARING[table_name](**options), trunk, heads
  )
  batch = make_batch()
  params, state = sharing_cases.drawn(model, batch)
  params = sharing_cases.certain(sharing_cases.started(params))

  @jax.jit
  def run(params, state, batch):
    features, _ = model.features(
      params, state, batch, stream='main', train=False, key=None
    )
    outputs, _ = model.outputs(
      params, state, features, batch, tasks=tuple(heads), train=False, key=None
    )
    return outputs

  outputs = run(params, state, batch)
  for task, x in outputs.items():
    assert x.shape == (2 * SIZE, T, 2)
    np.testing.assert_allclose(
      x[:SIZE, CUT - 1], x[SIZE:, -1], rtol=2e-5, atol=2e-5, err_msg=task
    )
    # Not because all steps are alike.
    assert (np.abs(x[1:SIZE, CUT - 1] - x[1:SIZE, -1]) > 1e-3).any()
  if model.inspect is not None:
    notes = model.inspect(params, state, batch, stream='main')
    assert notes['experts']

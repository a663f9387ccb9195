import jax
import jax.numpy as jnp

from mtl_jax import models


def test_first_slice():
  batch = {'inputs': jnp.ones((4, 8))}
  heads = {'a': models.LinearHead(3), 'b': models.MLPHead(1)}
  model = models.hard_sharing(models.MLP(), heads)
  params, state = model.init(jax.random.key(0), {'main': batch})
  features, state = model.features(
    params, state, batch, stream='main', train=False, key=None
  )
  outputs, state = model.outputs(
    params, state, features, batch, tasks=('b',), train=False, key=None
  )
  assert jax.tree.map(jnp.shape, outputs) == {'b': (4, 1)}
  assert state == {}

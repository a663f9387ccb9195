"""Use of experts by tasks, and experts that have collapsed.

An expert that no task weighs is not used; one whose units give the same for
every example says nothing. Both are measured over a whole split.
"""

from collections.abc import Mapping
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax import tasks
from mtl_jax.tasks.metrics import states

Array = jax.Array


def from_batch(notes: Mapping[str, Any], mask: Array) -> Any:
  """The state of a batch, for `merge`.

  Args:
    notes: of `MultiTaskModel.inspect`.
    mask: false where an example is padding, ``[B]``.
  """
  rows = mask > 0
  weights = {
    level: {owner: _weights(of_one, rows) for owner, of_one in owners.items()}
    for level, owners in notes.get('weights', {}).items()
  }
  experts = {
    level: {name: _units(x, rows) for name, x in outputs.items()}
    for level, outputs in notes.get('experts', {}).items()
  }
  return {'weights': weights, 'experts': experts}


def _weights(weights, rows):
  """Sums over the examples of a task's weights, and of their entropy.

  Of weights of every step ``[B T]`` those of the last step count.
  """
  last = {name: w.reshape(len(rows), -1)[:, -1] for name, w in weights.items()}
  kept = {
    name: jnp.where(rows, tasks.as_float(w), 0) for name, w in last.items()
  }
  size = sum(map(jnp.abs, kept.values()))
  entropy: Any = 0.0
  for w in kept.values():
    share = jnp.abs(w) / jnp.maximum(size, 1e-30)
    entropy -= share * jnp.log(share + (share == 0))  # NaN stays NaN
  return {
    'count': rows.sum().astype(jnp.float32),
    'entropy': jnp.where(rows, entropy, 0).sum(),
    'sums': {name: w.sum() for name, w in kept.items()},
  }


def _units(x, rows):
  """Moments and extremes of each unit of an expert, ``[F]``."""
  x = tasks.as_float(x)
  there = rows.reshape(-1, *[1] * (x.ndim - 1))
  axes = tuple(range(x.ndim - 1))
  count = rows.sum() * (x[0].size // x.shape[-1])
  number = jnp.maximum(count, 1)
  mean = jnp.where(there, x, 0).sum(axes) / number
  return {
    'count': count.astype(jnp.float32),
    'mean': mean,
    'squares': jnp.where(there, jnp.square(x - mean), 0).sum(axes),
    'zeros': jnp.where(there, x == 0, False).sum(axes).astype(jnp.float32),
    'low': jnp.where(there, x, jnp.inf).min(axes),
    'high': jnp.where(there, x, -jnp.inf).max(axes),
  }


def merge(a: Any, b: Any) -> Any:
  """State of the union of two sets of examples, in float64."""
  return {
    'weights': states.add(a['weights'], b['weights']),
    'experts': {
      level: {
        name: _merge(x, b['experts'][level][name]) for name, x in of.items()
      }
      for level, of in a['experts'].items()
    },
  }


def _merge(a, b):
  a, b = (
    {key: np.asarray(x, np.float64) for key, x in state.items()}
    for state in (a, b)
  )
  count = a['count'] + b['count']
  share = b['count'] / np.maximum(count, 1)
  step = b['mean'] - a['mean']
  return {
    'count': count,
    'mean': a['mean'] + share * step,
    'squares': a['squares'] + b['squares'] + step**2 * a['count'] * share,
    'zeros': a['zeros'] + b['zeros'],
    'low': np.minimum(a['low'], b['low']),
    'high': np.maximum(a['high'], b['high']),
  }


def summarise(state: Any) -> dict[str, Any]:
  """Summarises the use of experts for a report, by level.

  Args:
    state: of a split.

  Returns:
    ``{level: {'weights': {owner: {expert: mean}}, 'used': {owner: number},
    'experts': {expert: {'dead', 'zeros', 'spread'}}}}``. ``used`` is the
    exponential of the mean entropy of the weights, so between 1 and the number
    of experts that the owner reaches. ``dead`` is the share of units that are
    the same for all examples, ``zeros`` the share of outputs that are 0, and
    ``spread`` the standard deviation over examples, as the root of the mean
    square over units.
  """
  levels = sorted({*state['weights'], *state['experts']})
  return {level: _level(state, level) for level in levels}


def _level(state, level):
  weights, used = {}, {}
  for owner, stored in state['weights'].get(level, {}).items():
    count = float(stored['count']) or float('nan')
    weights[owner] = {
      name: float(stored['sums'][name]) / count
      for name in sorted(stored['sums'], key=_natural)
    }
    used[owner] = float(np.exp(stored['entropy'] / count))
  experts = state['experts'].get(level, {})
  return {
    'weights': weights,
    'used': used,
    'experts': {
      name: _facts(experts[name]) for name in sorted(experts, key=_natural)
    },
  }


def _facts(stored):
  count = float(stored['count']) or float('nan')
  return {
    'dead': float(np.mean(stored['low'] >= stored['high'])) + 0 * count,
    'zeros': float(np.mean(stored['zeros']) / count),
    'spread': float(np.sqrt(np.mean(stored['squares']) / count)),
  }


def _natural(name):
  """By words, then by numbers: 'shared 2' before 'shared 10'."""
  return [
    (part.isdigit(), int(part) if part.isdigit() else 0, part)
    for part in re.split(r'(\d+)', name)
  ]

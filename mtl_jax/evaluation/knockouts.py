"""Inputs taken away at test: what a model reads, and what it ignores."""

from collections.abc import Mapping

import numpy as np

from mtl_jax import tasks as tasks_lib

HOWS = ('absent', 'zero', 'permuted', 'noise')


def knock_out(
  arrays: Mapping[str, np.ndarray],
  name: str,
  how: str,
  *,
  mask: str | None = None,
  seed: int = 0,
) -> dict[str, np.ndarray]:
  """The arrays of a split, without what one of its inputs says.

  - 'absent': its mask is 0, as if the item had none;
  - 'zero': its numbers are 0, though its mask says that it is there;
  - 'permuted': each example has that of another one, with its mask;
  - 'noise': normal numbers with its mean and deviation, component by component,
    where it is there; of ids, ids of the split at random, where there are any.

  A model that does not get worse by 'permuted' does not read the input: that
  keeps the distribution, and only takes away which item it is of.

  Args:
    arrays: ``{name: [N, ...]}``, of which none is changed.
    name: the input.
    how: one of `HOWS`.
    mask: name of its mask; by default that of `tasks.mask_key`, if there is
      one.
    seed: of the permutation and the noise.

  Returns:
    The arrays, with the input or its mask replaced.

  Raises:
    ValueError: if there is no such input or mask.

  Example:
    >>> arrays = {'x': np.array([[1.0], [2.0], [3.0]])}
    >>> knock_out(arrays, 'x', 'permuted')['x'].tolist()
    [[2.0], [3.0], [1.0]]
  """
  key = tasks_lib.mask_key(name) if mask is None else mask
  missing = {name} | ({key} if how == 'absent' or mask else set())
  missing -= arrays.keys()
  if missing:
    raise ValueError(
      f'Expected an array {min(missing)!r} in the data, found '
      f'{", ".join(sorted(arrays))}; name an input that they have.'
    )
  x, rng = arrays[name], np.random.default_rng(seed)
  if how == 'absent':
    return {**arrays, key: np.zeros_like(arrays[key])}
  if how == 'zero':
    return {**arrays, name: np.zeros_like(x)}
  if how == 'permuted':
    rows = _derangement(rng, len(x))
    both = {k: arrays[k][rows] for k in (name, key) if k in arrays}
    return {**arrays, **both}
  if how != 'noise':
    raise ValueError(
      f'Expected how to be one of {", ".join(HOWS)}, found {how!r}; name one '
      'of these.'
    )
  return {**arrays, name: _noise(rng, x, arrays.get(key))}


def _derangement(rng, count):
  """A permutation, if there are two, without an example at its own place."""
  order = rng.permutation(count)
  rows = np.empty(count, int)
  rows[order] = np.roll(order, -1)  # one cycle
  return rows


def _noise(rng, x, mask):
  """Draws like the values that are there, with the same ones at 0."""
  if np.issubdtype(x.dtype, np.integer):
    if mask is None or mask.shape != x.shape or not mask.any():
      return rng.choice(x.reshape(-1), x.shape)
    return np.where(mask > 0, rng.choice(x[mask > 0], x.shape), x)
  flat = x.reshape(-1, x.shape[-1])
  there = np.ones(len(flat), bool)
  if mask is not None and mask.size == len(flat):
    there = mask.reshape(-1) > 0
  if not there.any():
    return x
  mean, deviation = flat[there].mean(0), flat[there].std(0)
  drawn = mean + deviation * rng.normal(size=flat.shape)
  drawn = np.where(there[:, None], drawn, 0)
  return drawn.reshape(x.shape).astype(x.dtype)

"""One trunk, and matrices of low rank that each task adds to it."""

import math
import re
from typing import Any

import flax
import jax
import jax.numpy as jnp

from mtl_jax.models.sharing import copies, options, scope as scope_lib
from mtl_jax.models.sharing.architecture import Sharing


def lora(
  *,
  rank: int = 4,
  alpha: float = 4.0,
  adapted: str = 'kernel$',
  frozen: bool = False,
) -> Sharing:
  r"""Low-rank adapters: one trunk, and small changes of its matrices per task.

  .. math:: z_k(x) = f(x; W_1 + \tfrac{\alpha}{r} A_{k1} B_{k1}, \dots, b_1,
    \dots), \quad A_k \in R^{n \times r}, B_k \in R^{r \times m}

  for the trunk's kernels ``[..., m]`` as matrices of n rows: of dense layers,
  the projections of attention, the gates of an LSTM, and of convolutions,
  whose rows are the places and channels of a window. Everything else (biases,
  norms, embedding tables) is the trunk's own. B is zero at first, so that all
  tasks start from the trunk; with rank 0 they stay there, which is
  `hard_sharing`.

  The trunk is shared, unless it is frozen; the adapters ``adapters/<task>``
  are their task's own. The trunk is run once per task, as one vmapped program;
  dropout draws the same for all tasks, and batch statistics are a task's own.
  Input encoders are shared, and not adapted.

  Args:
    rank: r, at least 0.
    alpha: of the scale alpha / r, > 0.
    adapted: regular expression; kernels whose path in the trunk it matches are
      adapted, such as 'attention_(in|out)/kernel$' or, with the tables, '.'.
    frozen: the trunk has no gradient, and is not shared. Decay and the like are
      kept off it by ``optimizer.frozen = ['^trunk/']``, which suffices alone;
      a trunk trained before comes from ``training.init_from``.

  Raises:
    ValueError: for an option out of range; from its `init`, if no kernel
      matches.

  Example:
    >>> from mtl_jax import models
    >>> heads = {'a': models.LinearHead(1), 'b': models.LinearHead(2)}
    >>> model = models.build_model(lora(rank=2), models.MLP((8,)), heads)
    >>> batch = {'main': {'inputs': jnp.ones((2, 3))}}
    >>> params, _ = model.init(jax.random.key(0), batch)
    >>> jax.tree.map(jnp.shape, params['adapters']['b'])
    {'Dense_0': {'kernel': {'a': (3, 2), 'b': (2, 8)}}}
    >>> model.shared('trunk/Dense_0/kernel')
    True

  References:
    Hu et al., LoRA: low-rank adaptation of large language models, ICLR 2022.
    Rank 4 is that of its GPT-2, and alpha the rank, as it advises. A is normal
    with variance 1 / n, where the authors' code has a uniform one of a third
    of that. There the trunk is frozen, and adapted in attention alone.
  """
  options.check_whole('lora', least=0, rank=rank)
  options.check_number('lora', 1e-12, math.inf, alpha=alpha)

  def features(scope, batch, tasks):
    if not tasks:
      return {}
    states = [('statistics', task) for task in tasks] if rank else [('trunk',)]
    copies.start_variants(scope, ('trunk',), batch, states)
    if not rank:
      if frozen:
        params = jax.lax.stop_gradient(scope.params['trunk'])
        scope.params = {**scope.params, 'trunk': params}
      return dict.fromkeys(tasks, scope.call(('trunk',), scope.trunk, batch))
    params: Any = flax.traverse_util.flatten_dict(
      scope_lib.get(scope.params, ('trunk',))
    )
    if frozen:
      params = jax.lax.stop_gradient(params)
    own = {
      path: kernel + alpha / rank * _changes(scope, tasks, path, kernel, rank)
      for path, kernel in params.items()
      if kernel.ndim > 1 and re.search(adapted, '/'.join(path))
    }
    if not own:
      raise ValueError(
        'lora: expected kernels to adapt among '
        f'{", ".join("/".join(path) for path in params) or "none"}, found none '
        f'by {adapted!r}; change adapted.'
      )
    outputs = copies.run_variants(scope, batch, params, own, states)
    return {task: outputs[k] for k, task in enumerate(tasks)}

  return Sharing(features, shared=() if frozen else ('trunk',))


def _changes(scope, tasks, path, kernel, rank):
  """``A_k B_k`` of the tasks, as kernels: ``[K, *shape]``."""
  size = math.prod(kernel.shape[:-1])

  def normal(key):
    return jax.random.normal(key, (size, rank), kernel.dtype) / size**0.5

  def zero(key):
    del key
    return jnp.zeros((rank, kernel.shape[-1]), kernel.dtype)

  def of(name, make):
    paths = [('adapters', task, *path, name) for task in tasks]
    return jnp.stack([scope.param(p, make) for p in paths])

  product = jnp.einsum('knr,krm->knm', of('a', normal), of('b', zero))
  return product.reshape(-1, *kernel.shape)

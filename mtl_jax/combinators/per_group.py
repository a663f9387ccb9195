"""A method on each group of parameters separately."""

import jax
import jax.numpy as jnp
import optax

from mtl_jax.combinators import (
  base,
  gradients as gradients_lib,
  state as state_lib,
)


def per_group(
  inner: base.Method, labels: gradients_lib.Labels
) -> optax.GradientTransformationExtraArgs:
  """Runs a method on the Gramian of each group of parameters.

  One group per layer, module or tensor; all groups come out of the same K
  backward passes, and run side by side in one vmap. Heads get their plain
  gradients.

  Args:
    inner: a method that reads losses and Gramian. It sees the Gramian of its
      group and a key of its own, and has a state for every group.
    labels: ``path -> label``, a label for every shared parameter, such as
      ``lambda path: path.split('/')[0]``.

  Raises:
    TypeError: if the method has no weights.
    ValueError: if the inner method has groups of its own, or a shared
      parameter has no label.

  Example:
    >>> from mtl_jax import combinators
    >>> tx = combinators.per_group(combinators.pcgrad(), lambda path: path)

  References:
    Wang et al., Gradient vaccine: investigating and improving multi-task
    optimization in massively multilingual models, ICLR 2021 (its groups).
  """
  inner = base.weighting_of(inner)
  if inner.labels is not None:
    raise ValueError(
      'Expected a weighting [K], found one with groups of its own; give '
      'per_group the labels, and the weighting none.'
    )

  def init(params):
    names = state_lib.label_names(params, labels)
    return {name: inner.init(params) for name in names}

  def weights(gradients, state, *, key, step, epoch):
    gramians = state_lib.gramians_by_label(gradients, labels)
    names = sorted(gramians)
    if not names:  # nothing is shared
      return {}, state

    def run(gramian, state, index):
      group_key = None if key is None else jax.random.fold_in(key, index)
      return inner.weights(
        gradients.with_gramian(gramian),
        state,
        key=group_key,
        step=step,
        epoch=epoch,
      )

    stacked = jax.tree.map(
      lambda *leaves: jnp.stack(leaves), *[state[name] for name in names]
    )
    w, new = jax.vmap(run)(
      jnp.stack([gramians[name] for name in names]),
      stacked,
      jnp.arange(len(names)),
    )
    new_states = {
      name: jax.tree.map(lambda x, i=i: x[i], new)
      for i, name in enumerate(names)
    }
    return {name: w[i] for i, name in enumerate(names)}, {**state, **new_states}

  return base.combine_by(
    base.Weighting(init, weights, heads='plain', labels=labels)
  )

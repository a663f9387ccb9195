"""Wrappers around a method, and transforms of the task gradients before it."""

from collections.abc import Callable
from typing import Any

import optax

from mtl_jax import combinators
from mtl_jax.config import settings as settings_lib
from mtl_jax.training import step as step_lib

BEFORE = {**combinators.TASK_TRANSFORMS, **combinators.COMBINATORS}


def wrap(
  method: Any, spec: settings_lib.Spec, build: Callable[..., Any]
) -> combinators.Weighting | optax.GradientTransformation:
  """A method with what its spec has around it and before it.

  Args:
    method: a weighting or a combinator.
    spec: of the method, with ``wrappers`` or ``before``.
    build: ``(kind, spec, table, **offered)``, makes one of them.

  Raises:
    ValueError: for a method that cannot have them.
  """
  if isinstance(method, step_lib.StepBuilder):
    place = 'wrappers' if spec.get('wrappers') else 'before'
    raise ValueError(
      f'Expected no combinator.{place} with {spec["name"]!r}, which makes '
      f'a step of its own, found {len(spec[place])}; remove '
      f'combinator.{place}.'
    )
  for wrapper in spec.get('wrappers', ()):
    # Only the monitor can measure from outside what has no weights.
    if not combinators.has_weights(method) and wrapper.get('name') != 'monitor':
      raise ValueError(
        f'Expected a weighting to wrap, found the combinator {spec["name"]!r} '
        'that does not choose weights; remove combinator.wrappers.'
      )
    method = build('wrapper', wrapper, combinators.WRAPPERS, inner=method)
  transforms = [
    _in_front(build('transform', item, BEFORE), item['name'])
    for item in spec.get('before', ())
  ]
  if not transforms:
    return method
  if isinstance(method, combinators.Weighting):
    method = combinators.combine_by(method)
  return optax.chain(*transforms, method)


def _in_front(transform, name):
  if combinators.has_weights(transform):
    return combinators.scale_by(transform)
  if name in combinators.COMBINATORS:
    raise ValueError(
      'Expected a method that chooses one weight per task in '
      f'combinator.before, found {name!r}; choose one that does, or one of '
      f'{", ".join(combinators.TASK_TRANSFORMS)}.'
    )
  return transform

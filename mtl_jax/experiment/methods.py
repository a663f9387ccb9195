"""The method of a config: a combinator with what goes with it, or a builder."""

from collections.abc import Callable, Mapping, Sequence
import inspect
import re
from typing import Any

import optax

from mtl_jax import combinators, names
from mtl_jax.config import lookup, settings as settings_lib
from mtl_jax.training import optimizers
from mtl_jax.training.builders import base as builders_base, table

BEFORE = {**combinators.TASK_TRANSFORMS, **combinators.WEIGHTINGS}
METHODS = {
  **combinators.COMBINATORS,
  **combinators.WEIGHTINGS,
  **table.STEP_BUILDERS,
}


def make_method(
  spec: settings_lib.Spec,
  kinds: Sequence[str],
  shared: Callable[[str], bool] = lambda path: True,
  **offered: Any,
) -> optax.GradientTransformation | builders_base.StepBuilder:
  """The method that a config names, ours or the user's own.

  Besides ``name`` and the method's options, a spec may have ``wrappers``, specs
  of `combinators.WRAPPERS`, the innermost first, and ``before``, specs of what
  scales or changes the task gradients in front of the method. An option
  ``optimizer`` is itself ``{'name': 'adam', 'learning_rate': 0.025}``, and an
  option ``labels`` a regular expression on the names of the parameters that
  count; what it catches in parentheses names their group.

  Args:
    spec: of the config.
    kinds: 'regression' or 'classification' a task.
    shared: ``path -> bool``, the model's.
    **offered: what else a method gets if it has an argument of that name.

  Returns:
    A combinator, or a step builder.

  Raises:
    ValueError: for unknown names or options, or a wrapper around a method that
      is no weighting.
  """
  offered |= {
    'num_tasks': len(kinds),
    'kinds': tuple(kinds),
    'shared': shared,
  }
  options = {k: v for k, v in spec.items() if k not in ('before', 'wrappers')}
  method = _build('combinator', options, METHODS, offered)
  if isinstance(method, builders_base.StepBuilder):
    for place in ('wrappers', 'before'):
      if spec.get(place):
        raise ValueError(
          f'Expected no combinator.{place} with {spec["name"]!r}, which makes '
          f'a step of its own, found {len(spec[place])}; remove '
          f'combinator.{place}.'
        )
    return method
  for wrapper in spec.get('wrappers', ()):
    # Only the monitor can measure from outside what has no weights.
    if not isinstance(method, combinators.Weighting) and (
      wrapper.get('name') != 'monitor'
    ):
      raise ValueError(
        f'Expected a weighting to wrap, found the combinator {spec["name"]!r} '
        'that does not choose weights; remove combinator.wrappers.'
      )
    inside = {**offered, 'inner': method}
    method = _build('wrapper', wrapper, combinators.WRAPPERS, inside)
  transforms = [
    _as_transform(_build('transform', item, BEFORE, offered), front=True)
    for item in spec.get('before', ())
  ]
  last = _as_transform(method, front=False)
  return optax.chain(*transforms, last) if transforms else last


def _build(kind, spec, table, offered):
  spec = dict(spec)
  if isinstance(spec.get('optimizer'), Mapping):
    section = dict(spec['optimizer'])
    rate = section.pop('learning_rate', 1e-3)
    name = section.pop('name', '')
    spec['optimizer'] = optimizers.optimizer_by_name(name, section)(rate)
  if isinstance(spec.get('labels'), str):
    spec['labels'] = _labels(re.compile(spec['labels']))
  if offered.get('task_names'):
    spec = _by_position(kind, spec, table, offered['task_names'])
  return lookup.build(kind, spec, table, offered=offered)


def _by_position(kind, spec, table, task_names):
  """Options that go by position, where the spec gives them by name of task."""
  spec = dict(spec)
  for option in ('weights', 'preference', 'ideal'):
    if isinstance(spec.get(option), Mapping):
      spec[option] = names.in_order(spec[option], task_names, option)
  for option in ('primary', 'target'):
    if isinstance(spec.get(option), str):
      function = lookup.find(kind, spec['name'], table)
      known = inspect.signature(function).parameters
      if option in known and known[option].annotation in (int, 'int'):
        spec[option] = names.index(spec[option], task_names, option)
  return spec


def _labels(pattern):
  def label(path):
    found = pattern.search(path)
    if found is None:
      return None
    return '/'.join(filter(None, found.groups())) or 'on'

  return label


def _as_transform(made: Any, *, front: bool) -> Any:
  if not isinstance(made, combinators.Weighting):
    return made
  return combinators.scale_by(made) if front else combinators.combine_by(made)

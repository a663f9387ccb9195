"""The method of a config and the optimizer behind it, as one chain."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import inspect
import re
from typing import Any, NamedTuple

import optax

from mtl_jax import combinators, contrib, names, tasks as tasks_lib
from mtl_jax.config import lookup, settings as settings_lib
from mtl_jax.training import optimizers, step as step_lib
from mtl_jax.training.builders.rotograd import rotograd

STEP_BUILDERS = {**contrib.STEP_BUILDERS, 'rotograd': rotograd}
# Options with a number per task.
PER_TASK = ('weights', 'preference', 'ideal')
METHODS = {**combinators.COMBINATORS, **STEP_BUILDERS}
# Of combinator.before.
BEFORE = {**combinators.TASK_TRANSFORMS, **combinators.COMBINATORS}


class MethodParts(NamedTuple):
  """A method and what follows it.

  Attributes:
    builder: makes the step.
    optimizer: clipping, decay and the optimizer.
  """

  builder: step_lib.StepBuilder
  optimizer: optax.GradientTransformationExtraArgs


def build_method(
  settings: settings_lib.Settings,
  tasks: Sequence[tasks_lib.Task],
  shared: Callable[[str], bool],
  steps: int,
  frozen: Callable[[str], bool],
  hyper: Mapping[str, Any],
) -> MethodParts:
  """Method, clipping, decay and optimizer of the settings.

  Args:
    settings: an experiment's.
    tasks: what is learned.
    shared: ``path -> bool``, the model's before a builder wraps it.
    steps: of the run, for schedules.
    frozen: ``path -> bool``.
    hyper: ``{setting: number}`` of the sections optimizer and combinator that
      count in place of the settings'; numbers may be traced.

  Raises:
    ValueError: for names, options and numbers that are not as they must be.
  """
  fields = dataclasses.fields(settings.optimizer)
  section = {f.name: getattr(settings.optimizer, f.name) for f in fields}
  spec = settings.combinator
  if hyper:
    section = with_numbers(section, hyper, 'optimizer')
    spec = with_numbers(spec, hyper, 'combinator')
  builder = make_method(
    spec,
    [task.likelihood for task in tasks],
    shared,
    task_names=tuple(task.name for task in tasks),
    virtual_lr=section['learning_rate'],
  )
  optimizer = optimizers.make_chain(
    optimizers.optimizer_by_name(
      section['name'], section['options'], section['weight_decay']
    ),
    optimizers.make_schedule(
      section['schedule'],
      section['learning_rate'],
      steps,
      warmup_steps=section['warmup_steps'],
      end_factor=section['end_factor'],
    ),
    clip_norm=section['clip_norm'],
    learning_rates=section['learning_rates'],
    frozen=frozen,
  )
  return MethodParts(builder, optimizer)


def with_numbers(
  section: Mapping[str, Any], hyper: Mapping[str, Any], name: str
) -> dict[str, Any]:
  """A section with the numbers of ``hyper`` that are settings of it.

  Example:
    >>> with_numbers({'c': 0.4, 'name': 'cagrad'}, {'combinator.c': 0.5},
    ...              'combinator')
    {'c': 0.5, 'name': 'cagrad'}
  """
  section = dict(section)
  for path, value in hyper.items():
    first, *keys, last = path.split('.')
    if first == name:
      inner = section
      for key in keys:
        inner[key] = dict(inner.get(key, {}))
        inner = inner[key]
      inner[last] = value
  return section


def make_method(
  spec: settings_lib.Spec,
  kinds: Sequence[str],
  shared: Callable[[str], bool] = lambda path: True,
  **offered: Any,
) -> step_lib.StepBuilder:
  """The step of the method that a config names, ours or the user's own.

  Besides ``name`` and the method's options, a spec may have ``wrappers``, specs
  of `combinators.WRAPPERS`, the innermost first, and ``before``, specs of what
  scales or changes the task gradients in front of the method. An option
  ``optimizer`` is itself ``{'name': 'adam', 'learning_rate': 0.025}``, and an
  option ``labels`` a regular expression on the names of the parameters that
  count; what it catches in parentheses names their group. ('metabalance' needs
  a label for each shared parameter; a pattern that ends in ``|``, such as
  ``'^trunk/([^/]+)|'``, puts what is left into one group.)

  Args:
    spec: of the config.
    kinds: 'regression' or 'classification' per task.
    shared: ``path -> bool``, the model's.
    **offered: what else a method gets if it has an argument of that name.

  Raises:
    ValueError: for unknown names or options, or a wrapper around a method that
      has no weights.
  """
  offered |= {
    'num_tasks': len(kinds),
    'kinds': tuple(kinds),
    'shared': shared,
  }
  options = {k: v for k, v in spec.items() if k not in ('before', 'wrappers')}
  method = _build('combinator', options, METHODS, offered)
  if spec.get('wrappers') or spec.get('before'):
    method = _wrapped(method, spec, offered)
  if isinstance(method, step_lib.StepBuilder):
    return method
  if isinstance(method, combinators.Weighting):
    method = combinators.combine_by(method)
  return step_lib.from_chain(method)


def _wrapped(method, spec, offered):
  """A method with what its spec has around it and before it."""
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
    inner = {**offered, 'inner': method}
    method = _build('wrapper', wrapper, combinators.WRAPPERS, inner)
  transforms = [
    _in_front(_build('transform', item, BEFORE, offered), item['name'])
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


def numbers_by_task(
  spec: settings_lib.Spec, task_names: Sequence[str]
) -> list[str]:
  """Numbers per task of a method, its wrappers and what stands before it.

  Args:
    spec: of `make_method`.
    task_names: in order.

  Returns:
    A line for each option.

  Example:
    >>> spec = {'name': 'weighted_sum', 'weights': (1.0, 0.0)}
    >>> numbers_by_task(spec, ('visits', 'amount'))
    ['weighted_sum, weights: visits 1, amount 0.']
  """
  lines = []
  for one in (spec, *spec.get('wrappers', ()), *spec.get('before', ())):
    for option in PER_TASK:
      values = one.get(option)
      if isinstance(values, Mapping):
        values = names.in_order(values, task_names, option)
      if isinstance(values, Sequence) and len(values) == len(task_names):
        pairs = zip(task_names, values, strict=True)
        listed = ', '.join(f'{task} {value:g}' for task, value in pairs)
        lines.append(f'{one.get("name")}, {option}: {listed}.')
  return lines


def _by_position(kind, spec, table, task_names):
  """Options that go by position, where the spec gives them by name of task."""
  spec = dict(spec)
  for option in PER_TASK:
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
    match = pattern.search(path)
    if match is None:
      return None
    return '/'.join(filter(None, match.groups())) or 'on'

  return label

"""The optimizer behind a method: clipping, decay, schedule, groups."""

from collections.abc import Callable, Hashable, Mapping, Sequence
import importlib
import inspect
import re
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mtl_jax.combinators import path_name
from mtl_jax.training import rowwise_adagrad as rowwise_adagrad_lib

Schedule = Callable[[Any], Any]

SCHEDULES = ('constant', 'cosine', 'linear', 'exponential')


def make_schedule(
  name: str,
  peak: float,
  steps: int,
  *,
  warmup_steps: int = 0,
  end_factor: float = 0.0,
) -> Schedule:
  """A learning rate over the steps of a run.

  Args:
    name: one of `SCHEDULES`; all but 'constant' end at ``end_factor * peak``.
    peak: the rate after the warm-up, > 0.
    steps: all steps, warm-up included.
    warmup_steps: linearly from 0 to the peak.
    end_factor: in [0, 1]; > 0 for 'exponential'.

  Raises:
    ValueError: if the name is unknown or a number out of range.

  Example:
    >>> schedule = make_schedule('linear', 1.0, steps=10, warmup_steps=2)
    >>> [float(schedule(step)) for step in (0, 1, 2, 6, 10)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
  """
  if name not in SCHEDULES:
    raise ValueError(
      f'Expected a schedule among {", ".join(SCHEDULES)}, found {name!r}; set '
      'optimizer.schedule to one of them.'
    )
  # An array is a number that differs between the members of a population.
  known = not isinstance(peak, jax.Array)
  if (known and not peak > 0) or not 0 <= end_factor <= 1 or warmup_steps < 0:
    raise ValueError(
      'Expected a learning rate > 0, warm-up >= 0 and an end factor in [0, 1], '
      f'found {peak}, {warmup_steps} and {end_factor}; change the optimizer.'
    )
  if name == 'exponential' and end_factor == 0:
    raise ValueError(
      "Expected an end factor > 0 for schedule 'exponential', found 0; set "
      'optimizer.end_factor.'
    )
  rest = max(steps - warmup_steps, 1)
  schedule = {
    'constant': lambda: optax.constant_schedule(peak),
    'cosine': lambda: optax.cosine_decay_schedule(peak, rest, end_factor),
    'linear': lambda: optax.linear_schedule(peak, peak * end_factor, rest),
    'exponential': lambda: optax.exponential_decay(peak, rest, end_factor),
  }[name]()
  if not warmup_steps:
    return schedule
  warmup = optax.linear_schedule(0.0, peak, warmup_steps)
  return optax.join_schedules([warmup, schedule], [warmup_steps])


def optimizer_by_name(
  name: str, options: Mapping[str, Any], weight_decay: float = 0.0
) -> Callable[[Schedule], optax.GradientTransformation]:
  """An optimizer of Optax, or of the user, as ``schedule -> transform``.

  Args:
    name: its name in Optax, 'rowwise_adagrad', or ``module.function`` of
      importable code that takes ``learning_rate``, a schedule.
    options: its keyword arguments, but for the learning rate.
    weight_decay: of matrices and higher arrays, not of biases and norms; 0
      is none, also where Optax has another default. It is the optimizer's own
      for those with the arguments ``weight_decay`` and a mask of it ('adamw',
      'lion', ...: decoupled), and an L2 penalty's gradient in front of all
      others ('adam', 'sgd', ...). An option ``weight_decay`` counts in its
      place, as Optax has it: without a mask it is of all parameters.

  Raises:
    ValueError: if there is none of that name with a learning rate, it does
      not take one of the options, or there are two weight decays.
  """
  make = _find(name)
  known = inspect.signature(make).parameters if callable(make) else {}
  if 'learning_rate' not in known:
    raise ValueError(
      f'Expected an optimizer of Optax, found {name!r}; use one such as adam, '
      'adamw, sgd, lion or rmsprop, or the dotted name of a function of your '
      'own with an argument learning_rate.'
    )
  label = name if '.' in name or name in OPTIMIZERS else f'optax.{name}'
  for option in options:
    if option not in known:
      raise ValueError(
        f'Expected an option of {label}, found '
        f'{option!r} (known: '
        f'{", ".join(known)}); remove or rename it in optimizer.options.'
      )
  none = not isinstance(weight_decay, jax.Array) and not weight_decay
  if not none and 'weight_decay' in options:
    raise ValueError(
      'Expected one weight decay, found one in optimizer.weight_decay and one '
      'in optimizer.options; remove one of them.'
    )
  own: dict[str, Any] = {'weight_decay': 0.0} if 'weight_decay' in known else {}
  mask = {'mask', 'weight_decay_mask'} & set(known)
  masked = bool(own and mask and 'weight_decay' not in options)
  if masked:
    own = {'weight_decay': weight_decay, mask.pop(): _matrices}
  own |= options
  if none or masked:
    return lambda schedule: make(learning_rate=schedule, **own)
  return lambda schedule: optax.chain(
    optax.add_decayed_weights(weight_decay, _matrices),
    make(learning_rate=schedule, **own),
  )


# Beside those of Optax.
OPTIMIZERS = {'rowwise_adagrad': rowwise_adagrad_lib.rowwise_adagrad}


def _find(name: str) -> Any:
  if name in OPTIMIZERS:
    return OPTIMIZERS[name]
  module, _, attribute = name.rpartition('.')
  try:
    return getattr(importlib.import_module(module or 'optax'), attribute, None)
  except ModuleNotFoundError as error:
    if error.name is None or not module.startswith(error.name):
      raise  # It is there, and imports what is not.
    return None


def _matrices(params):
  return jax.tree.map(lambda p: p.ndim > 1, params)


def make_chain(
  optimizer: Callable[[Schedule], optax.GradientTransformation],
  schedule: Schedule,
  *,
  clip_norm: float = 0.0,
  learning_rates: Sequence[tuple[str, float]] = (),
  frozen: Callable[[str], bool] = lambda path: False,
) -> optax.GradientTransformationExtraArgs:
  """The chain behind the method of a run; it takes one gradient.

  Args:
    optimizer: ``schedule -> transform``, see `optimizer_by_name`.
    schedule: learning rate by step.
    clip_norm: global norm of the combined gradient, 0 = no clipping.
    learning_rates: (regular expression, factor) pairs; a parameter whose name
      one matches gets that factor, the first that matches counts.
    frozen: ``path -> bool``: parameters that get no update.
  """
  transforms: list[Any] = []
  if isinstance(clip_norm, jax.Array):  # It may be 0 for some members.
    norm = jnp.where(clip_norm > 0, clip_norm, jnp.inf)
    transforms.append(optax.clip_by_global_norm(norm))
  elif clip_norm:
    transforms.append(optax.clip_by_global_norm(clip_norm))
  factors = dict.fromkeys([1.0, *(float(f) for _, f in learning_rates)])
  groups: dict[Hashable, Any] = {
    str(factor): optimizer(lambda step, f=factor: f * schedule(step))
    for factor in factors
  }
  groups['frozen'] = optax.set_to_zero()

  def label(path, _):
    name = path_name(path)
    if frozen(name):
      return 'frozen'
    for pattern, factor in learning_rates:
      if re.search(pattern, name):
        return str(float(factor))
    return '1.0'

  transforms.append(
    optax.partition(
      groups, lambda params: jax.tree_util.tree_map_with_path(label, params)
    )
  )
  return optax.chain(*transforms)


def matcher(patterns: Sequence[str]) -> Callable[[str], bool]:
  """``path -> bool``: does any of the regular expressions match?"""
  compiled = [re.compile(p) for p in patterns]
  return lambda path: any(p.search(path) for p in compiled)


def check_patterns(
  what: str, patterns: Sequence[str], paths: Sequence[str]
) -> None:
  """Raises a ValueError if a pattern matches no parameter at all."""
  for pattern in patterns:
    if not any(re.search(pattern, path) for path in paths):
      raise ValueError(
        f'Expected {what} to match a parameter, found no match for '
        f'{pattern!r}; parameters are {", ".join(paths[:8])}'
        f'{", ..." if len(paths) > 8 else ""}.'
      )

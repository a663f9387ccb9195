"""Writes what the code knows of each method into docs/combinators.md.

python docs/combinator_tables.py           rewrites the page
python docs/combinator_tables.py --check   only says whether it is up to date

What a method reads, its passes and its state are found by tracing one update.
"""

import argparse
from collections.abc import Callable
import contextlib
import inspect
import itertools
import pathlib
import re
import sys
from typing import Any, NamedTuple
from unittest import mock

import bibliography
import jax
import jax.numpy as jnp
import numpy as np
import optax

from mtl_jax import combinators

ROOT = pathlib.Path(__file__).parents[1]
PAGE = ROOT / 'docs' / 'combinators.md'
REFERENCES = ROOT / 'tests' / 'data'
LIBRARIES = {'torchjd': 'TorchJD', 'libmtl': 'LibMTL'}
# Arguments without a default that nothing else knows.
REQUIRED = {'go4align': {'num_groups': 2}}
# Known from the model, so that they are no setting of a method.
GIVEN = ('num_tasks', 'kinds', 'shared', 'inner')
PRESETS = ('paper', 'libmtl', 'torchjd', 'nash-mtl')
# What a state may be made of: K tasks, d parameters, p tensors of them.
TERMS: dict[str, Callable[[int, int, int], int]] = {
  'K d': lambda k, d, p: k * d,
  'd': lambda k, d, p: d,
  'K p': lambda k, d, p: k * p,
  'p': lambda k, d, p: p,
  'K^2': lambda k, d, p: k * k,
  'K': lambda k, d, p: k,
  '1': lambda k, d, p: 1,
}
ASKED = ('gramian', 'jacobian', 'split', 'combine')
SHAPES = [(k, d, p) for k in (3, 4, 6) for d in (12, 20) for p in (1, 2, 3)]


class Cost(NamedTuple):
  """Cost of one update of a method."""

  reads: str
  passes: str
  state: str
  heads: str


def methods_block() -> str:
  """A row for each method, those that read least first."""
  costs = {name: cost(name) for name in combinators.COMBINATORS}
  order = ('losses', 'one gradient', 'Gramian', 'cross-Gramian', 'Jacobian')
  names = sorted(costs, key=lambda n: (order.index(costs[n].reads), n))
  text = (
    '| Method | Reads | Backward passes | State | Heads | Tested against '
    '| Defaults |\n|---|---|---|---|---|---|---|\n'
  )
  for name in names:
    text += (
      f'| [`{name}`](#{name}) | {" | ".join(costs[name])} | '
      f'{", ".join(tested_against(name))} | {defaults(name)} |\n'
    )
  return text


def presets_block() -> str:
  """The settings of each preset, for the methods that have any."""
  text = f'| Method | {" | ".join(f"`{p}`" for p in PRESETS)} |\n'
  text += '|---|' + '---|' * len(PRESETS) + '\n'
  for name, make in combinators.COMBINATORS.items():
    table = presets_of(make)
    if table:
      cells = (settings(table.get(preset, {})) for preset in PRESETS)
      text += f'| [`{name}`](#{name}) | {" | ".join(cells)} |\n'
  return text


def wrappers_block() -> str:
  """Wrappers of methods and transforms in front, with the state they add."""
  text = (
    '| Name | In a config | State it adds | Defaults |\n|---|---|---|---|\n'
  )
  places = {
    'combinator.wrappers': combinators.WRAPPERS,
    'combinator.before': combinators.TASK_TRANSFORMS,
  }
  needed = {'every_k': {'k': 2}, 'clip_per_task': {'max_norm': 1.0}}
  for place, table in places.items():
    for name, make in table.items():

      def build(k, name=name, make=make):
        given = {'inner': combinators.weighted_sum(), 'num_tasks': k}
        given |= {'preference': [1.0] * k, **needed.get(name, {})}
        return call(make, given)

      text += f'| `{name}` | `{place}` | {state_of(build)} | '
      text += f'{settings(own_defaults(make))} |\n'
  return text


def cost(name: str) -> Cost:
  """Cost of one update of this method, by a trace."""

  def build(k):
    return make_method(combinators.COMBINATORS[name], name, k)

  method = build(3)
  asked = trace(method)
  heads, passes = 'plain', 'K'
  has_weights = combinators.has_weights(method)
  if has_weights:
    heads = combinators.weighting_of(method).heads
  if 'split' in asked:
    reads = 'cross-Gramian'
  elif 'jacobian' in asked:
    reads = 'Jacobian'
  elif 'gramian' in asked:
    reads = 'Gramian'
  elif has_weights:
    reads, passes = 'losses', '1'
  else:
    reads, passes, heads = 'one gradient', '1', 'as the trunk'
  if 'losses_after' in asked:
    passes += ' and one more forward pass'
  return Cost(reads, passes, state_of(build), heads)


def make_method(make, name: str, num_tasks: int) -> Any:
  """A method with its defaults, for K tasks."""
  given = {'num_tasks': num_tasks, 'kinds': ['regression'] * num_tasks}
  return call(make, given | REQUIRED.get(name, {}))


def call(make: Callable[..., Any], given: dict[str, Any]) -> Any:
  """Calls with those arguments that are asked for."""
  parameters = inspect.signature(make).parameters
  required = {
    p.name
    for p in parameters.values()
    if p.default is p.empty and p.kind is not p.VAR_KEYWORD
  }
  wanted = required | {n for n in ('num_tasks', 'kinds') if n in parameters}
  return make(**{name: given[name] for name in wanted})


def trace(tx: optax.GradientTransformationExtraArgs) -> set[str]:
  """Names of what one update asks of its gradients before `combine`.

  What is asked later is of gradients that the method keeps itself.
  """
  asked, params = [], {'a': jnp.zeros(4), 'b': jnp.zeros((2, 3))}

  def recorded(name, answer):
    def method(*args, **kwargs):
      if asked[-1:] == ['inside']:  # A Gramian may be made of the Jacobian.
        return answer(*args, **kwargs)
      asked.extend([name, 'inside'])
      result = answer(*args, **kwargs)
      asked.pop()
      return result

    return method

  def update(losses):
    rows = jax.tree.map(lambda p: jnp.ones((3, *p.shape)), params)
    whole = combinators.gradients_from_jacobian(rows, losses)
    gradients = whole.with_parts([whole] * 3)
    state = tx.init(params)
    if optax.tree.get_all_with_path(state, 'losses_after'):
      asked.insert(0, 'losses_after')
    key = jax.random.key(0)
    return tx.update(gradients, state, params, key=key, step=0, epoch=0)

  with contextlib.ExitStack() as stack:
    for name in ASKED:
      method = recorded(name, getattr(combinators.TaskGradients, name))
      stack.enter_context(
        mock.patch.object(combinators.TaskGradients, name, method)
      )
    jax.eval_shape(update, jnp.ones(3))
  return set(itertools.takewhile(lambda name: name != 'combine', asked))


def state_of(build: Callable[[int], Any]) -> str:
  """The size of a state, such as ``K d + 2 K + 1``."""
  sizes = []
  for k, d, p in SHAPES:
    params = {f't{i}': jnp.zeros(d // p + (d % p) * (i == 0)) for i in range(p)}
    state = jax.eval_shape(build(k).init, params)
    sizes.append(sum(leaf.size for leaf in jax.tree.leaves(state)))
  terms = np.array([[f(*s) for f in TERMS.values()] for s in SHAPES], float)
  solution = np.linalg.lstsq(terms, np.array(sizes, float), rcond=None)[0]
  factors = np.round(solution).astype(int)
  if not np.array_equal(terms @ factors, sizes):
    raise ValueError(
      f'Expected a state made of {", ".join(TERMS)}, found sizes {sizes}; '
      'add the term that is missing to TERMS.'
    )
  parts = [
    str(n) if term == '1' else term if n == 1 else f'{n} {term}'
    for term, n in zip(TERMS, factors, strict=True)
    if n
  ]
  return ' + '.join(parts) or '0'


def presets_of(make: Callable[..., Any]) -> dict[str, dict[str, Any]]:
  """``{preset: settings}`` of a method; nothing where it has none."""
  if 'preset' not in inspect.signature(make).parameters:
    return {}
  return sys.modules[make.__module__]._PRESETS


def own_defaults(make: Callable[..., Any]) -> dict[str, Any]:
  """The defaults in the signature that are settings."""
  return {
    p.name: p.default
    for p in inspect.signature(make).parameters.values()
    if p.name not in GIVEN and p.default is not p.empty
  }


def defaults(name: str) -> str:
  """All settings of a method when none is given."""
  own = own_defaults(combinators.COMBINATORS[name])
  table = presets_of(combinators.COMBINATORS[name])
  return settings({**own, **table.get(own.get('preset', ''), {})})


def settings(values: dict[str, Any]) -> str:
  """Settings as code; those that are None or functions are left out."""
  shown = (
    f'`{name}={value!r}`'
    for name, value in values.items()
    if value is not None and not callable(value) and name != 'preset'
  )
  return ', '.join(shown)


def tested_against(name: str) -> list[str]:
  """The libraries whose stored directions the tests compare with."""
  prefix = {'aligned_mtl': 'aligned'}.get(name, name)
  libraries = []
  for file, library in LIBRARIES.items():
    with np.load(REFERENCES / f'reference_{file}.npz') as stored:
      if any(re.match(rf'{prefix}(_|\d|$)', key) for key in stored):
        libraries.append(library)
  return libraries


BLOCKS = {
  'methods': methods_block,
  'presets': presets_block,
  'wrappers': wrappers_block,
  'references': bibliography.as_list,
}


def rewritten(text: str) -> str:
  """The page with each marked block made anew."""
  for name, make in BLOCKS.items():
    begin = f'<!-- begin: {name}, by docs/combinator_tables.py -->\n'
    before, mark, rest = text.partition(begin)
    if not mark:
      raise ValueError(
        f'Expected {begin!r} in {PAGE.name}, found none; add it.'
      )
    after = rest.partition('<!-- end -->')[2]
    text = f'{before}{begin}{make()}<!-- end -->{after}'
  return text


def main(arguments: list[str] | None = None) -> int:
  """Writes or checks the page; returns whether it differs when checking."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--check', action='store_true')
  check = parser.parse_args(arguments).check
  old = PAGE.read_text(encoding='utf-8')
  new = rewritten(old)
  if new == old:
    return 0
  print(f'{PAGE.name} {"is out of date" if check else "rewritten"}')
  if not check:
    PAGE.write_text(new, encoding='utf-8')
  return int(check)


if __name__ == '__main__':
  sys.exit(main())

"""Writes what sharing architectures cost into docs/architectures.md.

python docs/sharing_tables.py           rewrites the table
python docs/sharing_tables.py --check   only says whether it is up to date

Operations are those that the compiler counts in the program of one training
step, so that nothing is timed. Another release of JAX may count a little
differently: checking, they may differ by 5%.
"""

import argparse
import pathlib
import re
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mtl_jax import combinators, models, tasks as tasks_lib
from mtl_jax.training import step as step_lib

PAGE = pathlib.Path(__file__).parent / 'architectures.md'
BEGIN = '<!-- begin: costs, by docs/sharing_tables.py -->\n'
END = '<!-- end -->'
WIDTHS, INPUTS, BATCH = (64, 64), 20, 256
TASKS = tuple(tasks_lib.regression(name) for name in 'abc')
METHODS = {
  'equal weights': combinators.weighted_sum,
  'PCGrad': combinators.pcgrad,
}
TOLERANCE = 0.05


class Count(NamedTuple):
  """Parameters of a model, and how many of them are shared."""

  parameters: int
  shared: int


class Row(NamedTuple):
  """One architecture, as the page says it: costs are in those of hard."""

  parameters: int
  ratio: float
  shared: int  # in percent
  costs: tuple[float, ...]  # of `METHODS`


def make(name: str) -> models.MultiTaskModel:
  """An architecture with its defaults, around the MLP."""
  heads = {task.name: models.LinearHead(task.size) for task in TASKS}
  return models.build_model(
    models.SHARING[name](), models.MLP(widths=WIDTHS), heads
  )


def make_batch() -> dict[str, dict[str, jax.ShapeDtypeStruct]]:
  """Shapes of one stream."""
  shapes = {'inputs': (BATCH, INPUTS)} | {t.name: (BATCH,) for t in TASKS}
  arrays = {
    name: jax.ShapeDtypeStruct(shape, jnp.float32)
    for name, shape in shapes.items()
  }
  return {'main': arrays}


def count(name: str) -> Count:
  """Counts without computing anything."""
  model = make(name)
  params, _ = jax.eval_shape(model.init, jax.random.key(0), make_batch())
  rows = models.parameter_table(params, model.shared)
  shared = sum(row.size for row in rows if row.shared)
  return Count(sum(row.size for row in rows), shared)


def operations(name: str, method: str) -> float:
  """Floating-point operations of one training step, as compiled."""
  model, batch = make(name), make_batch()
  combinator = METHODS[method]()
  optimizer = optax.sgd(0.1)
  state = jax.eval_shape(
    lambda key, batch: step_lib.init_state(
      model, combinator, key, batch, optimizer
    ),
    jax.random.key(0),
    batch,
  )
  step = jax.jit(step_lib.make_train_step(model, TASKS, combinator, optimizer))
  # What is counted is the program of XLA; machine code needs no care.
  fast: dict[str, Any] = {'xla_backend_optimization_level': 0}
  compiled = step.lower(state, batch).compile(compiler_options=fast)
  found: Any = compiled.cost_analysis()
  return found['flops']


def make_rows() -> dict[str, Row]:
  """All architectures, by what is counted."""
  hard = count('hard').parameters
  unit = operations('hard', 'equal weights')
  rows = {}
  for name in ['hard', *sorted(set(models.SHARING) - {'hard'})]:
    found = count(name)
    costs = tuple(operations(name, method) / unit for method in METHODS)
    share = round(100 * found.shared / found.parameters)
    rows[name] = Row(found.parameters, found.parameters / hard, share, costs)
  return rows


def as_table(rows: dict[str, Row]) -> str:
  """Rows in Markdown."""
  head = ['Name', 'Parameters', 'x hard', 'Shared']
  head += [f'Operations, {method}' for method in METHODS]
  text = f'| {" | ".join(head)} |\n|---|' + '---:|' * (len(head) - 1) + '\n'
  for name, row in rows.items():
    cells = [f'[`{name}`](#{name})', f'{row.parameters:,}', f'{row.ratio:.2f}']
    cells += [f'{row.shared}%', *(f'{cost:.2f}' for cost in row.costs)]
    text += f'| {" | ".join(cells)} |\n'
  return text


def read(text: str) -> dict[str, Row]:
  """The rows of a page that has the table.

  Raises:
    ValueError: if it has no place for the table.
  """
  _, begin, rest = text.partition(BEGIN)
  if not begin:
    raise ValueError(f'Expected {BEGIN!r} in {PAGE.name}, found none; add it.')
  rows = {}
  for line in rest.partition(END)[0].splitlines()[2:]:
    name, *cells = (cell.strip() for cell in line.strip('|').split('|'))
    numbers = [float(re.sub('[,%]', '', cell)) for cell in cells]
    rows[re.findall('`(.*?)`', name)[0]] = Row(
      int(numbers[0]), numbers[1], int(numbers[2]), tuple(numbers[3:])
    )
  return rows


def differing(old: dict[str, Row], new: dict[str, Row]) -> list[str]:
  """Names whose rows are not the same, up to the tolerance of operations."""

  def same(a, b):
    if a is None or b is None or len(a.costs) != len(b.costs):
      return False
    counts = a.parameters == b.parameters and a.shared == b.shared
    pairs = zip(a.costs, b.costs, strict=True)
    near = all(abs(x - y) <= TOLERANCE * y for x, y in pairs)
    return counts and abs(a.ratio - b.ratio) <= 0.005 and near

  names = sorted({*old, *new})
  return [name for name in names if not same(old.get(name), new.get(name))]


def main(arguments: list[str] | None = None) -> int:
  """Writes or checks the page; returns how many rows differ when checking."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--check', action='store_true')
  check = parser.parse_args(arguments).check
  old = PAGE.read_text(encoding='utf-8')
  known, rows = read(old), make_rows()
  if check:
    wrong = differing(known, rows)
    if wrong:
      print(f'{PAGE.name} is out of date: {", ".join(wrong)}')
    return len(wrong)
  before, _, rest = old.partition(BEGIN)
  after = rest.partition(END)[2]
  new = f'{before}{BEGIN}{as_table(rows)}{END}{after}'
  if new != old:
    PAGE.write_text(new, encoding='utf-8')
    print(f'{PAGE.name} rewritten')
  return 0


if __name__ == '__main__':
  sys.exit(main())

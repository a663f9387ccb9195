"""Missing numbers of inputs: how they may be filled."""

from collections.abc import Iterable, Mapping

from mtl_jax.data import tables
from mtl_jax.data.columns import recipe

FILLS = ('mean', 'indicator', 'category', 'refuse')


def check_names(fill: Mapping[str, str]) -> None:
  """Raises for a way to fill that is not known."""
  for key, how in fill.items():
    if how not in FILLS:
      raise ValueError(
        f'Expected data.fill[{key!r}] to be one of {", ".join(FILLS)}, found '
        f'{how!r}; name one of these.'
      )


def check_columns(
  name: str,
  columns: Mapping[str, recipe.Column],
  learned: Mapping[str, recipe.Label],
  fill: Mapping[str, str],
) -> None:
  """Raises unless filled columns are numbers; ids need one of their own."""
  for key, how in fill.items():
    column = columns[key]
    if key in learned or column.kind not in ('integer', 'float', 'vector'):
      what = 'a label' if key in learned else f'of kind {column.kind}'
      raise ValueError(
        f'{name}: expected a number among the inputs for data.fill[{key!r}], '
        f'found that it is {what}, whose missing values have a meaning of '
        'their own; leave it out of data.fill.'
      )
    if how == 'category' and column.kind != 'integer':
      raise ValueError(
        f"{name}: expected whole numbers for data.fill[{key!r}] = 'category', "
        f"found a {column.kind}; set it to 'mean' or 'indicator'."
      )


def next_id(splits: Iterable[tables.Table], feature: str) -> int:
  """One above the largest whole number of a feature in all splits."""
  largest = -1
  for table in splits:
    if table.own and table.fields[feature].kind == 'integer':
      values = table.read(range(table.size), [feature])[feature]
      largest = max(largest, int(values.max()))
  return largest + 1

"""Data of which only sizes and shapes are known: enough to predict."""

from collections.abc import Collection, Mapping
import dataclasses

import numpy as np

from mtl_jax.data import encoding, info as info_lib, loading, sources
from mtl_jax.data.columns import recipe

INTEGERS = (
  'class', 'category', 'text', 'set', 'sequence', 'multilabel', 'multihot',
  'group',
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Blank:
  """Stands for a split that is not at hand: its size and shapes, all zeros.

  Attributes:
    size: of the split.
    arrays: ``{key: [0, ...]}``, for shapes and dtypes.
  """

  size: int
  arrays: Mapping[str, np.ndarray]
  name: str = 'blank'
  counts: recipe.Counts = dataclasses.field(default_factory=recipe.Counts)

  def __len__(self) -> int:
    return self.size

  def take(
    self, rows: np.ndarray, keys: Collection[str] | None = None
  ) -> sources.Batch:
    """See `Source`."""
    return {
      key: np.zeros((len(rows), *values.shape[1:]), values.dtype)
      for key, values in self.arrays.items()
      if keys is None or key in keys
    }


def blank(encoder: encoding.Encoder, info: info_lib.DataInfo) -> loading.Data:
  """Data of which only what a checkpoint has is known: enough to predict.

  Args:
    encoder: of the run.
    info: facts of its data.
  """
  arrays = {}
  for key, shape in info.shapes.items():
    column = encoder.columns.get(key)
    whole = column is not None and (
      column.kind in INTEGERS
      or (column.kind == 'integer' and not column.mean)
      or (column.kind == 'list' and column.by_value and not column.mean)
    )
    dtype = np.int32 if whole else np.float32
    arrays[key] = np.zeros((0, *shape), dtype)
  return loading.Data(
    {split: Blank(size, arrays) for split, size in info.sizes.items()},
    encoder,
    info,
  )

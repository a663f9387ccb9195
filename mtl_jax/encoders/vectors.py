"""Vectors of items, encoded once and kept on disk."""

from collections.abc import Sequence
import hashlib
import os
import pathlib
import sys
import tempfile
from typing import Any, NamedTuple, Protocol

import numpy as np
import rich.console
import rich.progress

CHUNK = 128  # items encoded between two files: what a kill costs at most


class ItemEncoder(Protocol):
  """Maker of vectors from texts or pictures."""

  features: int

  @property
  def fingerprint(self) -> str:
    """A digest of all that a vector depends on besides the item."""
    ...

  def encode(self, items: Sequence[Any], /) -> np.ndarray:
    """Vectors ``[N, D]`` of items."""
    ...


class Vectors(NamedTuple):
  """Vectors of items.

  Attributes:
    values: ``[N, D]``, 0 where there is none.
    mask: ``[N]``, whether the item has one.
  """

  values: np.ndarray
  mask: np.ndarray


def encode_items(
  encoder: ItemEncoder,
  items: Sequence[Any],
  cache: str | os.PathLike,
  *,
  what: str = 'items',
  names: Sequence[str] | None = None,
) -> Vectors:
  """Vectors of items, of which only new ones are encoded.

  A vector is kept under a digest of the encoder (weights, pooling and what else
  it depends on) and of the item's own content: what was changed is encoded
  again, what only moved is not. Every `CHUNK` items a file is written, so that
  a run that was killed goes on where it was.

  Args:
    encoder: of texts, or of pictures; where it says ``reads_files``, an item
      that is a string is a path.
    items: texts; or pictures, as bytes of a file, paths or arrays. None has no
      vector.
    cache: folder of the files.
    what: the items are called in the progress bar.
    names: of the items, for errors.

  Returns:
    Vectors in the order of the items, and which items have one.

  Raises:
    ValueError: if an item cannot be encoded.

  Example:
    >>> class Lengths:
    ...   features, fingerprint = 1, 'lengths'
    ...   def encode(self, items):
    ...     return np.array([[len(item)] for item in items], np.float32)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...   encode_items(Lengths(), ['a', None, 'abc'], folder).values.tolist()
    [[1.0], [0.0], [3.0]]
  """
  folder = pathlib.Path(cache) / encoder.fingerprint[:32]
  if getattr(encoder, 'reads_files', False):
    items = [pathlib.Path(x) if isinstance(x, str) else x for x in items]
  keys = [_key(item) for item in items]
  known = _load(folder, encoder.features)
  new: dict[bytes, int] = {}
  for row, key in enumerate(keys):
    if key is not None and key not in known:
      new.setdefault(key, row)
  if new:
    folder.mkdir(parents=True, exist_ok=True)
    told = f'Encoding {len(new):,} of {len(items):,} {what}'
    print(f'{told}, once, into {folder}.', file=sys.stderr)
    _say_cut(encoder, [items[row] for row in new.values()], what)
    _encode(encoder, items, new, folder, known, names)
  values = np.zeros((len(items), encoder.features), np.float32)
  for row, key in enumerate(keys):
    if key is not None:
      values[row] = known[key]
  return Vectors(values, np.array([key is not None for key in keys], bool))


def _say_cut(encoder, items, what) -> None:
  """Prints how many items an encoder reads the beginning of only."""
  number = encoder.count_cut(items) if hasattr(encoder, 'count_cut') else 0
  if number:
    print(
      f'{number:,} of these {what} are longer than {encoder.max_length} '
      'tokens, of which the encoder reads the first.',
      file=sys.stderr,
    )


def _encode(encoder, items, new, folder, known, names):
  todo = list(new.items())
  console = rich.console.Console(file=sys.stderr)
  with rich.progress.Progress(
    *rich.progress.Progress.get_default_columns(),
    rich.progress.MofNCompleteColumn(),
    console=console,
    disable=not console.is_terminal,
  ) as progress:
    bar = progress.add_task('Encoding', total=len(todo))
    for start in range(0, len(todo), CHUNK):
      part = todo[start : start + CHUNK]
      found = _encode_part(encoder, items, [row for _, row in part], names)
      if found.shape != (len(part), encoder.features) or not np.all(
        np.isfinite(found)
      ):
        raise ValueError(
          f'Expected finite vectors of shape {(len(part), encoder.features)} '
          f'of an encoder, found shape {found.shape}; check its weights.'
        )
      _save(folder, [key for key, _ in part], found)
      known.update({key: x for (key, _), x in zip(part, found, strict=True)})
      progress.advance(bar, len(part))


def _encode_part(encoder, items, rows, names):
  try:
    return np.asarray(encoder.encode([items[row] for row in rows]), np.float32)
  except ValueError:
    # Once more, to say which one it was.
    for row in rows:
      try:
        encoder.encode([items[row]])
      except ValueError as error:
        name = names[row] if names else f'number {row}'
        raise ValueError(f'Item {name}: {error}') from error
    raise


def digest_items(encoder: Any, items: Sequence[Any]) -> str:
  """A digest of what vectors are made of: an encoder and items.

  Args:
    encoder: as of `encode_items`.
    items: likewise; of a path the content of its file counts.
  """
  if getattr(encoder, 'reads_files', False):
    items = [pathlib.Path(x) if isinstance(x, str) else x for x in items]
  whole = hashlib.sha256(encoder.fingerprint.encode())
  for item in items:
    whole.update(_key(item) or bytes(32))
  return whole.hexdigest()


def _key(item) -> bytes | None:
  """A digest of an item's content; of a path, that of the file."""
  if item is None:
    return None
  if isinstance(item, str):
    return hashlib.sha256(b'text ' + item.encode()).digest()
  if isinstance(item, np.ndarray):
    told = f'array {item.shape} {item.dtype} '.encode()
    return hashlib.sha256(told + item.tobytes()).digest()
  content = item if isinstance(item, bytes) else pathlib.Path(item).read_bytes()
  return hashlib.sha256(b'file ' + content).digest()


def _load(folder, width) -> dict[bytes, np.ndarray]:
  known: dict[bytes, np.ndarray] = {}
  for file in sorted(folder.glob('*.npz')):
    with np.load(file, allow_pickle=False) as arrays:
      keys, values = arrays['keys'], arrays['values']
    if keys.shape != (len(values), 32) or values.shape[1:] != (width,):
      raise ValueError(
        f'Expected keys [N, 32] and vectors [N, {width}] in {file}, found '
        f'{keys.shape} and {values.shape}; delete it, so that it is made again.'
      )
    known.update({k.tobytes(): x for k, x in zip(keys, values, strict=True)})
  return known


def _save(folder, keys, values):
  digest = hashlib.sha256(b''.join(keys)).hexdigest()
  table = np.frombuffer(b''.join(keys), np.uint8).reshape(-1, 32)
  # Under its name only when it is whole.
  with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
    np.savez(file, keys=table, values=values)
  os.replace(file.name, folder / f'{digest[:32]}.npz')


def to_file(vectors: np.ndarray, folder: str | os.PathLike) -> str:
  """The path of a file ``.npy`` with the vectors, named by their digest.

  So a config can name them, and other vectors are another file.

  Args:
    vectors: ``[N, D]``.
    folder: where it is written, if it is not there.
  """
  vectors = np.ascontiguousarray(vectors, np.float32)
  told = f'{vectors.shape} '.encode()
  digest = hashlib.sha256(told + vectors.tobytes()).hexdigest()
  path = pathlib.Path(folder) / f'{digest[:32]}.npy'
  if not path.is_file():
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
      np.save(file, vectors)
    os.replace(file.name, path)
  return str(path)


class Whitening(NamedTuple):
  r"""An affine map after which training items have covariance :math:`I`.

  .. math:: y = (x - \mu) \, U \, (\Lambda + \epsilon)^{-1/2}

  with the leading eigenvectors U and eigenvalues of the covariance.

  Attributes:
    mean: :math:`\mu` ``[D]``.
    matrix: ``[D, K]``.

  References:
    Su et al., Whitening sentence representations for better semantics and
    faster retrieval, 2021. Fitted on all items it would look at test items.
  """

  mean: np.ndarray
  matrix: np.ndarray

  def __call__(self, vectors: np.ndarray) -> np.ndarray:
    """``[N, D] -> [N, K]``."""
    return ((vectors - self.mean) @ self.matrix).astype(np.float32)


def fit_whitening(
  vectors: np.ndarray, width: int | None = None, epsilon: float = 1e-6
) -> Whitening:
  """A whitening of the training items.

  Args:
    vectors: of training items only ``[N, D]``.
    width: K, how many directions are kept; by default all that the items span:
      ``min(D, N - 1)``.
    epsilon: share of the largest eigenvalue that is added to each.

  Raises:
    ValueError: if there are fewer than two items, or the width is too large.

  Example:
    >>> x = np.random.default_rng(0).normal(size=(9, 3)) @ np.diag([1., 5., 9.])
    >>> np.cov(fit_whitening(x, epsilon=0)(x).T).round(3).tolist() == np.eye(
    ...   3
    ... ).tolist()
    True
  """
  x = np.asarray(vectors, np.float64)
  most = min(x.shape[1], len(x) - 1)
  width = most if width is None else width
  if not 1 <= width <= most:
    raise ValueError(
      f'Expected a width of 1 to {most} from {len(x)} training vectors of '
      f'{x.shape[1]} numbers, found {width}; set another one.'
    )
  mean = x.mean(0)
  values, directions = np.linalg.eigh(
    np.cov((x - mean).T).reshape(x.shape[1], -1)
  )
  values, directions = values[::-1][:width], directions[:, ::-1][:, :width]
  scale = np.sqrt(np.maximum(values, 0) + epsilon * values[0])
  return Whitening(mean, directions / np.maximum(scale, 1e-30))

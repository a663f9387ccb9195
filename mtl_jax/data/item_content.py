"""Texts, pictures and frames of items as vectors with masks, beside labels."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import os
import pathlib
from typing import Any

import numpy as np

from mtl_jax import encoders
from mtl_jax.data import cells, files, packages, tables

MODALITIES = ('text', 'picture', 'frames')
SUFFIXES = ('.bmp', '.gif', '.jpeg', '.jpg', '.png', '.webp')


@dataclasses.dataclass(frozen=True)
class Content:
  """Content of N items; a modality that is not given is left out.

  Attributes:
    names: of the items, for errors.
    text: texts, None or '' = none.
    picture: files, or their bytes; None = none.
    frames: per item its frames in order, each as a picture; none = ().
  """

  names: Sequence[str]
  text: Sequence[str | None] | None = None
  picture: Sequence[Any] | None = None
  frames: Sequence[Sequence[Any]] | None = None


def text_encoder(name: str) -> encoders.TextEncoder:
  """The encoder of texts: 'minilm', or the folder of a model."""
  folder = packages.minilm_folder() if name == 'minilm' else name
  return encoders.TextEncoder(folder)


def picture_encoder(name: str) -> encoders.PictureEncoder:
  """The encoder of pictures: 'efficientnet', or a file of its weights."""
  file = packages.efficientnet_file() if name == 'efficientnet' else name
  return encoders.PictureEncoder(file)


def vectors_of(
  content: Content,
  *,
  texts: str = 'minilm',
  pictures: str = 'efficientnet',
  frames: int = 8,
  cache: str | os.PathLike | None = None,
) -> dict[str, np.ndarray]:
  """Arrays of the modalities that the items have, encoded once.

  Args:
    content: of N items.
    texts: see `text_encoder`.
    pictures: see `picture_encoder`; frames are pictures too.
    frames: F, taken at equal distances of an item's frames.
    cache: folder of vectors; by default one of `packages.cache_dir`.

  Returns:
    ``text`` ``[N, D]`` and ``text_mask`` ``[N, 1]``, the same of ``picture``,
    and ``frames`` ``[N, F, D']`` with ``frame_mask`` ``[N, F]``; masks are 1
    where there is something, and vectors 0 elsewhere.

  Raises:
    ValueError: if a text or picture cannot be read.
  """
  cache = cache or packages.cache_dir() / 'vectors'
  made: dict[str, np.ndarray] = {}

  def encode(encoder, items, what, names):
    return encoders.encode_items(encoder, items, cache, what=what, names=names)

  if content.text is not None:
    items = [text if text and text.strip() else None for text in content.text]
    some = encode(text_encoder(texts), items, 'texts', content.names)
    made['text'], made['text_mask'] = some.values, _column(some.mask)
  if content.picture is not None:
    some = encode(
      picture_encoder(pictures), content.picture, 'pictures', content.names
    )
    made['picture'], made['picture_mask'] = some.values, _column(some.mask)
  if content.frames is not None:
    items, names = [], []
    for name, own in zip(content.names, content.frames, strict=True):
      items += spread(own, frames)
      names += [f'{name}, frame {i + 1}' for i in range(frames)]
    some = encode(picture_encoder(pictures), items, 'frames', names)
    shape = (len(content.names), frames)
    made['frames'] = some.values.reshape(*shape, -1)
    made['frame_mask'] = some.mask.reshape(shape).astype(np.float32)
  return made


def _column(mask):
  return mask[:, None].astype(np.float32)


def rows_of(content: Content, **options) -> list[dict[str, np.ndarray]]:
  """New items as rows for ``predict`` of a trained model.

  Args:
    content: of N items. A modality that the model reads and an item lacks is
      None there, and not left out.
    **options: of `vectors_of`, as in training.

  Returns:
    ``{'text': [D], 'text_mask': [1], ...}`` of each.
  """
  arrays = vectors_of(content, **options)
  return [
    {name: array[row] for name, array in arrays.items()}
    for row in range(len(content.names))
  ]


def spread(frames: Sequence[Any], count: int) -> list[Any]:
  """``count`` frames at equal distances; of fewer all, and None behind.

  Example:
    >>> spread('abcdefghi', 3), spread('ab', 3)
    (['a', 'e', 'i'], ['a', 'b', None])
  """
  if len(frames) <= count:
    return [*frames, *[None] * (count - len(frames))]
  picked = np.linspace(0, len(frames) - 1, count).round().astype(int)
  return [frames[i] for i in picked]


def with_arrays(
  table: tables.Table, arrays: Mapping[str, np.ndarray]
) -> tables.Table:
  """A table with arrays ``[N, ...]`` of floats as further features.

  Raises:
    ValueError: if the table has a feature of such a name.
  """
  twice = sorted(table.fields.keys() & arrays.keys())
  if twice:
    raise ValueError(
      f'{table.name}: expected no column {twice[0]!r}, which is the name of '
      'vectors that are made of the items, found one; rename the column.'
    )
  fields = {
    name: tables.Field('float', array.shape[1:])
    for name, array in arrays.items()
  }

  def read(rows, features):
    features = list(features)
    raw = table.read(rows, [f for f in features if f not in arrays])
    own = {f: arrays[f][np.asarray(rows, int)] for f in features if f in arrays}
    return {**raw, **own}

  return dataclasses.replace(
    table, fields={**table.fields, **fields}, read=read
  )


def load(
  *,
  files: Mapping[str, str],
  columns: Mapping[str, str],
  text: str | Sequence[str] = (),
  picture: str = '',
  frames: str = '',
  folder: str = '',
  frame_count: int = 8,
  texts: str = 'minilm',
  pictures: str = 'efficientnet',
) -> dict[str, tables.Table]:
  """A user's own items: a CSV or JSONL file with texts and paths.

  It is for ``config.data.name = 'mtl_jax.data.item_content.load'``, with these
  as ``config.data.settings``. Any cell of text, picture or frames may be empty.

  Args:
    files: ``{'train': 'items.csv[:60%]', ...}``, as of `files.open_files`.
    columns: ``{column: kind}`` of labels and other inputs, as of files.
    text: column, or columns that are joined, of texts.
    picture: column of paths of pictures.
    frames: column of folders, whose pictures in order of their names are
      frames.
    folder: that paths are relative to; by default the current one.
    frame_count: F.
    texts: see `text_encoder`.
    pictures: see `picture_encoder`.

  Returns:
    Tables by split, with the arrays of `vectors_of`.

  Raises:
    ValueError: for a path that leads nowhere, with its row.
  """
  joined = [text] if isinstance(text, str) else list(text)
  joined = [column for column in joined if column]
  read_by_us = {
    column: 'string' for column in (*joined, picture, frames) if column
  }
  if not read_by_us:
    raise ValueError(
      'Expected a column of texts, pictures or frames, found none named; set '
      'text, picture or frames in data.settings.'
    )
  opened = _open(files, {**columns, **read_by_us})
  made = {}
  for split, table in opened.items():
    raw = table.read(range(table.size), list(read_by_us))
    content = Content(
      [f'in row {row + 1} of {table.name}' for row in range(table.size)],
      text=_join([raw[column] for column in joined]) if joined else None,
      picture=_paths(raw, picture, folder, table.name, _file),
      frames=_paths(raw, frames, folder, table.name, _folder),
    )
    arrays = vectors_of(
      content, texts=texts, pictures=pictures, frames=frame_count
    )
    made[split] = with_arrays(table, arrays)
  return made


def _open(splits, columns):
  return files.open_files(splits, columns, cells.DEFAULT)


def _join(columns):
  rows = zip(*columns, strict=True)
  return ['. '.join(cell for cell in row if cell) or None for row in rows]


def _paths(raw, column, folder, name, find: Callable):
  if not column:
    return None
  made = []
  for row, cell in enumerate(raw[column]):
    try:
      made.append(find(pathlib.Path(folder, cell)) if cell else find(None))
    except OSError as error:
      raise ValueError(
        f'{name}, {column!r}, row {row + 1}: {error}; correct the path, or '
        'leave the cell empty.'
      ) from error
  return made


def _file(path):
  if path is not None and not path.is_file():
    raise FileNotFoundError(f'expected a file {path}, found none')
  return path


def _folder(path):
  if path is None:
    return ()
  frames = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
  if not frames:
    raise FileNotFoundError(f'expected pictures in {path}, found none')
  return frames

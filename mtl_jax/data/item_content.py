"""Texts, pictures and frames of items as vectors with masks, beside labels."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import inspect
import os
import pathlib
from typing import Any

import numpy as np

from mtl_jax import encoders, names as names_lib
from mtl_jax.data import cells, files, packages, tables

MASKS = {
  'text': 'text_mask',
  'picture': 'picture_mask',
  'frames': 'frame_mask',
}
LOADER = 'mtl_jax.data.item_content.load'
ENCODERS = ('texts', 'pictures')
EMOJI = 'mtl_jax.data.emoji.load'
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


def text_encoder(name: str) -> encoders.TextEncoder | encoders.WordEncoder:
  """The encoder of texts: 'minilm', 'words', or the folder of a model."""
  if name == 'words':
    return encoders.WordEncoder()
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


@dataclasses.dataclass(frozen=True)
class ContentColumns:
  """Columns of a file that hold content, and what encodes them.

  Attributes:
    text: columns of texts, which are joined.
    picture: column of paths of pictures; '' = none.
    frames: column of folders, whose pictures in order of their names are
      frames; '' = none.
    folder: that paths are relative to; by default the current one.
    frame_count: F.
    texts: see `text_encoder`.
    pictures: see `picture_encoder`.
  """

  text: tuple[str, ...] = ()
  picture: str = ''
  frames: str = ''
  folder: str = ''
  frame_count: int = 8
  texts: str = 'minilm'
  pictures: str = 'efficientnet'

  @classmethod
  def of(
    cls, text: str | Sequence[str] = (), **options: Any
  ) -> 'ContentColumns':
    """Columns by the settings of `load`, where ``text`` may be one column.

    Raises:
      ValueError: if none is named.
    """
    joined = [text] if isinstance(text, str) else text
    own = cls(tuple(column for column in joined if column), **options)
    if not own.kinds:
      raise ValueError(
        'Expected a column of texts, pictures or frames, found none named; set '
        'text, picture or frames in data.settings.'
      )
    return own

  @property
  def kinds(self) -> dict[str, str]:
    """Types by which a file is read: ``{column: 'string'}``."""
    names = (*self.text, self.picture, self.frames)
    return {column: 'string' for column in names if column}

  @property
  def made(self) -> set[str]:
    """Names of the arrays."""
    made = {'text': self.text, 'picture': self.picture, 'frames': self.frames}
    return {
      name
      for key, column in made.items()
      if column
      for name in (key, MASKS[key])
    }

  def arrays(
    self, raw: Mapping[str, Any], count: int, name: str
  ) -> dict[str, np.ndarray]:
    """Arrays of `vectors_of` of N rows; a column that is absent is empty.

    Args:
      raw: ``{column: N strings}``.
      count: N.
      name: of the file, for errors.

    Raises:
      ValueError: for a path that leads nowhere, with its row.
    """
    raw = {c: raw[c] if c in raw else [None] * count for c in self.kinds}
    content = Content(
      [f'in row {row + 1} of {name}' for row in range(count)],
      text=_join([raw[column] for column in self.text]) if self.text else None,
      picture=_paths(raw, self.picture, self.folder, name, _file),
      frames=_paths(raw, self.frames, self.folder, name, _folder),
    )
    return vectors_of(
      content,
      texts=self.texts,
      pictures=self.pictures,
      frames=self.frame_count,
    )


def load(
  *,
  files: Mapping[str, str],
  columns: Mapping[str, str],
  reading: cells.Reading = cells.DEFAULT,
  **content: Any,
) -> dict[str, tables.Table]:
  """A user's own items: a CSV or JSONL file with texts and paths.

  It is for ``config.data.name = 'mtl_jax.data.item_content.load'``, with these
  as ``config.data.settings``. Any cell of text, picture or frames may be empty.

  Args:
    files: ``{'train': 'items.csv[:60%]', ...}``, as of `files.open_files`.
    columns: ``{column: kind}`` of labels and other inputs, as of files.
    reading: writing of the cells; of a config, what ``data.separator`` and the
      like say.
    **content: attributes of `ContentColumns`: the columns ``text``,
      ``picture`` and ``frames``, and how they become vectors.

  Returns:
    Tables by split, with the arrays of `vectors_of`.

  Raises:
    ValueError: for a path that leads nowhere, with its row, and for settings
      that are none.
  """
  options = ('files', 'columns', *content)
  names_lib.check_options(f'data set {LOADER!r}', load, options)
  own = ContentColumns.of(**content)
  made = {}
  for split, table in _open(files, {**columns, **own.kinds}, reading).items():
    raw = table.read(range(table.size), list(own.kinds))
    made[split] = with_arrays(table, own.arrays(raw, table.size, table.name))
  return made


def _signature() -> inspect.Signature:
  """Parameters of `load`, those of its content one by one."""
  own = inspect.signature(load).parameters.values()
  content = inspect.signature(ContentColumns).parameters.values()
  return inspect.Signature(
    [
      *(one for one in own if one.kind is one.KEYWORD_ONLY),
      *(one.replace(kind=one.KEYWORD_ONLY) for one in content),
    ]
  )


# By this the options of a config are checked, and hints are given.
load.__signature__ = _signature()  # pyrefly: ignore[missing-attribute]


def columns_of(
  loader: str, settings: Mapping[str, Any]
) -> ContentColumns | None:
  """Columns that stand for the vectors of a data set in a file to predict.

  Args:
    loader: ``data.name``.
    settings: ``data.settings``.

  Returns:
    Those of `load`, or of emoji ``text`` (name and tags), ``picture`` (path)
    and ``frames`` (folder); None for other data.
  """
  if loader == LOADER:
    kept = {field.name for field in dataclasses.fields(ContentColumns)}
    return ContentColumns.of(**{k: x for k, x in settings.items() if k in kept})
  if loader == EMOJI:
    frames = settings.get('frames', 0)
    encoders_of = {k: settings[k] for k in ENCODERS if k in settings}
    return ContentColumns(
      ('text',),
      'picture',
      'frames' if frames else '',
      frame_count=frames,
      **encoders_of,
    )
  return None


def _open(splits, columns, reading):
  return files.open_files(splits, columns, reading)


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

"""Files that are whole or absent, and a sentence when the disk is full."""

from collections.abc import Iterator
import contextlib
import errno
import json
import math
import os
import pathlib
from typing import Any

Path = str | os.PathLike[str]


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
  """Turns 'no space left' into a sentence that says what to do.

  Raises:
    OSError: with that sentence.
  """
  try:
    yield
  except OSError as error:
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
      raise
    raise OSError(
      f'Expected space to write {os.fspath(path)}, found no space left on the '
      'device; free some space and run the same command again to resume.'
    ) from error


def write_atomically(path: Path, content: str | bytes) -> None:
  """Writes beside the path, then renames: a reader never sees a half.

  Raises:
    OSError: if there is no space left; what stood there before is kept.
  """
  path = pathlib.Path(path)
  draft = path.with_name(path.name + '.tmp')
  try:
    if isinstance(content, str):
      content = content.encode('utf-8')
    with writing(path), open(draft, 'wb') as file:
      file.write(content)
      file.flush()
      os.fsync(file.fileno())
    os.replace(draft, path)
  finally:
    draft.unlink(missing_ok=True)


def plain(value: Any) -> Any:
  """The value as JSON can hold it: lists for arrays, None for NaN.

  Example:
    >>> plain({'auc': float('nan'), 'steps': (1, 2)})
    {'auc': None, 'steps': [1, 2]}
  """
  if isinstance(value, dict) or hasattr(value, 'items'):
    return {str(key): plain(item) for key, item in value.items()}
  if hasattr(value, 'tolist'):  # arrays and their scalars, NumPy's and JAX's
    return plain(value.tolist())
  if isinstance(value, (list, tuple, set, frozenset)):
    return [plain(item) for item in value]
  if isinstance(value, float) and not math.isfinite(value):
    return None
  if value is None or isinstance(value, (str, int, float, bool)):
    return value
  return str(value)


def write_json(path: Path, content: Any) -> None:
  """Writes `plain` content as indented JSON, atomically."""
  text = json.dumps(plain(content), indent=2, ensure_ascii=False)
  write_atomically(path, text + '\n')


def read_json(path: Path) -> Any:
  """Reads JSON.

  Raises:
    ValueError: if the file is missing or damaged, in one sentence.
  """
  try:
    return json.loads(pathlib.Path(path).read_text(encoding='utf-8'))
  except (OSError, ValueError) as error:
    raise ValueError(
      f'Expected JSON in {os.fspath(path)}, found {error}; check the work '
      'directory, or run the experiment again.'
    ) from error

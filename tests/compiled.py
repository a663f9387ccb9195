"""A folder of compiled programs for each process that runs tests.

JAX writes an entry of its compilation cache in place: another process, or a
later one after a kill, may read half of it. So each process fills a folder of
its own, which starts with links to all that runs before it left, and a run that
comes to its end links what it added: whole, or not at all.
"""

import contextlib
import os
import pathlib
import shutil
import tempfile
import time

_PREFIX = 'running_'
_DAY = 24 * 60 * 60  # seconds


def own_folder(shared):
  """A new folder inside of ``shared``, with links to all that lies there."""
  shared = pathlib.Path(shared)
  shared.mkdir(parents=True, exist_ok=True)
  folder = pathlib.Path(tempfile.mkdtemp(prefix=_PREFIX, dir=shared))
  for path in shared.iterdir():
    # Another process may remove what it listed.
    with contextlib.suppress(FileNotFoundError):
      if path.is_file():
        os.link(path, folder / path.name)
      elif path.stat().st_mtime < time.time() - _DAY:
        shutil.rmtree(path, ignore_errors=True)  # That run was killed.
  return folder


def give_back(folder, complete):
  """Links what is new into the shared folder, and removes the own one."""
  if complete:
    for path in folder.iterdir():
      target = folder.parent / path.name
      # A folder is that of a subprocess, or of a worker, that was killed.
      if path.is_file() and not target.exists():
        # Another process may be faster.
        with contextlib.suppress(FileExistsError):
          os.link(path, target)
  shutil.rmtree(folder, ignore_errors=True)

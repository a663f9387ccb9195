"""The lock of a work directory: one process writes there at a time."""

from collections.abc import Iterator
import contextlib
import json
import os
import pathlib
import socket
import threading
import time
from typing import Any

LOCK = 'lock.json'
HEARTBEAT = 10.0  # seconds
STALE = 60.0  # seconds without a heartbeat


@contextlib.contextmanager
def held(folder: pathlib.Path) -> Iterator[None]:
  """Holds the lock of a directory, with a heartbeat from a thread.

  Raises:
    ValueError: if another process holds it.
  """
  file = folder / LOCK
  content = json.dumps(
    {
      'host': socket.gethostname(),
      'pid': os.getpid(),
      'started': _started(os.getpid()),
      'thread': threading.get_ident(),
    }
  )
  for attempt in range(2):
    try:
      with open(file, 'x', encoding='utf-8') as opened:
        opened.write(content)
      break
    except FileExistsError:
      holder = _content(file)
      if attempt or _alive(holder, file):
        raise ValueError(
          f'Expected to be the only process in {folder}, found '
          f'{_describe(holder)} that writes there; wait for its end, or choose '
          'another --workdir.'
        ) from None
      _release(file, holder)
  ended = threading.Event()

  def beat():
    while not ended.wait(HEARTBEAT):
      with contextlib.suppress(OSError):
        os.utime(file)

  thread = threading.Thread(target=beat, daemon=True)
  thread.start()
  try:
    yield
  finally:
    ended.set()
    thread.join()
    _release(file, content)


def _content(file: pathlib.Path) -> str:
  try:
    return file.read_text(encoding='utf-8')
  except (OSError, ValueError):
    return ''


def _release(file: pathlib.Path, content: str) -> None:
  """Removes a lock, unless another process has made its own since."""
  if _content(file) == content:
    file.unlink(missing_ok=True)


def _parsed(content: str) -> dict[str, Any]:
  try:
    return dict(json.loads(content))
  except (TypeError, ValueError):
    return {}


def _describe(content: str) -> str:
  holder = _parsed(content)
  if {'pid', 'host'} <= holder.keys():
    return f'process {holder["pid"]} on {holder["host"]}'
  return 'a process without a name yet'


def _started(pid: int) -> int | None:
  """Start of a running process, in ticks since boot.

  Args:
    pid: its number, which another process may have had before it.

  Returns:
    Field 22 of ``/proc/PID/stat``; None without that file, or if the process
    has ended and is only waited for.
  """
  try:
    text = pathlib.Path(f'/proc/{pid}/stat').read_text(encoding='utf-8')
  except (OSError, ValueError):
    return None
  fields = text.rpartition(')')[2].split()  # the name may hold spaces
  return None if fields[0] in 'ZX' else int(fields[19])


def _alive(content: str, file: pathlib.Path) -> bool:
  """Whether the process that holds a lock still runs, as far as can be told.

  On this host by its number and start; elsewhere, where the start is not known,
  and while the lock is being written, by its heartbeat.
  """
  holder = _parsed(content)
  if holder.get('host') == socket.gethostname() and 'pid' in holder:
    pid, started = holder['pid'], holder.get('started')
    try:
      os.kill(pid, 0)
    except ProcessLookupError:
      return False
    except PermissionError:
      pass
    if started is not None and started != _started(pid):
      return False
    if pid == os.getpid():
      threads = {thread.ident for thread in threading.enumerate()}
      return holder.get('thread') in threads - {threading.get_ident()}
    if started is not None:
      return True
  with contextlib.suppress(OSError):
    return time.time() - file.stat().st_mtime < STALE
  return False

"""One library in a process of its own, asked for one measurement at a time.

`benchmarks/combinators.py` asks the libraries in turn, so that whatever else
the machine does meets all of them alike. A message is a line of JSON.
"""

import contextlib
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import time


class Late(Exception):
  """A call took longer than it may."""


@contextlib.contextmanager
def limit(seconds):
  """Raises `Late` in what runs longer: some loops have no end."""

  def stop(*unused):
    raise Late

  signal.signal(signal.SIGALRM, stop)
  signal.alarm(seconds)
  try:
    yield
  finally:
    signal.alarm(0)


def turn(call, timed=3):
  """Milliseconds of a call among others, as in training.

  The first is not counted: it finds the caches full of what another library
  had in them, and that library's threads still waiting for work.
  """
  call()
  times = []
  for _ in range(timed):
    start = time.perf_counter()
    call()
    times.append(1e3 * (time.perf_counter() - start))
  return statistics.median(times)


def serve(make, version, seconds):
  """Answers on the standard output until the input ends.

  A case makes a call, ``[number, first result]``; its number, the milliseconds
  of another call, the median of a turn; 'clear' lets go of all; null is what
  there is not, or fails.

  Args:
    make: case -> call, or None where the library has no such thing. A call
      returns when its work is done.
    version: what runs here.
    seconds: how long one call may take.
  """
  answers, sys.stdout = sys.stdout, sys.stderr  # libraries print
  calls = []

  def answer(message):
    if message == 'version':
      return version
    if message == 'clear':
      return calls.clear()
    if isinstance(message, int):
      return turn(calls[message])
    call = make(message)
    if call is None:
      return None
    result = call()  # Compiles.
    calls.append(call)
    return [len(calls) - 1, result]

  for line in sys.stdin:
    try:
      with limit(seconds):
        found = answer(json.loads(line))
    except Exception as error:
      print(f'  {type(error).__name__}: {error}'[:100], file=sys.stderr)
      found = None
    answers.write(json.dumps(found) + '\n')
    answers.flush()


class Library:
  """The other end."""

  def __init__(self, command):
    self._process = subprocess.Popen(
      command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    self.version = self.ask('version')

  def ask(self, message):
    """Sends a message, and waits for the answer."""
    assert self._process.stdin and self._process.stdout
    self._process.stdin.write(json.dumps(message) + '\n')
    self._process.stdin.flush()
    return json.loads(self._process.stdout.readline())

  def make(self, case):
    """Makes a call: its first result, and how to time it; None if it fails."""
    found = self.ask(case)
    if found is None:
      return None
    number, result = found
    return result, lambda: self.ask(number)

  def close(self):
    """Ends the process."""
    assert self._process.stdin
    self._process.stdin.close()
    self._process.wait()


def interleaved(timers, seconds, rounds):
  """Least milliseconds of each, in turn, so long as it takes or so often.

  The least: what else a shared machine does only adds, and not to all alike.

  Args:
    timers: ``{name: () -> milliseconds or None}``.
    seconds: after which no round begins, but the first three.
    rounds: at most.
  """
  times = {name: [] for name in timers}
  start = time.perf_counter()
  for i in range(rounds):
    if i >= 3 and time.perf_counter() - start > seconds:
      break
    for name, timer in timers.items():
      spent = timer()
      if spent is not None:
        times[name].append(spent)
  return {name: min(x) for name, x in times.items() if x}


def busy_cores(seconds=0.2):
  """How many cores are busy while this process waits; None if not known."""
  before = _busy()
  time.sleep(seconds)
  after = _busy()
  return None if None in (before, after) else (after - before) / seconds


def _busy():
  """Seconds of all cores since the machine started, without idle ones."""
  try:
    first = (
      pathlib.Path('/proc/stat').read_text(encoding='ascii').split('\n')[0]
    )
  except OSError:
    return None
  user, nice, system, _, _, *others = map(int, first.split()[1:9])
  return (user + nice + system + sum(others)) / os.sysconf('SC_CLK_TCK')

"""A progress bar in a terminal, and now and then a plain line elsewhere."""

from collections.abc import Callable, Mapping
import sys
import time
from typing import Self, TextIO

from mtl_jax.reporting import terminal

# A step may take a tenth of a millisecond; the eye needs ten frames a second.
FRAME_SECONDS = 0.1


class ProgressBar:
  """Step, speed and time left of a run; a context manager.

  Args:
    total: last step.
    start: step at which this process begins: resumed steps took no time.
    file: standard error by default. In a terminal it gets a bar.
    every: elsewhere, seconds between plain lines.
    clock: seconds, rising.

  Example:
    >>> with ProgressBar(2, file=sys.stdout, every=0) as progress:
    ...   progress.update(2, {'loss/genre': 0.25})
    step 2/2  100%  loss/genre 0.25
  """

  def __init__(
    self,
    total: int,
    start: int = 0,
    *,
    file: TextIO | None = None,
    every: float = 30.0,
    clock: Callable[[], float] = time.monotonic,
  ):
    file = sys.stderr if file is None else file
    self._total, self._file, self._clock = total, file, clock
    self._news = ''
    self._first: tuple[int, float] | None = None  # step and time
    self._shown = -float('inf') if every <= 0 else clock()
    self._bar = None
    self._every = every
    if file.isatty():
      self._every = FRAME_SECONDS
      self._bar = terminal.bar(file)
      self._row = self._bar.add_task('', total=total, completed=start, news='')

  def __enter__(self) -> Self:
    if self._bar is not None:
      self._bar.start()
    return self

  def __exit__(self, *unused_exc: object) -> None:
    if self._bar is not None:
      self._bar.stop()

  def update(
    self, step: int, scalars: Mapping[str, float] | None = None
  ) -> None:
    """Tells that the step is done; the losses among the scalars are shown."""
    now = self._clock()
    if scalars:
      self._news = describe(scalars)
    if self._first is None:
      # Steps are counted from the end of the first, which waits for the
      # compiler.
      self._first = (step, now)
    if now - self._shown < self._every and step < self._total:
      return
    self._shown = now
    speed = self._speed(step, now)
    if self._bar is None:
      self._line(step, speed)
    else:
      news = '  '.join(filter(None, (speed, self._news)))
      self._bar.update(self._row, completed=step, news=news)

  def _speed(self, step: int, now: float) -> str:
    assert self._first is not None
    done, seconds = step - self._first[0], now - self._first[1]
    if done <= 0 or seconds <= 0:
      return ''
    left = seconds / done * (self._total - step)
    return f'{done / seconds:.3g} steps/s  {duration(left)} left'

  def _line(self, step: int, speed: str) -> None:
    share = f'{step / max(self._total, 1):.0%}'
    parts = [f'step {step}/{self._total}', share, speed, self._news]
    print('  '.join(filter(None, parts)), file=self._file, flush=True)


def describe(scalars: Mapping[str, float]) -> str:
  """The losses, and the overall score, in a few words."""
  return '  '.join(
    f'{name} {value:.3g}'
    for name, value in scalars.items()
    if name.startswith('loss/') or name == 'overall'
  )


def duration(seconds: float) -> str:
  """Seconds as people say them.

  Example:
    >>> [duration(s) for s in (4.2, 75, 4020, 200_000)]
    ['4s', '1m 15s', '1h 07m', '2d 07h']
  """
  seconds = round(seconds)
  minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
  if days:
    return f'{days}d {hours % 24:02d}h'
  if hours:
    return f'{hours}h {minutes % 60:02d}m'
  return f'{minutes}m {seconds % 60:02d}s' if minutes else f'{seconds}s'

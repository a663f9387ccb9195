import io
import re

from mtl_jax.reporting import progress


class Clock:
  def __init__(self):
    self.now = 100.0

  def __call__(self):
    return self.now


class Terminal(io.StringIO):
  def isatty(self):
    return True


def run(file, steps=100, seconds=1.0, start=0, **kwargs):
  """Steps of one second each; the first one compiles for a minute."""
  clock = Clock()
  with progress.ProgressBar(
    steps, start, file=file, clock=clock, **kwargs
  ) as shown:
    clock.now += 60
    for step in range(start + 1, steps + 1):
      clock.now += seconds
      shown.update(step, {'loss/genre': 2.0 / step} if step % 10 == 0 else {})


def test_few_plain_lines_without_a_terminal():
  file = io.StringIO()
  run(file, every=30.0)
  assert file.getvalue().splitlines() == [
    'step 1/100  1%',
    'step 31/100  31%  1 steps/s  1m 09s left  loss/genre 0.0667',
    'step 61/100  61%  1 steps/s  39s left  loss/genre 0.0333',
    'step 91/100  91%  1 steps/s  9s left  loss/genre 0.0222',
    'step 100/100  100%  1 steps/s  0s left  loss/genre 0.02',
  ]


def test_resumed_steps_took_no_time():
  file = io.StringIO()
  run(file, start=80, seconds=0.5, every=5.0)
  assert file.getvalue().splitlines()[1:-1] == [
    'step 91/100  91%  2 steps/s  4s left  loss/genre 0.0222'
  ]


def test_a_bar_in_a_terminal(monkeypatch):
  monkeypatch.setenv('TERM', 'xterm')
  monkeypatch.setenv('COLUMNS', '100')
  file = Terminal()
  run(file)
  frames = re.split(r'[\r\n]', file.getvalue())
  last = [frame for frame in frames if '100/100' in frame][-1]
  assert '1 steps/s  0s left  loss/genre 0.02' in last


def test_only_losses_and_the_overall_score_are_news():
  text = progress.describe(
    {'loss/a': 0.51239, 'update_norm': 3.0, 'a/auc': 0.5, 'overall': 0.25}
  )
  assert text == 'loss/a 0.512  overall 0.25'

"""Feeds of runs: numbers of rows that lie on the device, or examples."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from mtl_jax import data
from mtl_jax.experiment import build
from mtl_jax.training import jaxprs, programs

ON_DEVICE = {'auto': None, 'always': True, 'never': False}
DEVICE_LIMIT = 2**30  # bytes of training data on a device, if 'auto'
HOST_LIMIT = 2**28  # bytes of examples that are sent at once


class Feeder:
  """The batches of each member by its own order of the data.

  Attributes:
    data: ``{stream: {name: [N, ...]}}`` on the host, of streams that are to be
      on the device; None if examples are sent instead.
  """

  def __init__(self, experiment: build.Experiment):
    self._streams = experiment.training_streams()
    self._draw = experiment.draw()
    self.data = None
    if on_device(experiment):
      self.data = {
        name: stream.source.take(np.arange(len(stream.source)))
        for name, stream in self._streams.items()
      }

  def longest(self, members: int) -> int | None:
    """The most steps whose examples may be sent at once; None = any."""
    if self.data is not None:
      return None
    example = sum(
      value.nbytes * stream.batch_size
      for stream in self._streams.values()
      for value in stream.source.take(np.zeros(1, int)).values()
    )
    return max(1, HOST_LIMIT // max(1, example * members))

  def orders(self, seeds: Sequence[int]) -> list[Any]:
    """``step -> {stream: rows}`` of each member."""
    return [
      data.train_rows(self._streams, seed=seed, draw=self._draw)
      for seed in seeds
    ]

  def feed(
    self, orders: Sequence[Any], start: int, length: int
  ) -> programs.Feed:
    """The rows of some steps, ``[P, length, B]``, or their examples.

    Args:
      orders: of the members, from `orders`.
      start: the first step.
      length: how many.
    """
    rows, present = {}, {}
    for name, stream in self._streams.items():
      shape = (len(orders), length, stream.batch_size)
      rows[name] = np.zeros(shape, np.int32)
      present[name] = np.zeros(shape[:2], np.float32)
    for p, order in enumerate(orders):
      for i in range(length):
        for name, drawn in order(start + i).items():
          present[name][p, i] = drawn is not None
          if drawn is None:
            drawn = data.idle_rows(self._streams[name])
          rows[name][p, i] = drawn
    if self.data is None:
      rows = {name: self._read(name, x) for name, x in rows.items()}
    return programs.Feed(rows, present)

  def _read(self, name, rows) -> Mapping[str, np.ndarray]:
    examples = self._streams[name].source.take(rows.reshape(-1))
    return {
      key: value.reshape(*rows.shape, *value.shape[1:])
      for key, value in examples.items()
    }


def stretches_pay(experiment: build.Experiment) -> bool:
  """Whether a run on one device takes many steps in one program."""
  return on_device(experiment) and not slow_in_loops(experiment)


def slow_in_loops(experiment: build.Experiment) -> bool:
  """Whether steps inside a program's loop, or of several members, are slow.

  Convolutions are, on the CPU; `data.on_device = 'always'` asks for them.
  """
  asked = {stream.on_device for stream in experiment.streams.values()}
  if jax.default_backend() != 'cpu' or asked == {'always'}:
    return False

  def evaluate():
    batch = experiment.example_batch()
    params, model_state = experiment.model.init(jax.random.key(0), batch)
    return experiment.make_eval_step()(params, model_state, batch)

  return jaxprs.convolves(evaluate)


def on_device(experiment: build.Experiment) -> bool:
  """Whether the training data of all streams are to lie on the device.

  Raises:
    ValueError: if a setting is not known.
  """
  return all(
    _on_device(experiment, name) for name in experiment.training_streams()
  )


def _on_device(experiment, name) -> bool:
  section = experiment.streams.get(name)
  chosen = section.on_device if section else 'auto'
  if chosen not in ON_DEVICE:
    raise ValueError(
      f'Expected on_device to be one of {", ".join(ON_DEVICE)}, found '
      f'{chosen!r}; set it in the data of stream {name!r}.'
    )
  if ON_DEVICE[chosen] is not None:
    return bool(ON_DEVICE[chosen])
  source = experiment.training_streams()[name].source
  one = source.take(np.zeros(1, int))
  return sum(v.nbytes for v in one.values()) * len(source) <= DEVICE_LIMIT

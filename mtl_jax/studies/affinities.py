"""Task grouping: affinities while all tasks train together, and the groups."""

from collections.abc import Sequence
import dataclasses

import jax
import numpy as np

from mtl_jax import data, evaluation
from mtl_jax.config import settings as settings_lib
from mtl_jax.evaluation import grouping
from mtl_jax.experiment import build
from mtl_jax.training import engine as engine_lib, lookahead as lookahead_lib

WAYS = ('lookahead', 'cosine')


@dataclasses.dataclass(frozen=True)
class Affinities:
  """Affinities between tasks, averaged over training.

  Attributes:
    tasks: K names.
    lookahead: ``[K, K]``, what a step for task i takes off the loss of j,
      relative.
    cosine: ``[K, K]`` of the task gradients.
    looks: steps that were looked at.
  """

  tasks: tuple[str, ...]
  lookahead: np.ndarray
  cosine: np.ndarray
  looks: int

  def groups(
    self, budget: int, way: str = 'lookahead', alone: float = 0.0
  ) -> list[list[str]]:
    """The best at most ``budget`` groups, for ``sharing.groups``.

    Args:
      budget: groups at most.
      way: by which affinity, of `WAYS`.
      alone: the score of a task alone, see `evaluation.grouping`.

    Raises:
      ValueError: for an unknown way.
    """
    if way not in WAYS:
      raise ValueError(
        f'Expected a way among {", ".join(WAYS)}, found {way!r}; name one.'
      )
    groups, _ = grouping.best_groups(getattr(self, way), budget, alone)
    return [[self.tasks[k] for k in group] for group in groups]


def measure(
  settings: settings_lib.Settings,
  *,
  every: int = 10,
  rate: float = 0.01,
  seeds: Sequence[int] = (0,),
  sources: build.Sources | None = None,
) -> Affinities:
  """Trains all tasks together, and looks ahead in every ``every``-th step.

  Nothing is evaluated: neither validation nor test split is looked at.

  Args:
    settings: of the run, with whatever method and sharing.
    every: steps between two looks, each of which costs K + 1 forward and K
      backward passes.
    rate: of the step that is looked at.
    seeds: of the runs whose looks are averaged.
    sources: where data are read, or are at hand already.

  Returns:
    The means over looks and seeds; NaN where a pair was never seen together.

  Raises:
    ValueError: for a config that does not fit together, or no look.

  References:
    Fifty et al., Efficiently identifying task groupings for multi-task
    learning, NeurIPS 2021.
  """
  if every < 1 or not seeds:
    raise ValueError(
      f'Expected every >= 1 and a seed, found {every} and {list(seeds)}; set '
      'them so.'
    )
  experiment = build.build(
    settings_lib.with_values(settings, {'seed': seeds[0]}), sources=sources
  )
  step = jax.jit(experiment.make_step(), donate_argnums=0)
  engine = engine_lib.Engine(
    experiment.model, experiment.tasks, experiment.frozen
  )
  look = lookahead_lib.make_lookahead(engine, rate)
  look = jax.jit(experiment.counted(look))
  ahead, cosines = [], []
  for seed in seeds:
    state = jax.jit(experiment.first_state)(seed)
    batches = data.train_iterator(
      experiment.training_streams(),
      seed=seed,
      prefetch=0,
      draw=experiment.draw(),
    )
    for number in range(experiment.plan.steps):
      batch = next(batches)
      if number % every == 0:
        measured = jax.device_get(look(state, batch))
        ahead.append(np.asarray(measured['affinity'], np.float64))
        cosines.append(
          evaluation.cosines(measured['gramian'], measured['present'])
        )
      state, _ = step(state, batch)
  return Affinities(
    experiment.task_names, _mean(ahead), _mean(cosines), len(ahead)
  )


def _mean(matrices):
  """Over what is defined; NaN where nothing is."""
  stacked = np.stack(matrices)
  known = ~np.isnan(stacked)
  number = known.sum(0)
  total = np.where(known, stacked, 0).sum(0)
  return np.where(number > 0, total / np.maximum(number, 1), np.nan)

"""What many runs and a comparison of methods may set."""

from collections.abc import Mapping
import dataclasses
from typing import Any

Spec = Mapping[str, Any]


def _empty():
  return dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PopulationSettings:
  """Many runs of one config as one program: seeds, and settings that differ.

  Attributes:
    seeds: runs of each point of the sweep, with the seeds ``seed``, ``seed +
      1``, ...; 0 is a single run without a population.
    sweep: points ``{setting: value}``, see `mtl_jax.sweeps`; none is one point,
      the config as it is.
    way: how members run: 'vmap' (all at once), 'map' (one after the other),
      'devices' (spread over devices), or 'auto': all that make sense are timed
      once.
    members_per_program: at most so many at once; 0 = as many as memory holds.
  """

  seeds: int = 0
  sweep: tuple[Spec, ...] = ()
  way: str = 'auto'
  members_per_program: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudySettings:
  """A comparison of methods, each run with all seeds of the population.

  Attributes:
    methods: name -> what it sets, as sections of a config: ``{'combinator':
      {'name': 'cagrad', 'c': 0.4}, 'optimizer': {'learning_rate': 1e-3}}``;
      besides, 'label' and 'family' for the report, and 'draws' as below.
    control: the method that others are tested against.
    twins: single-task models to train in the same study: 'full', with the
      trunk of the config, and 'equal', with what ``equal_twins`` sets.
    equal_twins: sections of a config, as of a method: a trunk so small that
      all twins together have as many parameters as the shared model.
    metrics: 'task/metric' that methods are compared by, with '+' in front
      where higher is better and '-' where lower is; the tasks' scores if none.
    trials: points of a random search a method, judged by the validation split,
      before it is run; 0 = none.
    draws: what is drawn for each: ``(setting, 'uniform' | 'log_uniform' |
      'choice', ...)`` with two bounds, or a tuple of values.
    claims: see `mtl_jax.reporting.study_record.Claim`.
    trade_offs: pairs of ``metrics``, each 'task/metric', that are drawn against
      each other; the scores of the first two tasks if none.
    by_task: delta-m as the mean of the tasks' means, not of all metrics.
    test: of differences to the control: 't', 'wilcoxon' or 'bootstrap'.
    interval: of metrics over seeds, one of the same.
  """

  methods: Mapping[str, Spec] = _empty()
  control: str = ''
  twins: tuple[str, ...] = ()
  equal_twins: Spec = _empty()
  metrics: tuple[str, ...] = ()
  trials: int = 0
  draws: tuple[tuple[Any, ...], ...] = ()
  claims: tuple[Spec, ...] = ()
  trade_offs: tuple[tuple[str, str], ...] = ()
  by_task: bool = False
  test: str = 't'
  interval: str = 't'

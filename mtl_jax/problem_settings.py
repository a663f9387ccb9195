"""What an experiment on an analytic problem may set."""

from collections.abc import Mapping
import dataclasses
from typing import Any

Spec = Mapping[str, Any]


def _empty():
  return dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProblemSettings:
  """An analytic problem, in place of data, targets and model.

  Every method runs from every start, with every seed and every preference, as
  one program; `optimizer` and `seed` of the config count, `combinator`, `data`
  and the like do not.

  Attributes:
    name: from `problems.PROBLEMS`; empty = a model is trained.
    options: its keyword arguments.
    methods: what is compared: label -> spec as in ``config.combinator``. Where
      one has ``preference: 'member'``, each member has its own.
    absent: label -> why: rows of the paper that cannot be run here.
    steps: of a run.
    record_every: steps between records; it divides them.
    steps_per_epoch: for methods that look at epochs.
    seeds: runs of each start, where the problem draws at all.
    preferences: how many preferences of two tasks; 0 = none.
    claims: name -> a claim, as `experiment.problem_claims` reads it; declared
      before the first run, which a work directory holds fast.
  """

  name: str = ''
  options: Spec = _empty()
  methods: Mapping[str, Spec] = _empty()
  absent: Mapping[str, str] = _empty()
  steps: int = 1000
  record_every: int = 10
  steps_per_epoch: int = 1
  seeds: int = 1
  preferences: int = 0
  claims: Mapping[str, Spec] = _empty()

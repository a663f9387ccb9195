"""Interface of what a run trains: a model on data, or an analytic problem."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from mtl_jax.training import loop, step as step_lib

Hyper = Mapping[str, Any]  # {setting: number or array}
NONE: Hyper = {}


class Trainable(Protocol):
  """Trainable part of a run: a model on data, or an analytic problem.

  Attributes:
    plan: when things happen.
    task_names: K names.
    make_record: ``hyper -> (state, metrics) -> pytree`` that a run keeps of a
      step; None for its metrics.
  """

  plan: loop.Plan
  make_record: Callable[[Hyper], Callable[[Any, Any], Any]] | None

  @property
  def task_names(self) -> tuple[str, ...]:
    """K names."""
    ...

  def make_state(self, seed: Any, hyper: Hyper = NONE) -> Any:
    """The state of a member at step 0; its ``step`` is None."""
    ...

  def make_step(
    self, axis_name: str | None = None, hyper: Hyper = NONE
  ) -> step_lib.Step:
    """The training step of a member, not compiled."""
    ...

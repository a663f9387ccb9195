"""Checkpoints: all of Orbax that the project uses, behind four verbs."""

from collections.abc import Mapping, Sequence
import dataclasses
import errno
import logging
import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp

_log = logging.getLogger(__name__)


class CheckpointError(RuntimeError):
  """A checkpoint could not be written or read; the message says why."""


# The pytrees of a checkpoint, each of which can be read without the others.
TREES = ('state', 'best')


@dataclasses.dataclass(frozen=True)
class Restored:
  """Contents of a checkpoint.

  Attributes:
    step: its number.
    trees: pytrees of arrays by name, those that were asked for.
    info: JSON.
  """

  step: int
  trees: dict[str, Any]
  info: dict[str, Any]


class Checkpoints:
  """Numbered checkpoints of one directory, written asynchronously.

  A checkpoint is some pytrees of arrays (`TREES`) and JSON-like information. It
  appears under its number only when it is whole, so a killed save leaves the
  ones before untouched.
  """

  def __init__(self, directory: pathlib.Path | str, keep: int = 2):
    """Opens or makes a directory; the newest ``keep`` checkpoints stay."""
    self.directory = pathlib.Path(directory).absolute()
    self._keep = keep
    self._opened = None

  @property
  def _manager(self):
    # Opened on first use: a run that only reads makes no directory.
    if self._opened is None:
      options = ocp.CheckpointManagerOptions(
        max_to_keep=self._keep, enable_async_checkpointing=True
      )
      # Named here too, so that shapes can be read before the arrays are.
      handlers: dict[str, Any] = {
        name: ocp.StandardCheckpointHandler() for name in TREES
      }
      handlers['info'] = ocp.JsonCheckpointHandler()
      self._opened = ocp.CheckpointManager(
        self.directory, options=options, item_handlers=handlers
      )
    return self._opened

  def steps(self) -> list[int]:
    """The numbers of all checkpoints, oldest first."""
    if self._opened is None and not self.directory.exists():
      return []
    return sorted(self._manager.all_steps())

  def save(
    self, step: int, trees: Mapping[str, Any], info: Mapping[str, Any]
  ) -> None:
    """Begins to write a checkpoint; arrays may be donated right after.

    An existing checkpoint of the same number is replaced: a run that was
    killed after it is deterministic and makes the same again.

    Args:
      step: its number.
      trees: pytrees of arrays, by names of `TREES`.
      info: what JSON can hold.

    Raises:
      CheckpointError: if this or an earlier save failed, for one because no
        space is left. Checkpoints written before are kept.
    """
    items: dict[str, Any] = {
      name: ocp.args.StandardSave(tree) for name, tree in trees.items()
    }
    items['info'] = ocp.args.JsonSave(dict(info))
    try:
      if step in self._manager.all_steps():
        self._manager.delete(step)
      self._manager.save(step, args=ocp.args.Composite(**items), force=True)
    except Exception as error:
      raise self._failed(error) from error

  def wait(self) -> None:
    """Returns when everything is on disk."""
    if self._opened is None:
      return
    try:
      self._manager.wait_until_finished()
    except Exception as error:
      raise self._failed(error) from error

  def close(self) -> None:
    """Waits, and lets go of the directory."""
    if self._opened is not None:
      self.wait()
      self._manager.close()
      self._opened = None

  def restore(self, shapes: Mapping[str, Any]) -> Restored | None:
    """Reads the newest checkpoint that can be read.

    Args:
      shapes: the expected pytrees by name, of ``jax.ShapeDtypeStruct`` with
        shardings.

    Returns:
      The checkpoint, or None where there is none. One that is damaged is
      passed over with a warning.

    Raises:
      CheckpointError: if there are checkpoints, and none can be read.
    """
    return self._newest(lambda step: self._read(step, shapes))

  def restore_any(self, names: Sequence[str] = TREES) -> Restored | None:
    """Reads the newest readable checkpoint without knowing its structure.

    Args:
      names: of the pytrees to read.

    Returns:
      As `restore`, on the first device of this process.
    """
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])

    def read(step):
      known = self._manager.item_metadata(step)
      shapes = {name: abstract(known[name], device) for name in names}
      return self._read(step, shapes)

    return self._newest(read)

  def _read(self, step, shapes):
    items: dict[str, Any] = {
      name: ocp.args.StandardRestore(tree) for name, tree in shapes.items()
    }
    items['info'] = ocp.args.JsonRestore()
    return self._manager.restore(step, args=ocp.args.Composite(**items))

  def _newest(self, read) -> Restored | None:
    steps, last = self.steps(), None
    for step in reversed(steps):
      try:
        items = read(step)
        trees = {name: items[name] for name in TREES if name in items}
        return Restored(step, trees, items['info'])
      except Exception as error:  # Orbax raises whatever its reader meets.
        last = error
        _log.warning(
          'Checkpoint %d in %s is damaged (%s); falling back to the one '
          'before.',
          step,
          self.directory,
          _first_line(error),
        )
    if last is not None:
      raise CheckpointError(
        f'Expected a readable checkpoint in {self.directory}, found '
        f'{len(steps)} that cannot be read (last: {_first_line(last)}); '
        'restore the directory from a copy, or start in a new --workdir.'
      ) from last
    return None

  def _failed(self, error: Exception) -> CheckpointError:
    reason = error
    while reason.__cause__ is not None:
      reason = reason.__cause__
    full = getattr(reason, 'errno', None) in (errno.ENOSPC, errno.EDQUOT) or (
      'no space left' in str(error).lower()
    )
    what = 'no space left on the device' if full else _first_line(error)
    advice = 'free some space' if full else 'mend that'
    return CheckpointError(
      f'Expected to write a checkpoint to {self.directory}, found: {what}; '
      f'{advice} and run the same command again, it goes on from the last '
      'whole checkpoint.'
    )


def _first_line(error: Exception) -> str:
  lines = str(error).strip().splitlines()
  return lines[0][:200] if lines else type(error).__name__


def abstract(state: Any, sharding: Any) -> Any:
  """The shapes of a state (or of what ``jax.eval_shape`` gave), placed.

  Args:
    state: arrays or their shapes.
    sharding: one, or a pytree of them that is a prefix of the state.
  """
  return jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
    state,
    jax.tree.broadcast(sharding, state),
  )

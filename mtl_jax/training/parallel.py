"""One step, three ways to run it over devices: jit, shard_map and pmap."""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import numpy as np

AXIS = 'data'
MODES = ('jit', 'shard_map', 'pmap')


def make_mesh(devices: Any = None) -> Mesh:
  """A mesh with one axis, over which batches are split."""
  devices = jax.devices() if devices is None else devices
  return Mesh(np.asarray(devices), (AXIS,))


def parallelize(
  make_step: Callable[[str | None], Callable],
  mesh: Mesh,
  mode: str = 'jit',
  state_sharding: Any = None,
) -> Any:
  """Compiles a step for the devices of a mesh.

  Args:
    make_step: ``axis_name -> step``. It is a builder, since the manual modes
      must name the axis before the step exists.
    mesh: from `make_mesh`.
    mode: 'jit' over global arrays (the default), 'shard_map' or 'pmap'. They
      agree up to rounding, but for dropout, which the manual modes draw on
      each device by itself, and for heads with negatives, which they score
      against those of the device.
    state_sharding: where the state lies: a sharding, or a pytree of them that
      is a prefix of the state; by default all of it on every device, as the
      manual modes need it.

  Returns:
    ``(state, batch) -> (state, metrics)`` over a batch from `shard_batch` and
    a state from `replicate` or `place`, which is donated.

  Raises:
    ValueError: if the mode is unknown, or takes whole states only.
  """
  check_mode(mode)
  if mode == 'jit':
    state = _or_whole(state_sharding, mesh)
    split = NamedSharding(mesh, PartitionSpec(AXIS))
    return jax.jit(
      make_step(None),
      in_shardings=(state, split),
      out_shardings=(state, whole(mesh)),
      donate_argnums=0,
    )
  shardings = jax.tree.leaves(state_sharding)
  if not all(sharding.is_fully_replicated for sharding in shardings):
    raise ValueError(
      f"Expected mode 'jit' for a state that is split over devices, found "
      f"{mode!r}; set training.mode to 'jit'."
    )
  if mode == 'shard_map':
    step = jax.shard_map(
      make_step(AXIS),
      mesh=mesh,
      in_specs=(PartitionSpec(), PartitionSpec(AXIS)),
      out_specs=PartitionSpec(),
    )
    return jax.jit(step, donate_argnums=0)
  step = jax.pmap(
    make_step(AXIS),
    axis_name=AXIS,
    in_axes=(None, 0),
    out_axes=None,
    devices=list(mesh.devices.flat),
    donate_argnums=0,
  )
  size = mesh.size

  def mapped(state, batch):
    # pmap wants the devices as an axis of the array itself.
    parts = jax.tree.map(
      lambda x: x.reshape(size, x.shape[0] // size, *x.shape[1:]), batch
    )
    return step(state, parts)

  return mapped


def check_mode(mode: str) -> None:
  """Raises a ValueError for a mode that is unknown, or cannot run here."""
  if mode not in MODES:
    raise ValueError(
      f'Expected a parallel mode among {", ".join(MODES)}, found {mode!r}; '
      'set training.mode to one of them.'
    )
  if mode == 'pmap' and jax.process_count() > 1:
    raise ValueError(
      f"Expected one process for mode 'pmap', found {jax.process_count()}; "
      "set training.mode to 'jit' or 'shard_map'."
    )


def shard_batch(batch: Any, mesh: Mesh) -> Any:
  """Places host arrays ``[B, ...]`` on the devices, split along B.

  With several processes, each passes its own part of the batch. For one device
  arrays stay as they are: a compiled step places them in less time than
  ``device_put`` does.
  """
  if mesh.size == 1:
    return batch
  sharding = NamedSharding(mesh, PartitionSpec(AXIS))
  if jax.process_count() == 1:
    return jax.device_put(batch, sharding)
  return jax.tree.map(
    lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)),
    batch,
  )


def whole(mesh: Mesh) -> NamedSharding:
  """Sharding of arrays that every device of a mesh holds whole."""
  return NamedSharding(mesh, PartitionSpec())


def place(tree: Any, mesh: Mesh, state_sharding: Any = None) -> Any:
  """Puts host arrays, the same in every process, on the devices of a mesh.

  Args:
    tree: of a state, or of a part of one.
    mesh: of devices.
    state_sharding: as of `parallelize`; a prefix of the tree.
  """
  sharding = _or_whole(state_sharding, mesh)
  if jax.process_count() == 1:
    return jax.device_put(tree, sharding)
  return jax.tree.map(
    lambda x, s: jax.make_array_from_process_local_data(
      s, np.asarray(x), np.shape(x)
    ),
    tree,
    jax.tree.broadcast(sharding, tree),
  )


def replicate(
  make: Callable[..., Any], mesh: Mesh, state_sharding: Any = None
) -> Callable[..., Any]:
  """Compiles ``make`` so that the state that it makes lies on all devices.

  States are made this way, rather than by device_put, whose result may share
  memory with its source: donating one would then delete the other.

  Args:
    make: returns a state.
    mesh: of devices.
    state_sharding: as of `parallelize`.
  """
  return jax.jit(make, out_shardings=_or_whole(state_sharding, mesh))


def _or_whole(state_sharding, mesh):
  return whole(mesh) if state_sharding is None else state_sharding

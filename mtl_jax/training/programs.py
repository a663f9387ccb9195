"""Many runs as one program: the members are an axis of the arrays.

A member is a run with its own parameters, order of the data, keys and numbers
(learning rate, options of its method). All members take the same step at the
same time, so that the number of the step is one number: what happens in every
k-th step only is then skipped in the others, under `jax.vmap` too. A run alone
is one member.
"""

from collections.abc import Callable, Mapping
import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
import numpy as np

from mtl_jax.tasks import EXAMPLE_MASK

Array = jax.Array
Hyper = Mapping[str, Array]  # {setting: [] of one member, [P] of all}

AXIS = 'members'
WAYS = ('vmap', 'map', 'devices')


class Feed(NamedTuple):
  """Inputs of each member, leaves ``[P, S, ...]``: a step's batch by its rows.

  Attributes:
    rows: ``{stream: [P, S, B]}``, numbers of examples of data on the device;
      or ``{stream: {name: [P, S, B, ...]}}``, the examples themselves.
    present: ``{stream: [P, S]}``, 0 where the stream is not in the step.
  """

  rows: Any
  present: Any


class Members(NamedTuple):
  """All that differs between members, each leaf ``[P, ...]``.

  Attributes:
    state: a `TrainState`, but ``step`` is None: it is the same for all.
    hyper: numbers of the settings that differ.
    active: ``[P]``; a member that is not active keeps its state.
  """

  state: Any
  hyper: Hyper
  active: Array


@dataclasses.dataclass(frozen=True)
class Way:
  """Arrangement of members on devices.

  Attributes:
    way: 'vmap', 'map' or 'devices', see `spread`.
    members: at once; more of them run one program after the other.
    length: steps in one program; 1 = no loop around a step.
  """

  way: str
  members: int
  length: int

  def __str__(self) -> str:
    """As a run prints it."""
    steps = 'a step' if self.length == 1 else f'{self.length} steps'
    return f'{self.way}, {self.members} members and {steps} at a time'


def make_mesh(devices: Any = None) -> Mesh:
  """A mesh with one axis, over which members are spread."""
  devices = jax.devices() if devices is None else devices
  return Mesh(np.asarray(devices), (AXIS,))


def one_of(tree: Any) -> Any:
  """The pytree of the only member, of leaves ``[1, ...]``."""
  return jax.tree.map(lambda x: x[0], tree)


def as_members(tree: Any) -> Any:
  """The pytree of one member as leaves ``[1, ...]``."""
  return jax.tree.map(lambda x: x[None], tree)


def spread(
  f: Callable[..., Any], way: str, mesh: Mesh | None = None
) -> Callable[..., Any]:
  """Runs ``f(*member, shared)`` for all members, leaves ``[P, ...]``.

  Where there is one member (on a device), it is the very program of ``f``.

  Args:
    f: of one member, and of what all have in common.
    way: 'vmap', all at once on one device; 'map', one after the other on one
      device; 'devices', each device its part of them, which P must divide by,
      by vmap.
    mesh: from `make_mesh`, of 'devices'.

  Raises:
    ValueError: if the way is unknown.

  Example:
    >>> shifted = spread(lambda member, shared: member + shared, 'map')
    >>> shifted(jnp.arange(3), 10)
    Array([10, 11, 12], dtype=int32)
  """

  def mapped(*arguments):
    *members, shared = arguments
    if len(jax.tree.leaves(members)[0]) == 1:
      return as_members(f(*one_of(members), shared))
    if way == 'map':
      return jax.lax.map(lambda member: f(*member, shared), members)
    axes = (*(0 for _ in members), None)
    return jax.vmap(f, in_axes=axes)(*members, shared)

  if way in ('vmap', 'map'):
    return mapped
  if way != 'devices' or mesh is None:
    raise ValueError(
      f'Expected a way to run members among {", ".join(WAYS)}, found {way!r}; '
      'set population.way to one of them.'
    )

  def over_devices(*arguments):
    members = (PartitionSpec(AXIS) for _ in arguments[1:])
    return jax.shard_map(
      mapped,
      mesh=mesh,
      in_specs=(*members, PartitionSpec()),
      out_specs=PartitionSpec(AXIS),
      check_vma=False,  # nothing crosses the members
    )(*arguments)

  return over_devices


def make_advance(
  make_step: Callable[[Hyper], Callable],
  length: int,
  record: Callable[[Hyper], Callable[[Any, Any], Any]] | None = None,
  record_every: int = 1,
  *,
  batched: bool = False,
) -> Callable[..., tuple[Any, Any]]:
  """Some steps of one member, for `spread`.

  Args:
    make_step: ``hyper -> (state, batch) -> (state, metrics)``; it is called
      inside the program, so that numbers of the settings are arrays there.
    length: S, the longest run of steps. 1 is a step without a loop or branch
      around: the CPU backend is slow on what is in one, convolutions above all.
    record: ``hyper -> (state, metrics) -> pytree``: what is kept of a step; by
      default its metrics.
    record_every: steps between two records; it divides S and every number of
      steps.
    batched: whether several members advance at once, by `jax.vmap`. Then one
      that is not active advances too, and gets its state back; alone it takes
      no step. Results are the same; the other way round each is slow: a count
      per member would make `jax.vmap` copy the data per member.

  Returns:
    ``(state, (hyper, active, feed), (start, number, data)) -> (state,
    records)``: takes ``number`` <= S steps from step ``start``. ``data`` are
    arrays ``{stream: {name: [N, ...]}}`` that the feed's rows point into, or
    None. Records are ``[S / record_every, ...]``, of which those of the steps
    taken count.
  """

  def advance(state, rest, shared):
    hyper, active, feed = rest
    start, number, data = shared
    step = make_step(hyper)
    keep = record(hyper) if record else lambda state, metrics: metrics

    def at(i, state):
      now = jax.tree.map(lambda x: x[i], feed)
      return state._replace(step=start + i), fetch(data, now)

    def unrecorded(i, state):
      return step(*at(i, state))[0]._replace(step=None)

    def body(i, carry):
      """``record_every`` steps, and the record of the last one."""
      state, records = carry
      last = i
      if record_every > 1:
        last = (i + 1) * record_every - 1
        state = jax.lax.fori_loop(i * record_every, last, unrecorded, state)
      state, metrics = step(*at(last, state))
      state = state._replace(step=None)
      return state, jax.tree.map(
        lambda r, x: r.at[i].set(x), records, keep(state, metrics)
      )

    def one_record(state):
      state, metrics = step(*at(0, state))
      return keep(state._replace(step=None), metrics)

    empty = jax.tree.map(
      lambda x: jnp.zeros((length // record_every, *x.shape), x.dtype),
      jax.eval_shape(one_record, state),
    )
    carry, taken = (state, empty), number // record_every
    # No branch: on the CPU what is in one runs on a single thread.
    if length > 1 and not batched:
      return jax.lax.fori_loop(0, jnp.where(active, taken, 0), body, carry)
    loop = functools.partial(jax.lax.fori_loop, 0, taken, body)
    new = body(0, carry) if length == 1 else loop(carry)
    return jax.tree.map(functools.partial(jnp.where, active), new, carry)

  return advance


def fetch(data: Any, feed: Feed) -> dict[str, dict[str, Array]]:
  """The batch of one member and step, ``{stream: {name: [B, ...]}}``."""
  batch = {}
  for name, rows in feed.rows.items():
    if data is None:
      arrays = dict(rows)
    else:
      arrays = {key: values[rows] for key, values in data[name].items()}
    size = next(iter(arrays.values())).shape[0]
    arrays[EXAMPLE_MASK] = jnp.broadcast_to(feed.present[name], (size,))
    batch[name] = arrays
  return batch


def keep_better(better: Array, new: Any, old: Any) -> Any:
  """Members' pytrees, each from ``new`` where ``better`` ``[P]``."""

  def pick(x, y):
    chosen = better.reshape((-1,) + (1,) * (x.ndim - 1))
    return jnp.where(chosen, x, y)

  return jax.tree.map(pick, new, old)

"""``--dry_run``: what a run would need, without training."""

import time

import jax

from mtl_jax import reporting
from mtl_jax.experiment import build, members, run
from mtl_jax.training import parallel


def dry_run(experiment: build.Experiment) -> None:
  """Prints shapes, parameters, memory and compile time of a training step."""
  settings = experiment.settings
  alone = experiment.plan.raises
  # The members of a population are spread over devices, and not their batches.
  mesh = parallel.make_mesh(None if alone else jax.devices()[:1])
  state = jax.eval_shape(experiment.first_state, settings.seed)
  run.show(experiment)
  shapes = experiment.batch_shapes()
  rows = [
    [f'{stream}/{name}', ' x '.join(map(str, array.shape)), str(array.dtype)]
    for stream, arrays in shapes.items()
    for name, array in arrays.items()
  ]
  reporting.show(
    reporting.ResultTable('Batch', ['array', 'shape', 'type'], rows)
  )
  began = time.perf_counter()
  # pmap is a jitted shard_map too, but only says so when it runs.
  mode = 'jit' if settings.training.mode == 'jit' else 'shard_map'
  step = parallel.parallelize(experiment.make_step, mesh, mode)
  compiled = step.lower(state, shapes).compile()
  seconds = time.perf_counter() - began
  memory = compiled.memory_analysis()
  megabyte = 2**20
  plan, each = experiment.plan, f'on each of {mesh.size} device(s)'
  if not alone:
    each = f'for each of {len(members.list_members(settings))} members'
  print(
    f'One step compiles in {seconds:.1f} s, and needs '
    f'{memory.argument_size_in_bytes / megabyte:.1f} MB for state and batch '
    f'and {memory.temp_size_in_bytes / megabyte:.1f} MB besides, {each} '
    f'({jax.devices()[0].device_kind}).\n'
    f'Training would take {plan.steps} steps, {experiment.steps_per_epoch} an '
    'epoch. Nothing was trained or written.'
  )

"""The model of a config: trunk, input encoder, heads, and who shares what."""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp

from mtl_jax import data, models, names, tasks as tasks_lib
from mtl_jax.config import lookup, settings as settings_lib
from mtl_jax.experiment import input_tables

# None: that of the parameters.
DTYPES = {'float32': None, 'bfloat16': jnp.bfloat16}


def make_model(
  settings: settings_lib.Settings,
  tasks: Sequence[tasks_lib.Task],
  sources: Mapping[str, data.Data],
  axis_name: str | None = None,
) -> models.MultiTaskModel:
  """Builds the model; sizes that the data know need not be in the config.

  Args:
    settings: the experiment's.
    tasks: K of them, each gets a head.
    sources: data by stream.
    axis_name: mapped axis over devices, for batch statistics.

  Raises:
    ValueError: for unknown names or options.
  """
  section = settings.model
  if section.dtype not in DTYPES:
    raise ValueError(
      f'Expected model.dtype to be one of {", ".join(DTYPES)}, found '
      f'{section.dtype!r}; set it to one of them.'
    )
  sizes: dict[str, int] = {}  # of the stream that has most codes of a key
  for source in sources.values():
    for key, size in source.info.cardinalities.items():
      sizes[key] = max(size, sizes.get(key, 0))
  offered = {'dtype': DTYPES[section.dtype], 'cardinalities': sizes}
  tokens = section.trunk.get('inputs', 'tokens')
  if isinstance(tokens, str) and tokens in sizes:
    offered['vocab_size'] = sizes[tokens]
  for name in section.heads:
    if name not in settings.targets:
      raise ValueError(
        f'Expected heads of targets, found one of {name!r}; '
        f'{names.nearest(name, settings.targets)}'
      )

  def build_head(task):
    spec, own = section.heads.get(task.name, section.head), dict(offered)
    ranks = settings.targets[task.name].get('kind') == 'next_item'
    if ranks or spec.get('name') == 'item':
      own |= input_tables.of_catalogue(task, settings, sources)
    return lookup.build(
      'head', spec, models.HEADS, required={'size': task.size}, offered=own
    )

  return models.build_model(
    lookup.build('sharing architecture', section.sharing, models.SHARING),
    lookup.build('trunk', section.trunk, models.TRUNKS, offered=offered),
    {task.name: build_head(task) for task in tasks},
    inputs=input_tables.make_inputs(settings, offered, sources)
    if section.inputs
    else None,
    axis_name=axis_name,
    streams={task.name: task.stream for task in tasks},
  )

"""The data of a config: a known data set, files, or the user's own function."""

from collections.abc import Collection, Mapping
from typing import Any

from mtl_jax import data, tasks
from mtl_jax.config import lookup, settings as settings_lib
from mtl_jax.recommendation import log_settings
from mtl_jax.tasks import kinds as task_kinds

LOG = 'interactions'  # the name of data that are a log of users and items
CACHE = {'auto': 'auto', 'always': True, 'never': False}


def load_data(
  stream: settings_lib.DataSettings,
  name: str,
  encoder: Any = None,
  labels: Mapping[str, data.Label] | None = None,
  arrays: Mapping[str, Any] | None = None,
  ids: Collection[str] = (),
) -> data.Data:
  """The data of one stream, as its settings say.

  ``data.name`` is a data set of ours or of the TFDS catalogue; 'interactions',
  a log of users and items that ``data.settings`` describe; or the dotted name
  of a function of the user's, which is called with ``data.settings`` and
  returns ``{split: {feature: [N, ...]}}``.

  Args:
    stream: its settings.
    name: what messages call it.
    encoder: of a checkpoint; learned from the training split else.
    labels: of `labels_of`.
    arrays: ``{split: {feature: [N, ...]}}`` in place of what the settings name.
    ids: keys of whole numbers that are rows of a table.

  Raises:
    ValueError: if the data cannot be found, or do not fit the settings.
  """
  if stream.cache not in CACHE:
    raise ValueError(
      f'Expected cache to be one of {", ".join(CACHE)}, found '
      f'{stream.cache!r}; set it in the data of stream {name!r}.'
    )
  options: dict[str, Any] = {
    # Without options, the key 'tokens' is a text, and other strings are not.
    'text': {key: _text_options(x) for key, x in stream.text.items()} or None,
    'standardize': stream.standardize,
    'encoder': encoder,
    'labels': labels or {},
    'fill': stream.fill,
    'ids': ids,
    'ignore_case': stream.ignore_case,
    'cache': CACHE[stream.cache],
  }
  if arrays is None and stream.name == LOG:
    rows = log_settings.load(stream.settings)
    names = {name: name for name in rows['train'].fields}
    return data.from_splits(rows, stream.features or names, **options)
  if arrays is not None or '.' in stream.name:
    return data.from_splits(
      _call(stream) if arrays is None else arrays,
      stream.features or None,
      columns=stream.columns,
      reading=reading_of(stream),
      **options,
    )
  if stream.name:
    return data.load(
      stream.name,
      stream.features,
      splits=stream.splits,
      settings=stream.settings,
      **options,
    )
  if not stream.columns:
    raise ValueError(
      f'Expected data for stream {name!r}, found neither a name nor columns '
      'of files; set data.name, or data.splits and data.columns, or pass '
      'data= if the run had its data from Python.'
    )
  return data.load_files(
    stream.splits,
    stream.columns,
    stream.features or None,
    reading=reading_of(stream),
    **options,
  )


def _call(stream):
  """Splits that a function of the user's or ours makes."""
  spec = {**stream.settings, 'name': stream.name}
  offered = {'reading': reading_of(stream)}
  return lookup.build('data set', spec, {}, offered=offered)


def reading_of(stream: settings_lib.DataSettings) -> data.Reading:
  """Writing of the cells of a stream's files."""
  return data.Reading(
    missing=stream.missing,
    separator=stream.separator,
    set_separator=stream.set_separator,
    encoding=stream.encoding,
  )


def labels_of(
  targets: Mapping[str, settings_lib.Spec], stream: str
) -> dict[str, data.Label]:
  """Key in a stream's batches -> what the tasks whose label it is learn of it.

  The groups of their metrics, whose keys are those of `tasks.group_key`, and
  weights of examples are among them.

  Raises:
    ValueError: if two tasks read one key as different things.
  """
  labels: dict[str, data.Label] = {}
  owners: dict[str, str] = {}
  for name, spec in targets.items():
    kind = spec.get('kind', '')
    if spec.get('stream', 'main') != stream:
      continue
    column = spec.get('weight_column')
    if column:  # nobody fills a weight that is missing
      labels.setdefault(column, data.Label(kind='regression'))
      owners.setdefault(column, name)
    if kind not in task_kinds.TASK_KINDS:
      continue
    group = spec.get('group')
    if group:
      labels[tasks.group_key(group)] = data.Label(kind='group', of=group)
    key = spec.get('label') or name
    label = data.Label(
      kind=task_kinds.LABELS.get(kind, kind),
      num_classes=spec.get('num_classes') or 0,
      positive=data.name_of(spec.get('positive')),
      shift=kind == 'regression' and not spec.get('per_step'),
    )
    other = labels.get(key)
    if other is None:
      labels[key], owners[key] = label, name
      continue
    classes = {'classification', 'binary'}
    alike = {label.kind, other.kind} <= classes or label.kind == other.kind
    if not alike or label.positive != other.positive:
      raise ValueError(
        f'Expected tasks that share the label {key!r} to read it alike, found '
        f'{other.kind} for {owners[key]!r} and {label.kind} for {name!r}; give '
        'one of them a key of its own in data.features, of the same column, '
        "and name it as the target's label."
      )
    labels[key] = data.Label(
      kind='binary' if 'binary' in (label.kind, other.kind) else label.kind,
      num_classes=max(label.num_classes, other.num_classes),
      positive=label.positive,
      shift=label.shift and other.shift,
    )
  return labels


def _text_options(options):
  return lookup.build(
    'tokenizer', {'name': 'text', **options}, {'text': data.TextOptions}
  )

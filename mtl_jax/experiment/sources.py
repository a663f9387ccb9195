"""The data of a config: a known data set, files, or the user's own function."""

from collections.abc import Mapping
from typing import Any

from mtl_jax import data
from mtl_jax.config import lookup, settings as settings_lib

CACHE = {'auto': 'auto', 'always': True, 'never': False}


def load_data(
  stream: settings_lib.DataSettings,
  name: str,
  encoder: Any = None,
  labels: Mapping[str, str] | None = None,
) -> data.Data:
  """The data of one stream, as its settings say.

  ``data.name`` is a data set of ours or of the TFDS catalogue, or the dotted
  name of a function of the user's, which is called with ``data.settings`` and
  returns ``{split: {feature: [N, ...]}}``.

  Args:
    stream: its settings.
    name: what messages call it.
    encoder: of a checkpoint; learned from the training split else.
    labels: key in the batch -> kind of the task that it is the label of.

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
    'cache': CACHE[stream.cache],
  }
  if '.' in stream.name:
    function = lookup.find('data set', stream.name, {})
    return data.from_splits(
      function(**stream.settings), stream.features or None, **options
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
    stream.splits, stream.columns, stream.features or None, **options
  )


def _text_options(options):
  return lookup.build(
    'tokenizer', {'name': 'text', **options}, {'text': data.TextOptions}
  )

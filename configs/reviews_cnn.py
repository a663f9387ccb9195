"""Text classification and sentiment through one convolutional trunk.

Women's E-Commerce Clothing Reviews (23,486 reviews): a text CNN tells the
department that a garment belongs to (6 classes) and whether its buyer
recommends it. `:class` asks for the 20 classes of garments instead; rating
(1 to 5, regression) can be added: --config.tasks=department,recommended,rating

Windows of 1, 2 and 3 tokens do better than windows of 3 alone, at twice the
time: --config.model.trunk.widths='(1, 2, 3)', see docs/results.md.

About a minute on 2 CPU cores; the data (22 MB) are fetched once with pip.

  python launch.py --config=configs/reviews_cnn.py --workdir=runs/reviews
"""

import mtl_jax


def get_config(label='department'):
  """The config; every key is explained in mtl_jax/config/sections.py."""
  config = mtl_jax.default_config()
  config.tasks = f'{label},recommended'
  config.targets.department = {'kind': 'classification'}
  config.targets['class'] = {'kind': 'classification'}
  config.targets.recommended = {'kind': 'binary'}
  config.targets.rating = {'kind': 'regression'}

  config.data.name = 'clothing_reviews'
  config.data.features = {
    'tokens': 'text',
    'department': 'department',
    'class': 'class',
    'recommended': 'recommended',
    'rating': 'rating',
  }
  config.data.text = {'tokens': {'vocabulary': 10_000, 'max_length': 120}}
  config.data.batch_size = 32

  config.model.trunk = {
    'name': 'cnn_text',
    'embed_dim': 128,
    'filters': 128,
    'widths': (3,),
    'mask': 'token_mask',
    'dropout': 0.5,
  }
  config.optimizer.name = 'adam'
  config.optimizer.learning_rate = 1e-3
  config.training.epochs = 5
  return config

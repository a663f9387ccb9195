"""Two tasks on generated sequences, as related as a dial says.

An LSTM(64) reads 8,000 sequences of 100 steps with 8 channels; one head picks
among 10 classes, the other predicts a value. The classes depend on shared
factors; the value on the same ones at relatedness 1 and on private ones at 0.
Each task knows a quarter of its training labels, of different sequences.

Nothing is downloaded. About 10 seconds on 2 CPU cores.

  python launch.py --config=configs/synthetic_sequences.py
  python launch.py --config.data.settings.relatedness=0.5 --workdir=runs/half
"""

import mtl_jax


def get_config():
  """The config; every key is explained in mtl_jax/config/sections.py."""
  config = mtl_jax.default_config()

  config.data.name = 'synthetic_sequences'
  config.data.settings = {'relatedness': 1.0, 'seed': 0}
  config.data.features = {
    'inputs': 'sequence',
    'category': 'category',
    'value': 'value',
  }
  config.data.batch_size = 32

  config.targets.category = {'kind': 'classification'}
  config.targets.value = {'kind': 'regression', 'standardize': False}

  config.model.trunk = {'name': 'lstm', 'features': 64}
  config.optimizer.learning_rate = 1e-3
  config.training.epochs = 5
  return config

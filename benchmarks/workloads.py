"""The training steps that are timed: shapes and arrays, for both frameworks.

NumPy only: `combinators_jax.py` and `combinators_torch.py` build the same
networks of them, with K binary heads.
"""

import numpy as np

WORKLOADS = {
  'mlp': {'kind': 'mlp', 'batch': 256, 'inputs': 500, 'widths': [512, 512]},
  'lstm_32': {
    'kind': 'lstm',
    'batch': 32,
    'length': 100,
    'inputs': 8,
    'features': 64,
  },
  'lstm_256': {
    'kind': 'lstm',
    'batch': 256,
    'length': 100,
    'inputs': 8,
    'features': 64,
  },
  'cnn_text': {
    'kind': 'cnn_text',
    'batch': 32,
    'length': 100,
    'vocabulary': 20_000,
    'width': 128,
    'filters': 128,
  },
  'lenet': {'kind': 'lenet', 'batch': 256, 'edge': 36},
  'transformer': {
    'kind': 'transformer',
    'batch': 64,
    'length': 50,
    'inputs': 16,
    'features': 64,
    'layers': 2,
    'heads': 4,
    'hidden': 256,
  },
  'mmoe': {
    'kind': 'mmoe',
    'batch': 512,
    'inputs': 40,
    'experts': 8,
    'widths': [64, 64],
  },
}
NAMES = {
  'mlp': 'perceptron 500-512-512, batch 256',
  'lstm_32': 'LSTM 100 x 8 -> 64, batch 32',
  'lstm_256': 'LSTM 100 x 8 -> 64, batch 256',
  'cnn_text': 'text CNN, vocabulary 20,000, batch 32',
  'lenet': 'LeNet 36 x 36, batch 256',
  'transformer': 'transformer, 2 blocks of 64, 50 steps, batch 64',
  'mmoe': 'MMoE, 8 experts 40-64-64, batch 512',
}


def small(spec):
  """The same kind of step, small enough to see that it works."""
  sizes = {
    'batch': 16,
    'inputs': 8,
    'widths': [16],
    'length': 6,
    'features': 8,
    'vocabulary': 50,
    'width': 8,
    'filters': 8,
    'hidden': 8,
  }
  return {key: sizes.get(key, value) for key, value in spec.items()}


def arrays(spec, num_tasks):
  """Inputs, and binary labels ``[B, K]``, of one batch."""
  rng = np.random.default_rng(0)
  batch = spec['batch']
  labels = rng.integers(0, 2, size=(batch, num_tasks)).astype(np.int32)
  if spec['kind'] == 'cnn_text':
    shape = (batch, spec['length'])
    inputs = rng.integers(1, spec['vocabulary'], size=shape).astype(np.int32)
    inputs[:, spec['length'] * 3 // 4 :] *= rng.integers(
      0, 2, size=(batch, 1), dtype=np.int32
    )  # Half of the texts are shorter.
    return inputs, labels
  shape = {
    'mlp': (batch, spec.get('inputs')),
    'mmoe': (batch, spec.get('inputs')),
    'lstm': (batch, spec.get('length'), spec.get('inputs')),
    'transformer': (batch, spec.get('length'), spec.get('inputs')),
    'lenet': (batch, spec.get('edge'), spec.get('edge'), 1),
  }[spec['kind']]
  return rng.normal(size=shape).astype(np.float32), labels

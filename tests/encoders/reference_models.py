"""Small random models, alike in benchmarks/reference_encoders.py and tests.

Weights are drawn from NumPy's generator by the name of each array, so that no
file of weights is kept, only what the reference libraries put out.
"""

import zlib

import numpy as np

TEXTS = ('a man eats', 'bread', 'the man is eating a piece of bread now')
WORDS = ('[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'a', 'man', 'is', 'eat')
WORDS += ('##ing', '##s', 'piece', 'of', 'bread', 'the', '.')
BERT = {
  'model_type': 'bert',
  'vocab_size': len(WORDS),
  'hidden_size': 24,
  'num_hidden_layers': 2,
  'num_attention_heads': 3,
  'intermediate_size': 40,
  'max_position_embeddings': 16,
  'type_vocab_size': 2,
  'hidden_act': 'gelu',
  'layer_norm_eps': 1e-12,
  'pad_token_id': 0,
}
ROBERTA = BERT | {
  'model_type': 'roberta',
  'pad_token_id': 1,
  'hidden_act': 'gelu_new',
  'layer_norm_eps': 1e-5,
  'type_vocab_size': 1,
  'bos_token_id': 2,
  'eos_token_id': 3,
}
DISTILBERT = {
  'model_type': 'distilbert',
  'vocab_size': len(WORDS),
  'dim': 24,
  'n_layers': 2,
  'n_heads': 3,
  'hidden_dim': 40,
  'max_position_embeddings': 16,
  'activation': 'gelu',
  'pad_token_id': 0,
}
FAMILIES = {'bert': BERT, 'roberta': ROBERTA, 'distilbert': DISTILBERT}
# Token ids and mask of a batch, where a tokenizer plays no part.
IDS = np.array([[2, 5, 6, 8, 10, 3, 0], [2, 13, 3, 0, 0, 0, 0]])
MASK = np.array([[1, 1, 1, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0, 0]])
PICTURES = (3, 45, 38)  # pictures, height and width: odd and even sizes


def draw(name, shape):
  """Numbers of one array, about as large as trained ones."""
  rng = np.random.default_rng(zlib.crc32(name.encode()))
  x = rng.normal(size=shape)
  if name.endswith('running_var'):
    return (0.5 + np.abs(x)).astype(np.float32)
  if name.endswith('weight') and len(shape) > 1:
    fan = np.prod(shape[1:])
    return (x * 1.4 / fan**0.5).astype(np.float32)
  return (0.1 * x + name.endswith('weight')).astype(np.float32)


def pictures():
  """``[N, H, W, 3]`` in about [-1, 1]."""
  rng = np.random.default_rng(7)
  return rng.uniform(-1, 1, (*PICTURES, 3)).astype(np.float32)

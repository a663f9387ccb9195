"""Encoders of the BERT family, from a folder with config.json and weights."""

from collections.abc import Mapping
import json
import os
import pathlib
import re
from typing import Any, NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
ACTIVATIONS = {
  'gelu': lambda x: nn.gelu(x, approximate=False),
  'gelu_new': lambda x: nn.gelu(x, approximate=True),
  'gelu_pytorch_tanh': lambda x: nn.gelu(x, approximate=True),
  'relu': nn.relu,
  'silu': nn.silu,
}
# Families whose blocks are the same, by model_type of config.json.
FAMILIES = ('bert', 'distilbert', 'roberta', 'xlm-roberta', 'camembert')


class Shape(NamedTuple):
  """Sizes of an encoder.

  Attributes:
    vocabulary: rows of the table of tokens.
    width: D.
    layers: blocks.
    heads: of attention.
    hidden: units of the feed-forward layer.
    positions: rows of the table of positions.
    types: rows of the table of token types; 0 = no such table.
    first: position of the first token; RoBERTa's is 2.
    activation: a name in `ACTIVATIONS`.
    epsilon: of layer normalization.
  """

  vocabulary: int
  width: int
  layers: int
  heads: int
  hidden: int
  positions: int
  types: int = 2
  first: int = 0
  activation: str = 'gelu'
  epsilon: float = 1e-12


class Block(nn.Module):
  """Self-attention and a feed-forward layer, each normalized after its sum."""

  shape: Shape

  @nn.compact
  def __call__(self, x: Array, mask: Array) -> Array:
    """States ``[B, T, D]`` of states, with ``mask`` ``[B, T]``."""
    shape = self.shape
    size = shape.width // shape.heads

    def split(name):
      y = nn.Dense(shape.width, name=name)(x)
      return y.reshape(*y.shape[:-1], shape.heads, size)  # [B, T, H, D / H]

    q, k, v = split('query'), split('key'), split('value')
    scores = jnp.einsum('bqhd,bkhd->bhqk', q, k) / size**0.5
    scores = jnp.where(
      mask[:, None, None, :], scores, jnp.finfo(scores.dtype).min
    )
    y = jnp.einsum('bhqk,bkhd->bqhd', nn.softmax(scores), v)
    y = nn.Dense(shape.width, name='attended')(y.reshape(x.shape))
    x = nn.LayerNorm(shape.epsilon, name='norm_attended')(x + y)
    y = nn.Dense(shape.hidden, name='up')(x)
    y = nn.Dense(shape.width, name='down')(ACTIVATIONS[shape.activation](y))
    return nn.LayerNorm(shape.epsilon, name='norm')(x + y)


class Bert(nn.Module):
  """A state per token, of BERT, RoBERTa or DistilBERT, without dropout.

  Attributes:
    shape: its sizes.

  References:
    Devlin et al., BERT, NAACL 2019. Liu et al., RoBERTa, 2019 (positions count
    from 2). Sanh et al., DistilBERT, 2019 (no token types). Weights are laid
    out as those of the library `transformers`.
  """

  shape: Shape

  @nn.compact
  def __call__(self, ids: Array, mask: Array) -> Array:
    """States ``[B, T, D]``.

    Args:
      ids: of tokens ``[B, T]``.
      mask: ``[B, T]``, true where there is a token. Padding stands behind.
    """
    shape = self.shape
    mask = mask.astype(bool)
    places = shape.first + jnp.arange(ids.shape[1])
    x = nn.Embed(shape.vocabulary, shape.width, name='tokens')(ids)
    x = x + nn.Embed(shape.positions, shape.width, name='positions')(places)
    if shape.types:
      types = jnp.zeros_like(ids)
      x = x + nn.Embed(shape.types, shape.width, name='types')(types)
    x = nn.LayerNorm(shape.epsilon, name='norm')(x)
    for i in range(shape.layers):
      x = Block(shape, name=f'block_{i}')(x, mask)
    return x


def read_shape(folder: str | os.PathLike) -> Shape:
  """The sizes that a folder's config.json tells.

  Raises:
    FileNotFoundError: if there is none.
    ValueError: if it is of another family, or of a form that is not read.
  """
  path = pathlib.Path(folder) / 'config.json'
  if not path.is_file():
    raise FileNotFoundError(
      f'Expected config.json in {folder}, found none; name the folder of a '
      'model of the BERT family.'
    )
  config = json.loads(path.read_text())
  family = config.get('model_type', 'bert')
  if family not in FAMILIES:
    raise ValueError(
      f'Expected a model of {", ".join(FAMILIES)} in {folder}, found '
      f'{family!r}; use one of these.'
    )
  kind = config.get('position_embedding_type', 'absolute')
  if kind != 'absolute' or config.get('is_decoder'):
    raise ValueError(
      'Expected an encoder with absolute positions, found '
      f'position_embedding_type {kind!r} and is_decoder '
      f'{bool(config.get("is_decoder"))} in {path}; use another model.'
    )
  shape = _distilbert(config) if family == 'distilbert' else _bert(config)
  if family not in ('bert', 'distilbert'):
    shape = shape._replace(first=config.get('pad_token_id', 1) + 1)
  if shape.activation not in ACTIVATIONS:
    raise ValueError(
      f'Expected an activation of {", ".join(ACTIVATIONS)} in {path}, found '
      f'{shape.activation!r}; use another model.'
    )
  return shape


def _bert(config):
  return Shape(
    vocabulary=config['vocab_size'],
    width=config['hidden_size'],
    layers=config['num_hidden_layers'],
    heads=config['num_attention_heads'],
    hidden=config['intermediate_size'],
    positions=config['max_position_embeddings'],
    types=config.get('type_vocab_size', 2),
    activation=config.get('hidden_act', 'gelu'),
    epsilon=config.get('layer_norm_eps', 1e-12),
  )


def _distilbert(config):
  return Shape(
    vocabulary=config['vocab_size'],
    width=config['dim'],
    layers=config['n_layers'],
    heads=config['n_heads'],
    hidden=config['hidden_dim'],
    positions=config['max_position_embeddings'],
    types=0,
    activation=config.get('activation', 'gelu'),
  )


# Where a part lies in files: of BERT and RoBERTa, and of DistilBERT.
EMBEDDINGS = {
  'tokens': 'embeddings.word_embeddings',
  'positions': 'embeddings.position_embeddings',
  'types': 'embeddings.token_type_embeddings',
}
BLOCKS = {
  'query': ('attention.self.query', 'attention.q_lin'),
  'key': ('attention.self.key', 'attention.k_lin'),
  'value': ('attention.self.value', 'attention.v_lin'),
  'attended': ('attention.output.dense', 'attention.out_lin'),
  'norm_attended': ('attention.output.LayerNorm', 'sa_layer_norm'),
  'up': ('intermediate.dense', 'ffn.lin1'),
  'down': ('output.dense', 'ffn.lin2'),
  'norm': ('output.LayerNorm', 'output_layer_norm'),
}


def read_params(
  arrays: Mapping[str, np.ndarray], shape: Shape
) -> dict[str, Any]:
  """Parameters of `Bert` from the arrays of a file.

  Args:
    arrays: by name, as `transformers` saves them, with or without the name of
      the model in front.
    shape: sizes that they must have.

  Raises:
    ValueError: if one is missing or has another shape.
  """
  prefix = r'^(bert|roberta|distilbert|camembert)\.'
  flat = {re.sub(prefix, '', name): array for name, array in arrays.items()}
  params: dict[str, Any] = {
    name: {'embedding': _pick(flat, f'{key}.weight')}
    for name, key in EMBEDDINGS.items()
    if name != 'types' or shape.types
  }
  params['norm'] = _layer(flat, 'embeddings.LayerNorm')
  old = any(name.startswith('transformer.layer.') for name in flat)
  for i in range(shape.layers):
    start = f'{"transformer" if old else "encoder"}.layer.{i}.'
    params[f'block_{i}'] = {
      part: _layer(flat, start + keys[old]) for part, keys in BLOCKS.items()
    }
  _check(params, shape)
  return params


def _layer(flat, name):
  """A dense layer or a normalization, as Flax has them."""
  # Files from before 2019 call them as TensorFlow did.
  old = f'{name}.gamma' in flat
  x = _pick(flat, f'{name}.{"gamma" if old else "weight"}')
  key, x = ('kernel', x.T) if x.ndim == 2 else ('scale', x)
  return {key: x, 'bias': _pick(flat, f'{name}.{"beta" if old else "bias"}')}


def _pick(flat, name):
  if name not in flat:
    raise ValueError(
      f'Expected an array {name!r} among the weights, found '
      f'{", ".join(sorted(flat)[:4])} and others; use a model of the BERT '
      'family that is saved whole.'
    )
  return np.asarray(flat[name], np.float32)


def _check(params, shape):
  ids = jax.ShapeDtypeStruct((1, 2), jnp.int32)
  wanted = jax.eval_shape(Bert(shape).init, jax.random.key(0), ids, ids)
  wanted = dict(_leaves(wanted['params']))
  for path, x in _leaves(params):
    if wanted[path].shape != x.shape:
      raise ValueError(
        f'Expected {path} of shape {wanted[path].shape}, as config.json tells, '
        f'found {x.shape}; the weights are of another model.'
      )


def _leaves(tree):
  return [
    ('/'.join(str(key.key) for key in path), x)
    for path, x in jax.tree_util.tree_flatten_with_path(tree)[0]
  ]

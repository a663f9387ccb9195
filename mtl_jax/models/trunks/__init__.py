"""Trunks: the part of a model that tasks share.

Every trunk is a linen module called as ``trunk(batch, train=...)`` with the
arrays of one stream; it returns features ``[B, ...]``. Its fields are its
hyperparameters.
"""

from mtl_jax.models.trunks.cnn_text import CNNText
from mtl_jax.models.trunks.lenet import LeNet
from mtl_jax.models.trunks.lstm import LSTM
from mtl_jax.models.trunks.mlp import MLP
from mtl_jax.models.trunks.resnet import ResNet
from mtl_jax.models.trunks.transformer import Transformer

TRUNKS = {
  'cnn_text': CNNText,
  'lenet': LeNet,
  'lstm': LSTM,
  'mlp': MLP,
  'resnet': ResNet,
  'transformer': Transformer,
}

__all__ = [
  'CNNText',
  'LSTM',
  'LeNet',
  'MLP',
  'ResNet',
  'TRUNKS',
  'Transformer',
]

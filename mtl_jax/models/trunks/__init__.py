"""Trunks: the part of a model that tasks share.

Every trunk is a linen module called as ``trunk(batch, train=...)`` with the
arrays of one stream; it returns features ``[B, ...]``. Its fields are its
hyperparameters.
"""

from mtl_jax.models.trunks.causal_cnn import CausalCNN
from mtl_jax.models.trunks.cnn_text import CNNText
from mtl_jax.models.trunks.esasrec import ESASRec
from mtl_jax.models.trunks.fusion import Fusion
from mtl_jax.models.trunks.gru import GRU
from mtl_jax.models.trunks.hstu import HSTU
from mtl_jax.models.trunks.lenet import LeNet
from mtl_jax.models.trunks.lstm import LSTM
from mtl_jax.models.trunks.mlp import MLP
from mtl_jax.models.trunks.resnet import ResNet
from mtl_jax.models.trunks.sasrec import SASRec
from mtl_jax.models.trunks.transformer import Transformer

TRUNKS = {
  'causal_cnn': CausalCNN,
  'cnn_text': CNNText,
  'esasrec': ESASRec,
  'gru': GRU,
  'hstu': HSTU,
  'fusion': Fusion,
  'lenet': LeNet,
  'lstm': LSTM,
  'mlp': MLP,
  'resnet': ResNet,
  'sasrec': SASRec,
  'transformer': Transformer,
}

__all__ = [
  'CNNText',
  'CausalCNN',
  'ESASRec',
  'GRU',
  'HSTU',
  'Fusion',
  'LSTM',
  'LeNet',
  'MLP',
  'ResNet',
  'SASRec',
  'TRUNKS',
  'Transformer',
]

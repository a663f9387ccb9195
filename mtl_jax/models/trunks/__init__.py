"""Trunks: the part of a model that tasks share.

Every trunk is a linen module called as ``trunk(batch, train=...)`` with the
arrays of one stream; it returns features ``[B, ...]``. Its fields are its
hyperparameters.
"""

from mtl_jax.models.trunks.cnn_text import CNNText
from mtl_jax.models.trunks.lstm import LSTM
from mtl_jax.models.trunks.mlp import MLP

TRUNKS = {'cnn_text': CNNText, 'lstm': LSTM, 'mlp': MLP}

__all__ = ['CNNText', 'LSTM', 'MLP', 'TRUNKS']

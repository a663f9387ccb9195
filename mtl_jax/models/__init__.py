"""Models: trunks, heads, and who shares what."""

from mtl_jax.models.base import MultiTaskModel
from mtl_jax.models.heads import HEADS, LinearHead, MLPHead
from mtl_jax.models.inputs import INPUTS, InputEncoder
from mtl_jax.models.parameter_table import ParameterRow, parameter_table
from mtl_jax.models.sharing import SHARING, hard_sharing
from mtl_jax.models.trunks import (
  LSTM,
  MLP,
  TRUNKS,
  CNNText,
  LeNet,
  ResNet,
  Transformer,
)

__all__ = [
  'CNNText',
  'HEADS',
  'INPUTS',
  'InputEncoder',
  'LSTM',
  'LeNet',
  'LinearHead',
  'MLP',
  'MLPHead',
  'MultiTaskModel',
  'ParameterRow',
  'ResNet',
  'SHARING',
  'TRUNKS',
  'Transformer',
  'hard_sharing',
  'parameter_table',
]

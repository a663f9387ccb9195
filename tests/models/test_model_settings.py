"""Settings out of range, and heads by themselves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import models


@pytest.mark.parametrize(
  'build, message',
  [
    (
      lambda: models.LSTM(pool='first'),
      "LSTM: expected pool to be one of 'last', 'mean', 'max', 'none', found "
      "'first'",
    ),
    (
      lambda: models.MLP(activation='relo'),
      "one of 'elu', .*'tanh', found 'relo'; did you mean 'relu'",
    ),
    (lambda: models.MLP(norm='group'), "norm to be one of 'none', 'batch'"),
    (
      lambda: models.LeNet(conv='patches'),
      "LeNet: expected conv to be one of 'auto', 'xla', 'product', found",
    ),
    (lambda: models.ResNet(conv='auto'), "one of 'xla', 'product', found"),
    (lambda: models.ResNet(norm='layer'), "one of 'batch', 'group', 'none'"),
    (
      lambda: models.CNNText(filters=0),
      'CNNText: expected filters to be whole numbers of at least 1, found 0',
    ),
    (lambda: models.LSTM(features=2.5), 'found 2.5'),
    (lambda: models.LeNet(channels=(3, -1)), r'channels .* found \(3, -1\)'),
    (lambda: models.LinearHead(0), 'LinearHead: expected size'),
    (
      lambda: models.MLPHead(3, dropout=1.0),
      r'MLPHead: expected dropout in \[0, 1\), found 1.0; it is the share',
    ),
    (lambda: models.LSTM(dropout=-0.1), r'in \[0, 1\), found -0.1'),
    (
      lambda: models.ResNet(widths=(4, 8), blocks=(1,)),
      r'expected blocks for 2 stages, one per width, found \(1,\)',
    ),
    (
      lambda: models.Transformer(features=12, num_heads=4),
      'multiple of twice num_heads = 4 for rotary positions, found 12; change',
    ),
    (
      lambda: models.Transformer(features=10, num_heads=4, positions='learned'),
      'expected features to be a multiple of num_heads = 4, found 10; change',
    ),
    (
      lambda: models.Transformer(positions='rotery'),
      "one of 'rotary', 'learned', 'none', found 'rotery'; did you mean",
    ),
    (lambda: models.Transformer(pool='max'), "one of 'first', 'last', 'mean'"),
    (lambda: models.Transformer(hidden=0), 'Transformer: expected hidden'),
    (
      lambda: models.SASRec(num_heads=3),
      'expected features to be a multiple of num_heads = 3, found 64; change',
    ),
    (
      lambda: models.SASRec(positions='rotary'),
      "expected positions to be one of 'first', 'last', 'none', found 'rotary'",
    ),
    (
      lambda: models.ESASRec(times='t', moment='then'),
      "expected moment to be one of 'next', 'own', found 'then'; name",
    ),
    (
      lambda: models.ESASRec(next_times='t'),
      "expected next_times only with times and moment 'next', found 't' with "
      "times = None and moment = 'next'; set both",
    ),
    (
      lambda: models.HSTU(num_heads=3, qk_features=4),
      'expected v_features >= 1, or 0 and features that num_heads = 3 divides, '
      'found 0 and 64; set v_features',
    ),
    (
      lambda: models.HSTU(time_buckets=0),
      'expected time_buckets to be whole numbers of at least 1, found 0; give',
    ),
    (
      lambda: models.CausalCNN(window=0),
      'expected window to be whole numbers of at least 1, found 0; give',
    ),
    (
      lambda: models.GRU(pool='first'),
      "expected pool to be one of 'last', 'mean', 'max', 'none', found 'first'",
    ),
  ],
)
def test_a_setting_out_of_range(build, message):
  with pytest.raises(ValueError, match=message):
    build()


@pytest.mark.parametrize(
  'trunk, batch, message',
  [
    (
      models.MLP(),
      {'image': jnp.zeros((2, 3)), 'label': jnp.zeros(2)},
      "MLP: expected an array 'inputs' in the batch, found image, label; set",
    ),
    (
      models.LSTM(mask='mask'),
      {'inputs': jnp.zeros((2, 3, 4))},
      "LSTM: expected an array 'mask' in the batch, found inputs; set mask to",
    ),
    (
      models.LSTM(),
      {'inputs': jnp.zeros((2, 3))},
      r'LSTM: expected inputs \[B, T, D\], found an array of shape \(2, 3\)',
    ),
    (
      models.CNNText(),
      {'tokens': jnp.zeros((2, 3))},
      r'CNNText: expected whole-number token ids \[B, T\], found float32',
    ),
    (
      models.Transformer(),
      {'inputs': jnp.zeros((2, 3))},
      r'expected whole-number token ids \[B, T\] or arrays \[B, T, N\], '
      r'found float32 of shape \(2, 3\); tokenize',
    ),
    (
      models.Transformer(positions='learned', max_length=4),
      {'inputs': jnp.zeros((2, 5, 3))},
      'expected at most max_length = 4 steps, found 5; set max_length, or',
    ),
    (
      models.SASRec(max_length=4),
      {'inputs': jnp.zeros((2, 5, 3))},
      'SASRec: expected at most max_length = 4 steps, found 5; set max_length.',
    ),
    (
      models.HSTU(max_length=4),
      {'inputs': jnp.zeros((2, 5, 3))},
      'HSTU: expected at most max_length = 4 steps, found 5; set max_length.',
    ),
    (
      models.ESASRec(times='when'),
      {'inputs': jnp.zeros((2, 5, 3))},
      "ESASRec: expected an array 'when' in the batch, found inputs; set times",
    ),
    (
      models.CausalCNN(),
      {'inputs': jnp.zeros((2, 3))},
      r'CausalCNN: expected whole-number token ids \[B, T\] or arrays',
    ),
    (
      models.GRU(),
      {'inputs': jnp.zeros((2, 3))},
      r'GRU: expected inputs \[B, T, D\], found an array of shape \(2, 3\)',
    ),
    (
      models.ResNet(),
      {'image': jnp.zeros((2, 3))},
      r'ResNet: expected images \[B, H, W\] or \[B, H, W, C\], found an array',
    ),
    (
      models.LeNet(),
      {'image': jnp.zeros((2, 9, 9))},
      'LeNet: expected an image of at least 6 pixels before each convolution, '
      'found 2 x 2',
    ),
  ],
)
def test_a_batch_that_does_not_fit(trunk, batch, message):
  with pytest.raises(ValueError, match=message):
    trunk.init(jax.random.key(0), batch, train=False)


# Heads that read any features; the others have tests of their own.
PLAIN_HEADS = {'linear': models.LinearHead, 'mlp': models.MLPHead}


def test_heads():
  features = jnp.arange(6.0).reshape(2, 3) - 2
  assert PLAIN_HEADS.items() <= models.HEADS.items()
  for name, head in PLAIN_HEADS.items():
    outputs, variables = head(4).init_with_output(
      jax.random.key(0), features, {}, train=False
    )
    x = np.asarray(features)
    layers = sorted(variables['params'])
    for layer in layers:
      weights = variables['params'][layer]
      x = np.maximum(x, 0) if layer != layers[0] else x
      x = x @ weights['kernel'] + weights['bias']
    np.testing.assert_allclose(outputs, x, atol=1e-5)
    assert len(layers) == {'linear': 1, 'mlp': 2}[name]


def test_heads_on_sequences_and_in_bfloat16():
  features = jnp.ones((2, 5, 3))
  for head in PLAIN_HEADS.values():
    outputs, variables = head(4, dtype='bfloat16').init_with_output(
      jax.random.key(0), features, {}, train=False
    )
    assert outputs.shape == (2, 5, 4)
    assert outputs.dtype == jnp.bfloat16
    for leaf in jax.tree.leaves(variables):
      assert leaf.dtype == jnp.float32

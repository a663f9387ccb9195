"""Two overlapping digits in one image, through a residual network.

MultiMNIST of 5,000 MNIST digits that a pip package carries: a small ResNet
with BatchNorm reads a 28 x 28 image of two digits; one head names the left
one, the other the right one. PCGrad makes one direction of the two gradients.

About 70 seconds on 2 CPU cores; the digits (1.4 MB) are fetched once with pip.
All three ways to run it give the same model, batch statistics included:

  python launch.py --config=configs/digit_pairs_resnet.py --workdir=runs/digits
  XLA_FLAGS=--xla_force_host_platform_device_count=2 python launch.py
      --config=configs/digit_pairs_resnet.py --workdir=runs/digits_shard_map
      --config.training.mode=shard_map
"""

import mtl_jax


def get_config():
  """The config; every key is explained in mtl_jax/config/sections.py."""
  config = mtl_jax.default_config()
  config.targets.left = {'kind': 'classification'}
  config.targets.right = {'kind': 'classification'}
  config.combinator.name = 'pcgrad'

  config.data.name = 'two_digits'
  config.data.features = {'image': 'image', 'left': 'left', 'right': 'right'}
  config.data.batch_size = 64

  config.model.trunk = {'name': 'resnet', 'widths': (16, 32, 64)}
  config.model.head = {'name': 'mlp', 'widths': (64,)}
  config.optimizer.learning_rate = 2e-3
  config.optimizer.schedule = 'cosine'
  config.training.epochs = 10
  return config

"""MultiFashion, ten methods on five seeds each: does any beat equal weights?

The study of configs/papers/multi_mnist.py on pairs of Fashion-MNIST images
(Lin et al., NeurIPS 2019, in the construction of Sener and Koltun): the same
network, methods, steps and claims, declared before anything was run.

The images come from the Debian package dataset-fashion-mnist if that is there,
from a folder of its four files that --config.data.settings.path names, or else
through TFDS. The argument `paper` trains for 100 epochs on all images, as the
papers do.

Not run: none of this, in full. Estimated from 40 steps of each method on
images of noise: about 45 minutes on 2 CPU cores; `paper`, not run here, about a
day.

  python launch.py --config=configs/papers/multi_fashion.py
  python launch.py --config=configs/papers/multi_fashion.py:paper
"""

import pathlib

import mtl_jax

BASE = pathlib.Path(__file__).parent / 'multi_mnist.py'


def get_config(protocol='short'):
  """The config; every key is explained in mtl_jax/settings.py.

  Args:
    protocol: 'short' or 'paper', see above.

  Raises:
    ValueError: if it is neither.
  """
  if protocol not in ('short', 'paper'):
    raise ValueError(
      f'Expected the argument short or paper, found {protocol!r}; write '
      'configs/papers/multi_fashion.py:paper, or none.'
    )
  config = mtl_jax.load_config(f'{BASE}:{protocol}')
  config.data.settings = {'construction': 'sener', 'source': 'fashion'}
  return config

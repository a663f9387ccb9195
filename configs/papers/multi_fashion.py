"""MultiFashion, ten methods on five seeds each: does any beat equal weights?

The study of configs/papers/multi_mnist.py on pairs of Fashion-MNIST images
(Lin et al., NeurIPS 2019, in the construction of Sener and Koltun): the same
network, methods, steps and claims, declared before anything was run.

The images come from the Debian package dataset-fashion-mnist if that is there,
from a folder of its four files that --config.data.settings.path names, or else
through TFDS. The argument `paper` trains for 100 epochs on all images, as the
papers do.

Seen in the runs: seven of the nine claims hold; those of uncertainty weighting
and Nash-MTL are undecided (0.5 and 0.4 points). Uncertainty weighting is better
than equal weights by a paired test of delta-m, random weights are worse, and
everything stays behind the single-task models, by 2.8 to 4.2%.

36 minutes on 2 CPU cores that did other work too; `paper`, not run here, about
a day.

  python launch.py --config=configs/papers/multi_fashion.py
  python launch.py --config=configs/papers/multi_fashion.py:paper
"""

import pathlib

import mtl_jax

BASE = pathlib.Path(__file__).parent / 'multi_mnist.py'


def get_config(protocol='short'):
  """The config; every key is explained in mtl_jax/config/sections.py.

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

"""A generated funnel: who clicks, and who of these converts.

Unlike in a log, the probability of a conversion given a click is known of every
example, clicked or not: what a model says of the whole space can be checked,
and not only on clicked examples, which are not like the others.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from mtl_jax.data.builders import generated_splits

DIMENSION = 16
# Of the logits of click, and of conversion given a click.
BIAS, SLOPE = -2.0, 1.5


class Funnel(NamedTuple):
  """Generated examples.

  Attributes:
    inputs: ``[N, 16]`` float32, standard normal.
    click: ``[N]`` in {0, 1}.
    conversion: ``[N]`` in {0, 1}, 1 only where there is a click.
    conversion_if_clicked: the same, and -1 = missing where there is none.
    click_probability: ``[N]`` float32, P(click | inputs).
    conversion_probability: ``[N]`` float32, P(conversion | click, inputs).
  """

  inputs: np.ndarray
  click: np.ndarray
  conversion: np.ndarray
  conversion_if_clicked: np.ndarray
  click_probability: np.ndarray
  conversion_probability: np.ndarray


def generate(correlation: float, seed: int, count: int) -> Funnel:
  r"""Examples of a funnel of two events.

  With orthonormal :math:`u_1, u_2` and inputs :math:`x \sim N(0, I)`,

  .. math::

    z_1 &= u_1^\top x, \quad
    z_2 = \rho z_1 + \sqrt{1 - \rho^2} u_2^\top x, \\
    P(\text{click}) &= \sigma(a + b (z_1 + \sin z_1)), \quad
    P(\text{conversion} \mid \text{click}) = \sigma(a + b (z_2 + \sin z_2)) ,

  a = -2 and b = 1.5. At :math:`\rho > 0` those who click are those who would
  convert, so that clicked examples overstate the others' conversions.

  Args:
    correlation: :math:`\rho` in [-1, 1].
    seed: of everything.
    count: N.

  Returns:
    The examples; inputs and clicks of one seed are the same for all rho.
  """
  # One generator a purpose, so that no setting shifts the draws of another.
  seeds = np.random.SeedSequence(seed).spawn(3)
  basis, draws, events = map(np.random.default_rng, seeds)
  u, _ = np.linalg.qr(basis.standard_normal((DIMENSION, 2)))
  x = draws.standard_normal((count, DIMENSION), np.float32)
  first, rest = (x @ u).T
  second = correlation * first + np.sqrt(1 - correlation**2) * rest
  p, q = (_probability(z) for z in (first, second))
  chance = events.random((2, count))
  click = chance[0] < p
  conversion = click & (chance[1] < q)
  return Funnel(
    inputs=x,
    click=click.astype(np.int64),
    conversion=conversion.astype(np.int64),
    conversion_if_clicked=np.where(click, conversion, -1).astype(np.int64),
    click_probability=p.astype(np.float32),
    conversion_probability=q.astype(np.float32),
  )


def _probability(z):
  return 1 / (1 + np.exp(-BIAS - SLOPE * (z + np.sin(z))))


@dataclasses.dataclass(kw_only=True)
class FunnelConfig(tfds.core.BuilderConfig):
  """Settings of the generated funnel; see `funnel_config`."""

  correlation: float = 0.5
  seed: int = 0
  count: int = 60_000


def funnel_config(
  correlation: float = 0.5, seed: int = 0, count: int = 60_000
) -> FunnelConfig:
  """A config whose name tells its settings apart, so that all are kept.

  Args:
    correlation: of what decides about the click and about the conversion, in
      [-1, 1].
    seed: another seed is another data set.
    count: examples of all splits; a sixth validates, a sixth tests.

  Raises:
    ValueError: if a setting is out of its range.
  """
  if not -1 <= correlation <= 1:
    raise ValueError(
      f'click_funnel: expected correlation in [-1, 1], found {correlation}; '
      'it is the cosine of two directions.'
    )
  if count < 6:
    raise ValueError(
      f'click_funnel: expected count >= 6, found {count}; a sixth of them is '
      'a split.'
    )
  return FunnelConfig(
    # pyrefly: ignore[unexpected-keyword]  (a field of TFDS's own dataclass)
    name=f'correlation{correlation:g}_seed{seed}_{count}',
    correlation=correlation,
    seed=seed,
    count=count,
  )


class ClickFunnel(tfds.core.GeneratorBasedBuilder):
  """Generated clicks and conversions, whose probabilities are known."""

  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': 'Two events of 16 inputs.'}
  BUILDER_CONFIGS = [funnel_config(rho) for rho in (0.0, 0.5, 1.0)]

  def _info(self) -> tfds.core.DatasetInfo:
    answers = tfds.features.ClassLabel(names=['no', 'yes'])
    return self.dataset_info_from_configs(
      description='Clicks, and conversions of clicked examples.',
      features=tfds.features.FeaturesDict(
        {
          'inputs': tfds.features.Tensor(
            shape=(DIMENSION,),
            dtype=np.float32,
            encoding=tfds.features.Encoding.BYTES,
          ),
          'click': answers,
          'conversion': answers,
          'conversion_if_clicked': answers,
          'click_probability': np.float32,
          'conversion_probability': np.float32,
        }
      ),
      disable_shuffling=True,  # they are independent as they are
    )

  def _split_generators(self, dl_manager):
    del dl_manager  # Nothing is downloaded.
    config = self.builder_config
    data = generate(config.correlation, config.seed, config.count)
    part = config.count // 6
    a, b = config.count - 2 * part, config.count - part
    return generated_splits.in_order(data, a, b)

  _generate_examples = staticmethod(generated_splits.rows)

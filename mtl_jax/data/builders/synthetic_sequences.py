"""Generated sequences of `ring_sequences` as a data set of TFDS."""

import dataclasses

import numpy as np
import tensorflow_datasets as tfds

from mtl_jax.data.builders import generated_splits, ring_sequences as ring


@dataclasses.dataclass(kw_only=True)
class SyntheticConfig(tfds.core.BuilderConfig):
  """Settings of the generated sequences; see `synthetic_config`."""

  relatedness: float = 0.5
  seed: int = 0
  count: int = 8000
  length: int = 100
  noise: float = 0.5
  labelled: float = 0.25


def synthetic_config(
  relatedness: float = 0.5,
  seed: int = 0,
  count: int = 8000,
  length: int = 100,
  noise: float = 0.5,
  labelled: float = 0.25,
) -> SyntheticConfig:
  """A config whose name tells its settings apart, so that all are kept.

  Args:
    relatedness: in [0, 1]: 0 = the tasks share no factor, 1 = all factors.
    seed: another seed is another data set, directions included.
    count: sequences of all splits; 80% train, 10% validate, 10% test.
    length: steps of a sequence.
    noise: standard deviation of the noise on both labels, whose signal has 1.
    labelled: share of the training labels of each task that are known, (0, 1].
      Other splits have all of them.

  Raises:
    ValueError: if a setting is out of its range.
  """
  if not 0 <= relatedness <= 1:
    raise ValueError(
      f'synthetic_sequences: expected relatedness in [0, 1], found '
      f'{relatedness}; 0 means unrelated tasks, 1 the same factors.'
    )
  if count < 10 or length < 1 or noise < 0:
    raise ValueError(
      'synthetic_sequences: expected count >= 10, length >= 1 and noise >= 0, '
      f'found {count}, {length} and {noise}; enlarge them.'
    )
  if not 0 < labelled <= 1:
    raise ValueError(
      'synthetic_sequences: expected labelled in (0, 1], found '
      f'{labelled}; it is the share of training labels that are known.'
    )
  parts = (f'relatedness{relatedness:g}', f'seed{seed}', f'{count}x{length}')
  return SyntheticConfig(
    # pyrefly: ignore[unexpected-keyword]  (a field of TFDS's own dataclass)
    name='_'.join((*parts, f'noise{noise:g}', f'labelled{labelled:g}')),
    relatedness=relatedness,
    seed=seed,
    count=count,
    length=length,
    noise=noise,
    labelled=labelled,
  )


class SyntheticSequences(tfds.core.GeneratorBasedBuilder):
  """Generated sequences with a class and a value, related as a dial says."""

  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': 'Neighbouring channels of a ring correlate.'}
  BUILDER_CONFIGS = [synthetic_config(r) for r in (0.5, 0.0, 1.0)]

  def _info(self) -> tfds.core.DatasetInfo:
    def floats(*shape):
      return tfds.features.Tensor(
        shape=shape, dtype=np.float32, encoding=tfds.features.Encoding.BYTES
      )

    config = self.builder_config
    return self.dataset_info_from_configs(
      description='Sequences of eight channels whose neighbours correlate.',
      features=tfds.features.FeaturesDict(
        {
          'sequence': floats(config.length, ring.CHANNELS),
          'category': tfds.features.ClassLabel(num_classes=ring.CLASSES),
          'value': np.float32,
          'shared': floats(ring.CHANNELS // 2),
          'private': floats(ring.CHANNELS // 2),
        }
      ),
      disable_shuffling=True,  # they are independent as they are
    )

  def _split_generators(self, dl_manager):
    del dl_manager  # Nothing is downloaded.
    config = self.builder_config
    data = ring.generate(
      config.relatedness, config.seed, config.count, config.length, config.noise
    )
    a, b = config.count * 8 // 10, config.count * 9 // 10
    data = ring.hide_labels(data, a, config.labelled, config.seed)
    return generated_splits.in_order(data, a, b)

  _generate_examples = staticmethod(generated_splits.rows)

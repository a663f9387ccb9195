"""Inputs taken away: what stays, and what is no longer known."""

import numpy as np
import pytest

from mtl_jax import tasks
from mtl_jax.evaluation import knockouts

N, F = 40, 3


@pytest.fixture(name='arrays')
def make_arrays():
  rng = np.random.default_rng(0)
  mask = (rng.random((N, 1)) > 0.3).astype(np.float32)
  frame_mask = (rng.random((N, F)) > 0.4).astype(np.float32)
  frames = rng.normal(3, 2, (N, F, 50)).astype(np.float32)
  return {
    'text': (rng.normal(1, 2, (N, 200)) * mask).astype(np.float32),
    'text_mask': mask,
    'frames': frames * frame_mask[..., None],
    'frame_mask': frame_mask,
    'words': rng.integers(1, 9, (N, 4)),
    'label': np.arange(N),
  }


def test_a_permutation_moves_value_and_mask_together(arrays):
  found = knockouts.knock_out(arrays, 'text', 'permuted')
  rows = [
    np.flatnonzero(
      (arrays['text'] == x).all(1) & (arrays['text_mask'] == m)[:, 0]
    )
    for x, m in zip(found['text'], found['text_mask'], strict=True)
  ]
  assert all(len(row) for row in rows)
  there = found['text_mask'][:, 0] > 0
  moved = [row[0] for row, real in zip(rows, there, strict=True) if real]
  assert len(set(moved)) == len(moved)  # each once
  assert not np.any(np.array(moved) == np.flatnonzero(there))
  for name in ('frames', 'label'):
    assert found[name] is arrays[name]


def test_absent_and_zero_differ_in_the_mask(arrays):
  absent = knockouts.knock_out(arrays, 'frames', 'absent')
  assert not absent['frame_mask'].any()
  assert absent['frames'] is arrays['frames']
  zero = knockouts.knock_out(arrays, 'frames', 'zero')
  assert not zero['frames'].any()
  assert zero['frame_mask'] is arrays['frame_mask']


def test_noise_has_the_moments_of_what_is_there(arrays):
  for name in ('text', 'frames'):
    found = knockouts.knock_out(arrays, name, 'noise')
    mask = arrays[tasks.mask_key(name)].reshape(-1) > 0
    before, after = (
      x[name].reshape(-1, x[name].shape[-1]) for x in (arrays, found)
    )
    assert not after[~mask].any()
    assert abs(after[mask].mean() - before[mask].mean()) < 0.1
    assert abs(after[mask].std() - before[mask].std()) < 0.15
    together = np.corrcoef(before[mask].ravel(), after[mask].ravel())[0, 1]
    assert abs(together) < 0.1
  words = knockouts.knock_out(arrays, 'words', 'noise')['words']
  assert set(words.ravel()) <= set(arrays['words'].ravel())
  assert (words != arrays['words']).mean() > 0.5
  mask = np.arange(arrays['words'].shape[1]) < 2  # the rest is padding
  padded = {
    'words': np.where(mask, arrays['words'] + 1, 0),
    'word_mask': np.broadcast_to(mask, arrays['words'].shape).astype(float),
  }
  words = knockouts.knock_out(padded, 'words', 'noise')['words']
  assert (words[:, :2] > 0).all() and not words[:, 2:].any()


def test_what_the_data_lack_is_told(arrays):
  for name, how in (('sound', 'zero'), ('words', 'absent')):
    with pytest.raises(ValueError, match='name an input that they have'):
      knockouts.knock_out(arrays, name, how)
  with pytest.raises(ValueError, match="permuted, noise, found 'none'; name"):
    knockouts.knock_out(arrays, 'text', 'none')

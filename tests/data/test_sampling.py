"""Drawing streams: probabilities, exact quotas, positions that do not skip."""

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from mtl_jax.data import sampling

SIZES = st.lists(st.integers(1, 10**6), min_size=1, max_size=6)


@hypothesis.given(sizes=SIZES, temperature=st.floats(0.5, 100))
def test_probabilities_against_the_formula(sizes, temperature):
  found = sampling.probabilities(sampling.Draw(temperature), sizes)
  weights = np.array(sizes, float) ** (1 / temperature)
  np.testing.assert_allclose(found, weights / weights.sum(), rtol=1e-9)


def test_named_ways_to_draw():
  sizes = [600, 300, 100]
  np.testing.assert_allclose(
    sampling.probabilities(sampling.proportional(), sizes), [0.6, 0.3, 0.1]
  )
  np.testing.assert_allclose(
    sampling.probabilities(sampling.uniform(), sizes), [1 / 3] * 3
  )


@hypothesis.given(sizes=SIZES, steps=st.integers(6, 500))
def test_quotas_fill_an_epoch_and_leave_no_stream_out(sizes, steps):
  share = sampling.probabilities(sampling.proportional(), sizes)
  counts = sampling.quotas(share, steps)
  assert counts.sum() == steps
  assert counts.min() >= 1
  # Off by rounding only, but for what the smallest streams are given.
  assert (np.abs(counts - share * steps) <= len(sizes)).all()


def test_a_plan_counts_the_draws_of_each_stream():
  plan = sampling.make_plan(sampling.Draw(2.0), [500, 70, 9], 40, seed=1)
  seen = {0: 0, 1: 0, 2: 0}
  for step in range(200):
    stream, position = plan(step)
    assert position == seen[stream]
    seen[stream] += 1
  share = sampling.probabilities(sampling.Draw(2.0), [500, 70, 9])
  quotas = sampling.quotas(share, 40)
  assert list(seen.values()) == (5 * quotas).tolist()
  # Any step can be asked for alone, and epochs differ in their order.
  fresh = sampling.make_plan(sampling.Draw(2.0), [500, 70, 9], 40, seed=1)
  assert fresh(137) == plan(137)
  orders = {tuple(plan(e * 40 + i)[0] for i in range(40)) for e in range(5)}
  assert len(orders) == 5


def test_a_temperature_must_be_positive():
  with pytest.raises(ValueError, match='a temperature above 0, found 0'):
    sampling.Draw(0)

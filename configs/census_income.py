"""Census-Income (KDD): does somebody earn above 50,000, and ever marry?

The first pair of tasks of MMoE's paper: income above 50,000 dollars a year
(6.2% of the training file) and never married (43.3%), through one hidden layer
that both share and a small tower each. Inputs are 7 numbers, and 31 categories
as embeddings of 8; marital status, education and income are not among them.
The second pair is `--config.tasks=college,never_married`.

199,523 people train; a random half of the test file's 99,762 validates and the
other half tests. Papers differ in what they feed and drop, so that their AUCs
are to be compared within a table only.

Seed 0, test split, best checkpoint by validation: AUC 0.9409 of income and
0.9944 of never married; of the second pair 0.8872 of college and 0.9944 of
never married. One run each. About 30 seconds on 2 CPU cores, and as much once
to prepare the data (9 MB), which are fetched with pip.

  python launch.py --config=configs/census_income.py --workdir=runs/income

Ma et al., Modeling task relationships in multi-task learning with multi-gate
mixture-of-experts, KDD 2018, section 5.
"""

import mtl_jax

# Values of each category in the training file, and one for all others.
CATEGORIES = {
  'class_of_worker': 10, 'industry': 53, 'occupation': 48, 'enrolled': 4,
  'major_industry': 25, 'major_occupation': 16, 'race': 6,
  'hispanic_origin': 11, 'sex': 3, 'union_member': 4,
  'unemployment_reason': 7, 'full_or_part_time': 9, 'tax_filer': 7,
  'previous_region': 7, 'previous_state': 52, 'household_detail': 39,
  'household_summary': 9, 'migration_msa': 11, 'migration_region': 10,
  'migration_within_region': 11, 'same_house': 4, 'previous_sunbelt': 5,
  'family_under_18': 6, 'father_birth': 44, 'mother_birth': 44, 'birth': 44,
  'citizenship': 6, 'own_business': 4, 'veteran_questionnaire': 4,
  'veteran_benefits': 4, 'year': 3,
}  # fmt: skip


def get_config():
  """The config; every key is explained in mtl_jax/config/sections.py."""
  config = mtl_jax.default_config()
  config.tasks = 'income,never_married'
  config.targets.income = {'kind': 'binary'}
  config.targets.never_married = {'kind': 'binary'}
  config.targets.college = {'kind': 'binary'}

  config.data.name = 'census_income'
  names = [*CATEGORIES, 'numbers', 'income', 'never_married', 'college']
  config.data.features = {name: name for name in names}
  config.data.standardize = ('numbers',)
  config.data.batch_size = 1024
  config.data.evaluation_batch_size = 4096

  config.model.inputs = {
    'name': 'encoder',
    'categorical': {name: (size, 8) for name, size in CATEGORIES.items()},
    'numeric': ('numbers',),
  }
  config.model.trunk = {'name': 'mlp', 'widths': (128,)}
  config.model.head = {'name': 'mlp', 'widths': (32,)}
  config.optimizer.learning_rate = 1e-3
  config.training.epochs = 3
  return config

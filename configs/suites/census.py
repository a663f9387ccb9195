"""Six architectures x six methods on Census-Income, five seeds each.

Income above 50,000 dollars and never married, the first pair of tasks of MMoE's
paper (Ma et al., KDD 2018, section 5), of configs/census_income.py: what shares
crossed with how the two losses are combined, 36 cells with single-task models
beside them. Batch 1024, 3 epochs, Adam at 1e-3, nothing tuned. All networks
have as many parameters as shared-bottom's of 128 units, within 2.5%: gates are
counted, so that experts are smaller (`SIZES`). The twins of equal size have so
small a trunk that both together are as large as one of these.

Claims, declared before anything was run: the orders of the architectures in
the papers of MMoE and PLE, of mean AUC with equal weights; that architectures
of one size are within half a point of each other, as they are inside each
published table; and that no method beats equal weights by more than half a
point (Kurin et al., NeurIPS 2022). `benchmarks/census.py` sets the grid beside
published rows and gradient boosting. 66 minutes on 2 CPU cores that ran tests,
too.

  python launch.py --config=configs/suites/census.py

As configs, not run for the results that are shown:

  configs/suites/census.py:group2       college and never married
  configs/suites/census.py:full         all architectures but groups, 20 seeds
  configs/suites/census.py:full_group2  both
"""

import pathlib

import mtl_jax

BASE = pathlib.Path(__file__).parent.parent / 'census_income.py'
METHODS = {
  'equal': ('equal', {'name': 'weighted_sum'}),
  'uncertainty': ('uncertainty', {'name': 'uncertainty'}),
  'pcgrad': ('PCGrad', {'name': 'pcgrad'}),
  'cagrad': ('CAGrad', {'name': 'cagrad'}),
  'nash_mtl': ('Nash-MTL', {'name': 'nash_mtl'}),
  'famo': ('FAMO', {'name': 'famo'}),
}
# Label, options, and units of the trunk, an expert or one of the trunks. The
# parameters without 4,080 of embeddings:
SIZES = {
  'hard': ('Shared-bottom', {}, 128),  # 41,090
  'omoe': ('OMoE', {'experts': 8}, 18),  # 40,186
  'mmoe': ('MMoE', {'experts': 8}, 17),  # 40,114
  'cross_stitch': ('Cross-stitch', {}, 71),  # 41,030
  'ple': (
    'PLE',
    {'levels': 2, 'shared_experts': 4, 'task_experts': 2},
    16,
  ),  # 41,390
  'dselect_k': ('DSelect-k', {'experts': 8, 'selectors': 2}, 17),  # 40,114
}
# Of the full grid besides.
MORE = {
  'aitm': ('AITM', {}, 52),  # 41,106
  'branching': ('Learned branching', {'experts': 4}, 33),  # 40,546
  'cgc': ('CGC', {'shared_experts': 4, 'task_experts': 2}, 18),  # 41,206
  'film': ('FiLM', {}, 126),  # 40,954
  'home': ('HoME', {'shared_experts': 2, 'task_experts': 2}, 21),  # 40,414
  'lora': ('LoRA', {'rank': 4}, 119),  # 41,202
  'mtan': ('MTAN', {}, 68),  # 40,930
  'pepnet': ('PEPNet', {'hidden': 16}, 23),  # 40,959
  'routing': ('Task routing', {}, 128),  # 41,090
  'sluice': ('Sluice', {}, 72),  # 41,618
  'snr': ('SNR', {}, 23),  # 40,082
  'soft': ('Soft sharing', {}, 71),  # 41,026
  'stem': ('STEM', {}, 38),  # 41,436
}
# Units of the trunk of each of two twins: 18,497, and embeddings of its own.
TWIN = 64
MMOE = 'Ma et al., KDD 2018'
PLE = 'Tang et al., RecSys 2020'
# (better, worse, task of the first group, difference of mean AUC, source)
ORDERS = (
  ('mmoe', 'hard', 'income', 0.0064, MMOE),
  ('mmoe', 'omoe', 'income', 0.0040, MMOE),
  ('cross_stitch', 'hard', 'income', 0.0066, MMOE),
  ('mmoe', 'hard', 'never_married', 0.0006, MMOE),
  ('ple', 'mmoe', 'income', 0.0129, PLE),
  ('ple', 'mmoe', 'never_married', 0.0017, PLE),
)
# Of the second group, college is the task that MMoE's paper shows.
ORDERS_2 = (
  ('mmoe', 'hard', 'college', 0.0013, MMOE),
  ('mmoe', 'omoe', 'college', 0.0013, MMOE),
  ('cross_stitch', 'hard', 'college', 0.0006, MMOE),
)
CLOSE = 0.005


def get_config(grid='group1'):
  """The config; every key is explained in mtl_jax/config/sections.py.

  Args:
    grid: 'group1', 'group2', 'full' or 'full_group2'.
  """
  grids = ('group1', 'group2', 'full', 'full_group2')
  if grid not in grids:
    raise ValueError(
      f'Expected one of the grids {", ".join(grids)}, found {grid!r}; name one.'
    )
  full = grid.startswith('full')
  second = grid.endswith('group2')
  config = mtl_jax.load_config(str(BASE))
  first_task = 'college' if second else 'income'
  config.tasks = f'{first_task},never_married'
  config.population.seeds = 20 if full else 5
  # The others were slower where they were timed, and are compiled to be timed.
  config.population.way = 'devices'
  sizes = {**SIZES, **MORE} if full else SIZES
  config.study.methods = {
    f'{sharing}_{method}': {
      'label': f'{label}, {title}',
      'family': label,
      'model': {
        'sharing': {'name': sharing, **options},
        'trunk': {'name': 'mlp', 'widths': (units,)},
      },
      'combinator': combinator,
    }
    for sharing, (label, options, units) in sizes.items()
    for method, (title, combinator) in METHODS.items()
  }
  config.study.control = 'hard_equal'
  config.study.twins = ('full', 'equal')
  config.study.equal_twins = {
    'model': {'trunk': {'name': 'mlp', 'widths': (TWIN,)}}
  }
  config.study.metrics = tuple(
    f'{sign}{task}/{metric}'
    for sign, metric in (('+', 'auc'), ('-', 'loss'))
    for task in (first_task, 'never_married')
  )
  config.study.claims = (
    *(_order(*order) for order in (ORDERS_2 if second else ORDERS)),
    *(_close(name, sizes, first_task) for name in sizes if name != 'hard'),
    *(_no_better(name) for name in METHODS if name != 'equal'),
  )
  return config


def _order(better, worse, task, published, source):
  names = {**SIZES, **MORE}
  return mtl_jax.claim(
    f'{names[better][0]} has a higher AUC of {task} than {names[worse][0]}',
    *(f'{task}/auc', f'{better}_equal'),
    against=f'{worse}_equal',
    source=source,
    published=published,
  )


def _close(sharing, sizes, task):
  return mtl_jax.claim(
    f'{sizes[sharing][0]} is within half a point of AUC of shared-bottom on '
    f'{task}',
    *(f'{task}/auc', f'{sharing}_equal', 'within', CLOSE),
    against='hard_equal',
    source='ours, before the runs',
  )


def _no_better(method):
  return mtl_jax.claim(
    f'{METHODS[method][0]} is not better than equal weights by more than half '
    'a point of the overall score',
    *('overall', f'hard_{method}', '<', CLOSE),
    against='hard_equal',
    source='Kurin et al., In defense of the unitary scalarization, NeurIPS '
    '2022',
  )

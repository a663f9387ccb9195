"""The study that the picture in statistics.md shows, from runs to report.

Five methods and single-task models, four seeds each, of a small network on
three questions about noisy digits; about ten minutes on two cores. It needs
scikit-learn, which carries the digits.

  python docs/study_picture.py runs/digits docs/images/study.png
"""

import pathlib
import sys

from matplotlib import image as mpl_image
import numpy as np
from sklearn import datasets

import mtl_jax
from mtl_jax import data as data_lib
from mtl_jax.reporting import results_file as results
from mtl_jax.studies import page, record

SEEDS = range(4)
MONITOR = ({'name': 'monitor', 'labels': 'trunk/.*(kernel|bias)'},)
METHODS = {
  'weighted_sum': 'Equal weights',
  'pcgrad': 'PCGrad',
  'mgda': 'MGDA',
  'uncertainty': 'Uncertainty weighting',
  'nash_mtl': 'Nash-MTL',
}
TASKS = {
  'digit': ('classification', 'accuracy', True),
  'loop': ('binary', 'auc', True),
  'balance': ('regression', 'mae', False),
}
CLAIMS = (
  ('PCGrad beats equal weights by delta-m', 'delta_m', 'pcgrad', '<', 0.0),
  (
    'MGDA is within one point of accuracy of equal weights',
    'digit/accuracy',
    'mgda',
    'within',
    0.01,
  ),
)


def load() -> data_lib.Data:
  """Images of digits with three labels: digit, loop, and balance of ink."""
  digits = datasets.load_digits()
  rng = np.random.default_rng(0)
  order = rng.permutation(len(digits.target))
  ink = digits.data[:, 32:].sum(1) - digits.data[:, :32].sum(1)
  noise = 0.4 * rng.normal(size=digits.data.shape)
  columns = {
    'x': (digits.data / 16 + noise).astype(np.float32),
    'digit': digits.target.astype(np.int32),
    'loop': np.isin(digits.target, [0, 6, 8, 9]).astype(np.int32),
    'balance': ((ink - ink.mean()) / ink.std()).astype(np.float32),
  }
  parts = {
    'train': order[:900],
    'validation': order[900:1300],
    'test': order[1300:],
  }
  tables = {
    split: data_lib.arrays.as_table(
      {name: column[rows] for name, column in columns.items()},
      names={'digit': tuple('0123456789')},
    )
    for split, rows in parts.items()
  }
  features = {'inputs': 'x', **{task: task for task in TASKS}}
  return data_lib.from_tables(tables, features, text={})


def run(workdir, data, tasks, combinator, seed) -> record.MemberRecord:
  """One member, or its results if it has been run already."""
  if not (workdir / results.RESULTS).exists():
    config = mtl_jax.default_config()
    config.seed = seed
    for name, (kind, *_) in TASKS.items():
      config.targets[name] = {'kind': kind}
    config.tasks = ','.join(tasks)
    config.model.trunk = {'name': 'mlp', 'widths': (24,)}
    config.data.batch_size = 64
    config.data.evaluation_batch_size = 256
    config.combinator = combinator
    config.diagnostics.every = 20
    config.training.update({'steps': 600, 'log_every': 20})
    config.training.evaluate_every = 50
    mtl_jax.run(config, workdir, data={'main': data})
  return record.member_of(workdir, seed)


def main(argv: list[str]) -> None:
  """Runs what has not been run, and writes record, report and picture."""
  root, target = map(pathlib.Path, argv)
  data = load()

  def runs(name, tasks, combinator):
    return [
      run(root / name / str(seed), data, tasks, combinator, seed)
      for seed in SEEDS
    ]

  methods = [
    record.Method(
      name=name,
      label=label,
      runs=runs(name, TASKS, {'name': name, 'wrappers': MONITOR}),
    )
    for name, label in METHODS.items()
  ]
  alone = {'name': 'weighted_sum'}
  study = record.Study(
    name='Three questions about digits',
    tasks=[
      record.TaskRecord(name=name, score=score if higher else 'r2')
      for name, (_, score, higher) in TASKS.items()
    ],
    metrics=[
      record.MetricRecord(task=name, metric=metric, higher_is_better=higher)
      for name, (_, metric, higher) in TASKS.items()
    ],
    control='weighted_sum',
    methods=methods,
    twins=[
      record.Twin(task=task, runs=runs(f'alone_{task}', [task], alone))
      for task in TASKS
    ],
    claims=[
      record.Claim(
        text=text,
        statistic=statistic,
        method=method,
        against='weighted_sum',
        relation=relation,
        threshold=threshold,
      )
      for text, statistic, method, relation, threshold in CLAIMS
    ],
    environment=results.environment(),
  )
  record.write(root, study)
  print(page.write(root))
  stack([root / f'figures/{x}.png' for x in ('gains', 'trade_off_1')], target)


def stack(paths: list[pathlib.Path], target: pathlib.Path) -> None:
  """Pictures below each other in one file."""
  images = [mpl_image.imread(path) for path in paths]
  width = max(image.shape[1] for image in images)
  wide = [
    np.pad(x, ((0, 0), (0, width - x.shape[1]), (0, 0)), constant_values=1)
    for x in images
  ]
  target.parent.mkdir(parents=True, exist_ok=True)
  mpl_image.imsave(target, np.concatenate(wide))


if __name__ == '__main__':
  main(sys.argv[1:])

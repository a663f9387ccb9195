"""Models of a click funnel, held against the probabilities that made it.

The generated `click_funnel` knows P(click) and P(conversion | click) of every
example of the test split, also of those that nobody clicked, where a log has
nothing to compare with. For each model, mean and 95% interval over seeds of

- bias: the mean of predicted minus true P(conversion | click) on examples
  without a click, in points; and the mean of its absolute value;
- PCOC: predicted over observed conversions among all examples, 1 is best;
- order: the share of examples with P(conversion) above P(click), in percent.

  python benchmarks/funnel.py --workdir=runs/funnel

About 5 minutes on 2 CPU cores. It resumes: finished runs are only read.
"""

import argparse
import json
import pathlib

import numpy as np
from scipy import stats

import mtl_jax
from mtl_jax import data

CLICK = {'kind': 'binary'}
# Label, target of conversion, sharing; and what the prediction of conversion
# is: 'conditional' on a click, or 'joint' with it.
MODELS = {
  'clicked': (
    'conversion of clicked examples only',
    {'kind': 'binary', 'label': 'conversion_if_clicked'},
    {'name': 'hard'},
    'conditional',
  ),
  'joint': (
    'conversion of all examples, for itself',
    {'kind': 'binary'},
    {'name': 'hard'},
    'joint',
  ),
  'calibrated': (
    'the same, with the order calibrator of AITM',
    {'kind': 'order_calibrated', 'after': 'click'},
    {'name': 'hard'},
    'joint',
  ),
  'aitm': (
    'AITM: transfer and order calibrator',
    {'kind': 'order_calibrated', 'after': 'click'},
    {'name': 'aitm', 'order': ('click', 'conversion')},
    'joint',
  ),
  'entire_space': (
    'product of click and conversion (ESMM)',
    {'kind': 'entire_space', 'after': ('click',), 'of': 'conditional'},
    {'name': 'hard'},
    'conditional',
  ),
  'entire_space_mmoe': (
    'the same, MMoE',
    {'kind': 'entire_space', 'after': ('click',), 'of': 'conditional'},
    {'name': 'mmoe', 'experts': 4},
    'conditional',
  ),
}


def make_config(name: str, correlation: float, seed: int, epochs: int):
  """The config of a model; the seed is that of the data too."""
  _, target, sharing, _ = MODELS[name]
  config = mtl_jax.default_config()
  config.seed = seed
  config.data.name = 'click_funnel'
  config.data.settings = {'correlation': correlation, 'seed': seed}
  label = target.get('label', 'conversion')
  config.data.features = {k: k for k in ('inputs', 'click', label)}
  config.data.batch_size = 256
  config.data.evaluation_batch_size = 2000
  config.targets.click = CLICK
  config.targets.conversion = target
  units = 16 if sharing['name'] == 'mmoe' else 64
  config.model.trunk = {'name': 'mlp', 'widths': (units, units)}
  with config.model.unlocked():
    config.model.sharing = sharing
  config.optimizer.learning_rate = 1e-3
  config.training.epochs = epochs
  config.diagnostics.every = 0
  return config


def measures(click, conversion, kind: str, truth) -> dict[str, float]:
  """Measures of predictions ``[N]`` beside the truth.

  Args:
    click: predicted P(click).
    conversion: predicted P(conversion | click), or P(conversion).
    kind: which of both, 'conditional' or 'joint'.
    truth: ``click`` and ``conversion`` in {0, 1}, ``conversion_probability``.

  Example:
    >>> found = measures(
    ...   np.array([0.5, 0.5]),
    ...   np.array([0.5, 0.1]),
    ...   'conditional',
    ...   {
    ...     'click': np.array([1, 0]),
    ...     'conversion': np.array([1, 0]),
    ...     'conversion_probability': np.array([0.5, 0.2]),
    ...   },
    ... )
    >>> round(found['bias'], 2), round(found['pcoc'], 2), found['order']
    (-10.0, 0.3, 0.0)
  """
  joint = conversion if kind == 'joint' else click * conversion
  conditional = conversion / click if kind == 'joint' else conversion
  unclicked = np.asarray(truth['click']) == 0
  error = 100 * (conditional - truth['conversion_probability'])[unclicked]
  return {
    'bias': float(error.mean()),
    'error': float(np.abs(error).mean()),
    'pcoc': float(joint.sum() / np.sum(truth['conversion'])),
    'order': float(100 * np.mean(joint > click)),
  }


def run(workdir: pathlib.Path, name: str, correlation: float, seed, epochs):
  """The measures of one run, on its test split."""
  path = workdir / f'{name}_{correlation:g}_{epochs}_{seed}'
  kept = path / 'funnel.json'
  if kept.exists():
    return json.loads(kept.read_text())
  config = make_config(name, correlation, seed, epochs)
  mtl_jax.run(config, path)
  builder = data.make_builder(
    'click_funnel', settings=config.data.settings.to_dict()
  )
  table = data.from_tfds(builder, 'test')
  names = ('inputs', 'click', 'conversion', 'conversion_probability')
  truth = {
    k: np.asarray(x) for k, x in table.read(range(table.size), names).items()
  }
  rows = [{'inputs': x} for x in truth['inputs']]
  found = mtl_jax.load(path).predict(rows)
  result = measures(
    np.asarray(found['click'], float).reshape(-1),
    np.asarray(found['conversion'], float).reshape(-1),
    MODELS[name][3],
    truth,
  )
  kept.write_text(json.dumps(result))
  return result


def interval(values) -> str:
  """Mean and half of the 95% interval."""
  values = np.asarray(values)
  if len(values) < 2:
    return f'{values.mean():.2f}'
  half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
  return f'{values.mean():.2f} ± {half:.2f}'


def main() -> None:
  """Runs what is missing, and prints the table."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--workdir', default='runs/funnel')
  parser.add_argument('--seeds', type=int, default=3)
  parser.add_argument('--epochs', type=int, default=10)
  parser.add_argument('--correlation', type=float, default=0.5)
  flags = parser.parse_args()
  mtl_jax.keep_memory()
  lines = [
    '| model | bias, points | absolute, points | PCOC | order, % |',
    '|---|---|---|---|---|',
  ]
  for name, (label, *_) in MODELS.items():
    rows = [
      run(pathlib.Path(flags.workdir), name, flags.correlation, s, flags.epochs)
      for s in range(flags.seeds)
    ]
    cells = [interval([row[key] for row in rows]) for key in rows[0]]
    lines.append(f'| {label} | {" | ".join(cells)} |')
  print('\n' + '\n'.join(lines))


if __name__ == '__main__':
  main()

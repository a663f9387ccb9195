"""Is the dial of `synthetic_sequences` real? Ten seeds a setting.

For each relatedness: the cosine of the two task gradients (of the trained
joint model, on the whole validation split), and the test scores of joint
training beside single-task training of the same network, with data, initial
parameters and order of the same seed. Differences are paired by seed, with 95%
intervals of Student's t.

  python benchmarks/relatedness.py --workdir=runs/relatedness

About 25 minutes on 2 CPU cores. It resumes: finished runs are only read.
"""

import argparse
import json
import os
import pathlib

os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0')

import jax
import numpy as np
from scipy import stats

import mtl_jax
from mtl_jax import evaluation
from mtl_jax.config import overrides

ROOT = pathlib.Path(__file__).parent.parent
CONFIG = ROOT / 'configs' / 'synthetic_sequences.py'
METRICS = {'category': 'accuracy', 'value': 'r2'}


def run(workdir: pathlib.Path, relatedness: float, seed: int, tasks: str):
  """Test metrics of one run, and the gradient cosine where there are two."""
  path = workdir / f'{relatedness:g}_{seed}_{tasks.replace(",", "_")}'
  summary = path / 'relatedness.json'
  if summary.exists():
    return json.loads(summary.read_text())
  config = overrides.load_config(str(CONFIG))
  config.seed = seed
  config.tasks = tasks
  config.data.settings = {'relatedness': relatedness, 'seed': seed}
  config.diagnostics.every = 0
  outcome = mtl_jax.run(config, path)
  found = {task: m[METRICS[task]] for task, m in outcome.metrics.items()}
  if len(found) == 2:
    trained = mtl_jax.load(path)
    batch = trained.batch('validation', np.arange(800))
    found['cosine'] = float(evaluation.cosines(trained.gramian(batch))[0, 1])
  summary.write_text(json.dumps(found))
  return found


def interval(values) -> str:
  """Mean and 95% interval."""
  values = np.asarray(values)
  half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
  return f'{values.mean():+.3f} ± {half:.3f}'


def main() -> None:
  """Runs what is missing, and prints the table."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--workdir', default='runs/relatedness')
  parser.add_argument('--seeds', type=int, default=10)
  parser.add_argument(
    '--relatedness', type=float, nargs='+', default=[0.0, 0.5, 1.0]
  )
  flags = parser.parse_args()
  mtl_jax.keep_memory()
  workdir = pathlib.Path(flags.workdir)
  workdir.mkdir(parents=True, exist_ok=True)
  jax.config.update('jax_compilation_cache_dir', str(workdir / 'compiled'))
  lines = [
    '| relatedness | gradient cosine | accuracy, joint | joint - single '
    '| R2, joint | joint - single |',
    '|---|---|---|---|---|---|',
  ]
  for relatedness in flags.relatedness:
    rows = []
    for seed in range(flags.seeds):
      joint = run(workdir, relatedness, seed, 'category,value')
      alone = {
        task: run(workdir, relatedness, seed, task)[task] for task in METRICS
      }
      rows.append((joint, alone))
    cells = [f'{relatedness:g}', interval([j['cosine'] for j, _ in rows])]
    for task in METRICS:
      cells.append(f'{np.mean([j[task] for j, _ in rows]):.3f}')
      cells.append(interval([j[task] - a[task] for j, a in rows]))
    lines.append(f'| {" | ".join(cells)} |')
  print('\n' + '\n'.join(lines))


if __name__ == '__main__':
  main()

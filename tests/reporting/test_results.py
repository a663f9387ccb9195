import math
import subprocess

import jax
import numpy as np

from mtl_jax.reporting import results_file as results, whole_files


def test_results_tell_numbers_and_environment(tmp_path):
  written = results.write_results(
    tmp_path,
    metrics={'genre': {'accuracy': 0.5, 'auc': math.nan}},
    overall=np.float64(0.5),
    config={'seed': 3},
    timing={'seconds': 2.5},
    best_step=7,
  )
  found = whole_files.read_json(tmp_path / 'results.json')
  assert found == written
  assert found['metrics'] == {'genre': {'accuracy': 0.5, 'auc': None}}
  assert (found['overall'], found['best_step']) == (0.5, 7)
  assert found['config'] == {'seed': 3}
  assert found['versions']['jax'] == jax.__version__
  assert found['versions'].keys() >= {'python', 'flax', 'optax', 'numpy'}
  assert found['devices']['count'] == len(jax.devices())
  assert found['devices']['kind'] == jax.devices()[0].device_kind


def test_commit(tmp_path):
  def git(*arguments):
    identity = ['-c', 'user.name=a', '-c', 'user.email=a@b']
    run = subprocess.run(
      ['git', *identity, *arguments],
      cwd=tmp_path,
      capture_output=True,
      text=True,
      check=True,
    )
    return run.stdout.strip()

  assert results.commit(tmp_path) is None
  git('init')
  (tmp_path / 'code.py').write_text('1')
  git('add', 'code.py')
  git('commit', '-m', 'First')
  head = git('rev-parse', 'HEAD')
  assert results.commit(tmp_path) == head
  (tmp_path / 'code.py').write_text('2')
  assert results.commit(tmp_path) == head + '+changes'
  # As in an environment inside a repository that ignores it.
  installed = tmp_path / 'site-packages'
  installed.mkdir()
  assert results.commit(installed) is None

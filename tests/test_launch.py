"""The command itself, in processes of its own: kills, signals, exit codes."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import compiled
import numpy as np
import pytest

import launch as command
from mtl_jax.training import checkpoints

ROOT = pathlib.Path(__file__).parent.parent

# PCGrad and dropout draw; a step is slow enough to be killed in.
CONFIG = """
import mtl_jax

def get_config():
  config = mtl_jax.default_config()
  config.data.name = 'synthetic_sequences'
  config.data.settings = {'relatedness': 1.0, 'count': 240, 'length': 40}
  config.data.features = {
    'inputs': 'sequence', 'category': 'category', 'value': 'value'
  }
  config.data.batch_size = 8
  config.targets.category = {'kind': 'classification'}
  config.targets.value = {'kind': 'regression'}
  config.targets.sign = {'kind': 'regression', 'label': 'value'}
  config.model.trunk = {'name': 'lstm', 'features': 32, 'dropout': 0.3}
  config.combinator.name = 'pcgrad'
  config.training.steps = 300
  config.training.checkpoint_every = 10
  config.training.log_every = 10
  return config
"""

# Several programs, one after the other, of members with orders of their own.
MANY = """
import small

def get_config():
  config = small.get_config()
  del config.targets.sign
  config.model.trunk = {'name': 'mlp', 'widths': (8,), 'dropout': 0.3}
  config.training.steps = 60
  config.training.checkpoint_every = 5
  config.training.log_every = 5
  config.population.seeds = 2
  config.population.way = 'vmap'
"""
GROUPS = f"""{MANY}
  config.population.sweep = [{{'optimizer.name': n}} for n in ('adam', 'sgd')]
  return config
"""
STUDY = f"""{MANY}
  config.study.methods = {{'pcgrad': {{}}}}
  config.study.twins = ('full',)
  config.study.trials = 2
  config.study.draws = [('optimizer.learning_rate', 'uniform', 0.001, 0.1)]
  return config
"""


@pytest.fixture(scope='module')
def launch(tmp_path_factory):
  """Starts the command with a small config; returns the process."""
  folder = tmp_path_factory.mktemp('launch')
  configs = {'small': CONFIG, 'groups': GROUPS, 'study': STUDY}
  for name, text in configs.items():
    (folder / f'{name}.py').write_text(text)

  def start(workdir, *flags, name='small', **environment):
    command = [
      sys.executable,
      str(ROOT / 'launch.py'),
      f'--config={folder / name}.py',
      f'--workdir={workdir}',
      *flags,
    ]
    return subprocess.Popen(
      command,
      cwd=folder,
      env={**os.environ, 'XLA_FLAGS': '', **environment},
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
    )

  return start


def finish(process):
  output, _ = process.communicate(timeout=300)
  assert process.returncode == 0, output
  return output


def arrays(workdir):
  """All of the last state and the best, the optimizer's included."""
  import jax

  store = checkpoints.Checkpoints(workdir / 'checkpoints')
  found = store.restore_any()
  leaves = jax.tree.leaves(found.trees)
  return found.step, [
    np.asarray(
      jax.random.key_data(x)
      if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
      else x
    )
    for x in leaves
  ]


@pytest.fixture(scope='module')
def unbroken(launch, tmp_path_factory):
  workdir = tmp_path_factory.mktemp('unbroken')
  output = finish(launch(workdir))
  return workdir, output, arrays(workdir)


def wait_until(condition, process, seconds=120):
  for _ in range(seconds * 1000):
    if condition():
      return
    assert process.poll() is None, process.communicate()[0]
    time.sleep(0.001)
  raise TimeoutError


def last_step(workdir):
  record = workdir / 'metrics.jsonl'
  if not record.exists():
    return 0
  lines = record.read_text().split('\n')[:-1]
  return json.loads(lines[-1])['step'] if lines else 0


def saving(workdir):
  """Whether a checkpoint is being written right now."""
  return any('tmp' in path.name for path in workdir.glob('checkpoints/*'))


KILLS = {
  'inside an epoch': lambda workdir: last_step(workdir) >= 70,
  'inside a save': lambda workdir: last_step(workdir) >= 50 and saving(workdir),
}


@pytest.mark.slow
@pytest.mark.parametrize('when', KILLS)
def test_killed_and_resumed_equals_unbroken(launch, unbroken, tmp_path, when):
  for attempt in range(5):
    workdir = tmp_path / str(attempt)
    # Its compilation cache may be killed in the middle of an entry.
    own = {'JAX_COMPILATION_CACHE_DIR': str(tmp_path / 'compiled')}
    process = launch(workdir, **own)
    wait_until(lambda folder=workdir: KILLS[when](folder), process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    # A save may end between the look and the kill: then once more.
    if when == 'inside an epoch' or saving(workdir):
      break
  else:
    pytest.fail('never killed inside a save')
  tmp_path = workdir
  output = finish(launch(tmp_path))
  assert f'Resuming {tmp_path} from step' in output
  step, found = arrays(tmp_path)
  expected_step, expected = unbroken[2]
  assert step == expected_step == 300
  for x, y in zip(found, expected, strict=True):
    np.testing.assert_array_equal(x, y)

  def rows(workdir):
    text = (workdir / 'metrics.jsonl').read_text()
    return [
      {k: v for k, v in json.loads(line).items() if 'second' not in k}
      for line in text.splitlines()
    ]

  assert rows(tmp_path) == rows(unbroken[0])


def without_times(value):
  """What a file of results holds, but for measured times and memory."""
  measured = {'cost', 'environment', 'config', 'name'}
  if isinstance(value, dict):
    return {
      key: without_times(item)
      for key, item in value.items()
      if 'second' not in key and key not in measured
    }
  if isinstance(value, list):
    return [without_times(item) for item in value]
  return value


def results(workdir):
  """All that a work directory says of its runs, and their last states."""
  files = {
    str(path.relative_to(workdir)): [
      without_times(json.loads(text))
      for text in (
        path.read_text().splitlines()
        if path.suffix == '.jsonl'
        else [path.read_text()]
      )
    ]
    for pattern in ('metrics.jsonl', 'outcomes.json', 'study.json')
    for path in sorted(workdir.rglob(pattern))
  }
  states = {
    str(path.parent.relative_to(workdir)): arrays(path.parent)
    for path in sorted(workdir.rglob('checkpoints'))
  }
  return files, states


@pytest.mark.slow
@pytest.mark.parametrize(
  ('name', 'kill', 'programs'),
  [('groups', 'group_1', 2), ('study', 'methods/pcgrad', 6)],
)
def test_killed_in_several_programs_equals_unbroken(
  launch, tmp_path, name, kill, programs
):
  """In the second group; after the tuning and before the twins."""
  whole, cut = tmp_path / 'whole', tmp_path / 'cut'
  finish(launch(whole, name=name))
  # The compilation cache may be killed in the middle of an entry, too.
  shared = os.environ['JAX_COMPILATION_CACHE_DIR']
  own = {'JAX_COMPILATION_CACHE_DIR': str(compiled.own_folder(shared))}
  folder = cut / kill
  process = launch(cut, name=name, **own)
  wait_until(lambda: last_step(folder) >= 30, process)
  process.send_signal(signal.SIGKILL)
  process.communicate()
  assert process.returncode == -signal.SIGKILL
  assert 30 <= last_step(folder) < 60
  assert not (folder / 'outcomes.json').exists()
  output = finish(launch(cut, name=name))
  assert output.count('Resuming ') == 1
  assert f'Resuming {folder} from step' in output
  expected, expected_states = results(whole)
  files, states = results(cut)
  assert files == expected
  assert len(states) == programs and states.keys() == expected_states.keys()
  for folder, (step, leaves) in states.items():
    assert step == expected_states[folder][0] == 60
    for x, y in zip(leaves, expected_states[folder][1], strict=True):
      np.testing.assert_array_equal(x, y)


@pytest.mark.slow
def test_sigterm_saves_and_exits_cleanly(launch, unbroken, tmp_path):
  process = launch(tmp_path)
  wait_until(lambda: last_step(tmp_path) >= 20, process)
  process.send_signal(signal.SIGTERM)
  output, _ = process.communicate(timeout=120)
  assert process.returncode == 0 and 'Interrupted at step' in output
  finish(launch(tmp_path))
  for x, y in zip(arrays(tmp_path)[1], unbroken[2][1], strict=True):
    np.testing.assert_array_equal(x, y)


@pytest.mark.slow
def test_evaluate_and_predict_from_the_work_directory(
  launch, unbroken, tmp_path
):
  workdir, output, _ = unbroken
  again = finish(launch(workdir, '--mode=evaluate'))

  def table(text):
    return text[text.index('Test split') : text.index('Overall score')]

  assert table(again) == table(output)
  file = tmp_path / 'new.jsonl'
  file.write_text(json.dumps({'sequence': np.zeros((40, 8)).tolist()}) + '\n')
  target = tmp_path / 'out.jsonl'
  finish(
    launch(workdir, '--mode=predict', f'--input={file}', f'--output={target}')
  )
  found = json.loads(target.read_text())
  assert len(found['category']['probabilities']) == 10
  assert isinstance(found['value'], float)


@pytest.mark.smoke
def test_help_teaches():
  process = subprocess.run(
    [sys.executable, str(ROOT / 'launch.py'), '--help'],
    capture_output=True,
    text=True,
    timeout=60,
    check=True,
  )
  for word in ('--mode=predict', '--dry_run', 'resumes', '--config.SECTION'):
    assert word in process.stdout


def test_a_mistake_is_one_sentence_and_an_exit_code(launch, tmp_path):
  process = launch(tmp_path, '--config.optimizer.learning_rat=1')
  output, _ = process.communicate(timeout=60)
  assert process.returncode == 1
  assert output.startswith('launch.py: Expected a known config key')
  assert 'Traceback' not in output and output.count('\n') == 1


@pytest.mark.parametrize(
  'flags, message',
  [
    (['--mode=evaluate', '--config.seed=1'], "found '--config.seed=1'"),
    (['--mode=predict', '--dry_run'], "found '--dry_run or --profile'"),
    (['--input=x.jsonl'], 'with --mode=predict only, found --mode=train'),
    (['--tasks=genre'], 'and --tasks with --mode=predict only, found --mode=t'),
    (['--profile', '--config.population.seeds=2'], 'a run alone to profile, f'),
    (['--mode=predict'], 'a file of examples to predict, found none'),
  ],
)
def test_flags_that_do_not_go_together(capsys, tmp_path, flags, message):
  assert command.main([f'--workdir={tmp_path}', *flags]) == 1
  output = capsys.readouterr().err
  assert output.startswith('launch.py: Expected') and message in output


def test_a_run_that_does_not_fit_is_told_what_to_do(
  capsys, tmp_path, monkeypatch
):
  def prepare(*_):
    raise MemoryError('Unable to allocate 33.0 GiB')

  monkeypatch.setattr(command, '_prepare', prepare)
  assert command.main([f'--workdir={tmp_path}']) == 1
  output = capsys.readouterr().err
  assert '33.0 GiB); take smaller batches' in output
  assert output.count('\n') == 1

"""What a work directory refuses, and whose lock it takes over."""

import functools
import json
import os
import pathlib
import socket
import subprocess
import sys
import time

import pytest

import mtl_jax
from mtl_jax.config import settings as settings_lib
from mtl_jax.experiment import lock as lock_lib, workdir as workdir_lib


def settings_of(**flat):
  values = {'targets': {'value': {'kind': 'regression'}}, **flat}
  base = settings_lib.from_config(mtl_jax.default_config())
  return settings_lib.with_values(base, values)


def begin(path, settings):
  with workdir_lib.claim(path, settings):
    pass


def refusal(path, stored, wanted):
  """The sentence with which a directory of other settings is refused."""
  begin(path, settings_of(**stored))
  with pytest.raises(ValueError, match='^Expected a work direct') as error:
    workdir_lib.check(path, settings_of(**wanted))
  return str(error.value).replace(str(path / workdir_lib.CONFIG), 'FILE')


CAGRAD = {'combinator': {'name': 'cagrad', 'c': 0.4}}
BARE = {'combinator': {'name': 'cagrad'}}
TARGETS = {'value': {'kind': 'regression'}, 'a': {'kind': 'binary'}}


@pytest.mark.parametrize(
  ('stored', 'wanted', 'difference', 'advice'),
  [
    (
      CAGRAD,
      {'combinator': {'name': 'pcgrad'}},
      "combinator.name = 'cagrad' in FILE instead of 'pcgrad'",
      "set --config.combinator.name='cagrad'.",
    ),
    (
      BARE,
      CAGRAD,
      'combinator.c, which is not set in FILE',
      'leave combinator.c out.',
    ),
    (
      CAGRAD,
      BARE,
      'combinator.c = 0.4 in FILE, which is not set here',
      'set it, as in --config.combinator.c=0.4.',
    ),
    (
      {},
      {'data.settings': {'count': 5}},
      'data.settings.count, which is not set in FILE',
      'leave data.settings.count out.',
    ),
    (
      {},
      {'targets': TARGETS},
      'targets.a, which is not set in FILE',
      'leave targets.a out.',
    ),
    (
      {'targets': TARGETS},
      {},
      'targets.a in FILE, which is not set here',
      "set it, as in --config.targets.a.kind='binary'.",
    ),
    (
      {'training.init_from': 'a'},
      {},
      "training.init_from = 'a' in FILE instead of ''",
      "set --config.training.init_from='a'.",
    ),
  ],
)
def test_a_setting_that_differs_is_named_with_what_to_do(
  tmp_path, stored, wanted, difference, advice
):
  assert refusal(tmp_path, stored, wanted) == (
    f'Expected a work directory of this config, found {difference}; choose '
    f'another --workdir, or {advice}'
  )


def a_method(c, rate=1.0):
  del c, rate


def test_a_partial_is_a_function_with_its_options(tmp_path):
  partial = functools.partial(a_method, c=0.1)
  stored = settings_of(combinator={'name': partial, 'rate': 2.0})
  assert dict(stored.combinator) == {'name': a_method, 'c': 0.1, 'rate': 2.0}
  begin(tmp_path, stored)
  other = functools.partial(a_method, c=0.9, rate=2.0)
  with pytest.raises(ValueError, match=r'combinator.c = 0.1 in .* of 0.9'):
    workdir_lib.check(tmp_path, settings_of(combinator={'name': other}))
  workdir_lib.check(tmp_path, stored)
  with pytest.raises(ValueError, match='arguments only, .*method.0.1.;'):
    settings_of(combinator={'name': functools.partial(a_method, 0.1)})
  with pytest.raises(ValueError, match=r'rate=2.0\) beside c, rate; give each'):
    settings_lib.with_values(stored, {'combinator.name': other})


@pytest.mark.parametrize('wrap', [lambda f: f, functools.partial])
def test_functions_without_a_name_are_not_taken_for_one_another(tmp_path, wrap):
  def trunk(slope):
    return {'model.trunk': {'name': 'mlp', 'activation': wrap(slope)}}

  slopes = [lambda x: x, lambda x: 2 * x]
  begin(tmp_path, settings_of(**trunk(slopes[0])))
  with pytest.raises(ValueError, match='name of its own for model.trunk.act'):
    workdir_lib.check(tmp_path, settings_of(**trunk(slopes[1])))


def test_options_of_partials_differ(tmp_path):
  def trunk(c):
    activation = functools.partial(a_method, c=c)
    return {'model.trunk': {'name': 'mlp', 'activation': activation}}

  begin(tmp_path, settings_of(**trunk(0.1)))
  workdir_lib.check(tmp_path, settings_of(**trunk(0.1)))
  with pytest.raises(ValueError, match=r'a_method\(c=0.1\)'):
    workdir_lib.check(tmp_path, settings_of(**trunk(0.9)))


def test_what_changes_no_model_may_differ_in_every_stream(tmp_path):
  free = {'cache': 'never', 'on_device': 'never', 'evaluation_batch_size': 64}
  streams = {'streams': {'other': {'name': 'digit_pairs'}}}
  freed = {'streams': {'other': {'name': 'digit_pairs', **free}}}
  begin(tmp_path, settings_of(**streams))
  workdir_lib.check(tmp_path, settings_of(**freed))
  freed['streams']['other']['batch_size'] = 7
  found = refusal(tmp_path / 'b', streams, freed)
  assert 'streams.other.batch_size = 32 in FILE instead of 7;' in found


@pytest.fixture
def lock(tmp_path):
  return tmp_path / lock_lib.LOCK


@pytest.fixture
def other():
  """A process that runs as long as the test."""
  command = [sys.executable, '-c', 'import sys; sys.stdin.read()']
  process = subprocess.Popen(command, stdin=subprocess.PIPE)
  yield process
  process.communicate()


needs_proc = pytest.mark.skipif(
  not pathlib.Path('/proc/self/stat').exists(),
  reason='the start of a process is read from /proc',
)


def make_stale(lock):
  old = time.time() - 10 * lock_lib.STALE
  os.utime(lock, (old, old))


@needs_proc
def test_a_lock_of_a_process_that_runs_is_held(tmp_path, lock, other):
  begin(tmp_path, settings_of())
  lock.write_text(
    json.dumps(
      {
        'host': socket.gethostname(),
        'pid': other.pid,
        'started': lock_lib._started(other.pid),
        'thread': 1,
      }
    )
  )
  make_stale(lock)  # it may be suspended
  message = f'found process {other.pid} on .* that writes there'
  with pytest.raises(ValueError, match=message):
    begin(tmp_path, settings_of())
  other.kill()
  os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
  begin(tmp_path, settings_of())  # a zombie writes no more
  assert not lock.exists()


@needs_proc
def test_a_number_that_another_process_has_now_is_taken_over(
  tmp_path, lock, other
):
  holder = {'host': socket.gethostname(), 'pid': other.pid, 'thread': 1}
  lock.write_text(json.dumps({**holder, 'started': 1}))
  begin(tmp_path, settings_of())
  assert not lock.exists()
  # Where the start is not known the heartbeat counts.
  lock.write_text(json.dumps({**holder, 'started': None}))
  with pytest.raises(ValueError, match=f'found process {other.pid}'):
    begin(tmp_path, settings_of())
  make_stale(lock)
  begin(tmp_path, settings_of())
  assert not lock.exists()


@needs_proc
def test_the_start_of_a_process_is_that_of_the_system(other):
  uptime = float(pathlib.Path('/proc/uptime').read_text().split()[0])
  ticks = os.sysconf('SC_CLK_TCK')
  earlier = lock_lib._started(os.getpid())
  later = lock_lib._started(other.pid)
  assert earlier is not None and later is not None
  assert 0 < earlier < later <= (uptime + 1) * ticks
  assert later > (uptime - 60) * ticks


@pytest.mark.parametrize('content', ['', '{"host": ', '[]', '{}'])
def test_a_lock_that_is_being_written_is_held(tmp_path, lock, content):
  begin(tmp_path, settings_of())
  lock.write_text(content)
  with pytest.raises(ValueError, match='found a process without a name yet'):
    begin(tmp_path, settings_of())
  assert lock.read_text() == content
  make_stale(lock)
  begin(tmp_path, settings_of())
  assert not lock.exists()


def test_a_lock_of_another_process_stays(tmp_path, lock):
  with workdir_lib.claim(tmp_path, settings_of()):
    lock.write_text('of another')
  assert lock.read_text() == 'of another'

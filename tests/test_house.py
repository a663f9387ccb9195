"""The layout of docs/architecture.md: imports run downward only."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / 'mtl_jax'

# Floors from the top; rooms of one floor do not import each other.
FLOORS = (
  ('launch',),
  ('__init__',),
  ('studies',),
  ('experiment',),
  ('training', 'evaluation', 'reporting', 'problems'),
  ('models', 'data', 'combinators'),
  ('tasks',),
  ('names',),
)
# What stands beside the stairs: names and numbers only, no array in them.
# They read nothing of the house but what is named here.
BESIDE = {'config': {'names'}}
# Who may read them: what builds an experiment, and the two ways in.
READERS = {'launch', '__init__', 'studies', 'experiment', *BESIDE}

SOURCES = sorted(
  path
  for folder in ('mtl_jax', 'configs', 'benchmarks', 'docs', 'tests')
  for path in (ROOT / folder).rglob('*.py')
) + [ROOT / 'launch.py']


def imports(path):
  """Dotted names of everything that a file imports, wherever in it."""
  found = set()
  for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, f'{path}: relative import'
      found |= {f'{node.module}.{alias.name}' for alias in node.names}
  return found


def room_of(path):
  """'models' of mtl_jax/models/heads.py, 'tasks' of mtl_jax/tasks.py."""
  if path == ROOT / 'launch.py':
    return 'launch'
  return path.relative_to(PACKAGE).parts[0].removesuffix('.py')


def rooms_read(path):
  """The rooms of the house that a file imports from."""
  names = {name for name in imports(path) if name.startswith('mtl_jax')}
  return {name.split('.')[1] for name in names if '.' in name}


def may_read(room):
  """The rooms that a room may import from, itself included."""
  if room in BESIDE:
    return BESIDE[room] | {room}
  floor = next(i for i, rooms in enumerate(FLOORS) if room in rooms)
  below = {name for rooms in FLOORS[floor + 1 :] for name in rooms}
  return below | {room} | (set(BESIDE) if room in READERS else set())


HOUSE = [path for path in SOURCES if PACKAGE in path.parents]
HOUSE.append(ROOT / 'launch.py')


def test_every_room_has_its_place():
  placed = {room for rooms in FLOORS for room in rooms} | set(BESIDE)
  assert {room_of(path) for path in HOUSE} == placed


@pytest.mark.parametrize('room', sorted({room_of(path) for path in HOUSE}))
def test_imports_run_downward(room):
  wrong = {
    str(path.relative_to(ROOT)): sorted(rooms_read(path) - may_read(room))
    for path in HOUSE
    if room_of(path) == room and rooms_read(path) - may_read(room)
  }
  assert not wrong, f'{room} may read {sorted(may_read(room))}, and reads'


@pytest.mark.parametrize(
  'room, known',
  [
    ('combinators', {'jax', 'optax', 'numpy'}),
    ('problems', {'jax', 'optax', 'numpy'}),
    ('tasks', {'jax', 'optax', 'numpy'}),
    ('models', {'jax', 'flax', 'numpy'}),
  ],
)
def test_a_room_needs_few_libraries(room, known):
  tops = {
    name.split('.')[0]
    for path in HOUSE
    if room_of(path) == room
    for name in imports(path)
  }
  assert tops - set(sys.stdlib_module_names) - {'mtl_jax'} <= known


def test_only_experiment_reads_settings_below_the_ways_in():
  # No room on the floors below takes a config apart: it gets arguments.
  for path in HOUSE:
    if room_of(path) not in READERS:
      assert 'ml_collections' not in {n.split('.')[0] for n in imports(path)}
      assert not rooms_read(path) & set(BESIDE), path


def test_files_say_what_they_are():
  silent = [
    path
    for path in SOURCES
    if 'tests' not in path.parts
    and not ast.get_docstring(ast.parse(path.read_text(encoding='utf-8')))
  ]
  assert not silent


def test_names_of_test_files_differ():
  # pytest imports them by their names alone.
  names = [path.name for path in SOURCES if path.name.startswith('test_')]
  assert sorted(names) == sorted(set(names))


def test_no_other_framework():
  for path in SOURCES:
    if 'benchmarks' in path.parts:  # they measure the others beside us
      continue
    tops = {name.split('.')[0] for name in imports(path)}
    assert not tops & {'tensorflow', 'torch'}, path


def test_combinators_load_alone():
  code = (
    'import sys, mtl_jax.combinators\n'
    'heavy = {"flax", "grain", "orbax", "tensorflow_datasets", "matplotlib"}\n'
    'print(sorted(heavy & set(sys.modules)))'
  )
  found = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True
  )
  assert found.stdout.strip() == '[]'

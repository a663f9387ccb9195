"""The layout of docs/architecture.md: imports run downward only."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / 'mtl_jax'

# Layers from the top; packages of one layer do not import each other.
LAYERS = (
  ('launch',),
  ('__init__',),
  ('studies',),
  ('experiment',),
  ('recommendation', 'contrib'),
  ('training', 'evaluation', 'reporting', 'problems'),
  ('models', 'data', 'combinators'),
  ('tasks', 'encoders'),
  ('names', 'memory'),
)
# Packages of names and numbers only, without arrays, and what they may import.
UTILITIES = {'config': {'names'}}
# Those that may import them: they build an experiment, or are a way in.
READERS = {'launch', '__init__', 'studies', 'experiment', *UTILITIES}

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


def package_of(path):
  """'models' of mtl_jax/models/heads.py, 'tasks' of mtl_jax/tasks.py."""
  if path == ROOT / 'launch.py':
    return 'launch'
  return path.relative_to(PACKAGE).parts[0].removesuffix('.py')


def packages_read(path):
  """The packages of mtl_jax that a file imports from."""
  names = {name for name in imports(path) if name.startswith('mtl_jax')}
  return {name.split('.')[1] for name in names if '.' in name}


def may_read(package):
  """The packages that one may import from, itself included."""
  if package in UTILITIES:
    return UTILITIES[package] | {package}
  layer = next(i for i, packages in enumerate(LAYERS) if package in packages)
  below = {name for packages in LAYERS[layer + 1 :] for name in packages}
  return below | {package} | (set(UTILITIES) if package in READERS else set())


PRODUCT = [path for path in SOURCES if PACKAGE in path.parents]
PRODUCT.append(ROOT / 'launch.py')


def test_every_package_has_its_layer():
  placed = {package for packages in LAYERS for package in packages} | set(
    UTILITIES
  )
  assert {package_of(path) for path in PRODUCT} == placed


@pytest.mark.parametrize(
  'package', sorted({package_of(path) for path in PRODUCT})
)
def test_imports_run_downward(package):
  wrong = {
    str(path.relative_to(ROOT)): sorted(packages_read(path) - may_read(package))
    for path in PRODUCT
    if package_of(path) == package and packages_read(path) - may_read(package)
  }
  assert not wrong, f'{package} may read {sorted(may_read(package))}, and reads'


@pytest.mark.parametrize(
  'package, known',
  [
    ('combinators', {'jax', 'optax', 'numpy'}),
    ('problems', {'jax', 'optax', 'numpy'}),
    ('tasks', {'jax', 'optax', 'numpy'}),
    ('models', {'jax', 'flax', 'numpy'}),
  ],
)
def test_packages_need_few_libraries(package, known):
  tops = {
    name.split('.')[0]
    for path in PRODUCT
    if package_of(path) == package
    for name in imports(path)
  }
  assert tops - set(sys.stdlib_module_names) - {'mtl_jax'} <= known


def test_only_experiment_reads_settings_below_the_ways_in():
  # No package on the layers below takes a config apart: it gets arguments.
  for path in PRODUCT:
    if package_of(path) not in READERS:
      assert 'ml_collections' not in {n.split('.')[0] for n in imports(path)}
      assert not packages_read(path) & set(UTILITIES), path


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


# A step builder of the user's own needs no more than this.
PUBLIC = {
  'mtl_jax.combinators',
  'mtl_jax.contrib',
  'mtl_jax.models.interface',
  'mtl_jax.tasks',
  'mtl_jax.training.builders',
  'mtl_jax.training.engine',
  'mtl_jax.training.step',
}


def is_public(name):
  """Whether contrib may import a name of ours."""
  known = any(f'{name}.'.startswith(f'{public}.') for public in PUBLIC)
  return known and not any(part.startswith('_') for part in name.split('.'))


def test_contrib_reads_the_public_interface_only():
  assert is_public('mtl_jax.combinators.state.Weighting')
  assert not is_public('mtl_jax.combinators.state._x')
  assert not is_public('mtl_jax.training.forward')
  for path in (PACKAGE / 'contrib').glob('*.py'):
    for name in imports(path):
      ours = name.startswith('mtl_jax.')
      assert not ours or is_public(name), f'{path.name}: {name}'
    private = [
      node.attr
      for node in ast.walk(ast.parse(path.read_text(encoding='utf-8')))
      if isinstance(node, ast.Attribute)
      and node.attr.startswith('_')
      and node.attr not in ('_replace', '_asdict')
    ]
    assert not private, f'{path.name} reads {private}'

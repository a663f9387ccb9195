"""The quick tests still hold every entry of every table."""

import pathlib
import re
import subprocess
import sys

import pytest

from mtl_jax import combinators, models
from mtl_jax.data import catalogue
from mtl_jax.experiment import methods
from mtl_jax.tasks import kinds
from mtl_jax.training import parallel

ROOT = pathlib.Path(__file__).parents[1]
# Of each table: where its entries are tested, by the names of the tests.
TABLES = {
  'combinators/test_(gramian|method)_properties': combinators.COMBINATORS,
  'combinators/': combinators.WRAPPERS | combinators.TASK_TRANSFORMS,
  'training/builders/': methods.STEP_BUILDERS,
  'models/test_(causal_)?trunks.py': models.TRUNKS,
  'models/test_(sharing|hard|task_groups)': models.SHARING,
  'data/': catalogue.BUILDERS,
  'training/test_parallel': parallel.MODES,
}


@pytest.mark.slow
def test_every_name_is_in_a_quick_test():
  listed = subprocess.run(
    [sys.executable, '-m', 'pytest', '--collect-only', '-q', '-n0', 'tests'],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
  )
  tests = re.findall(r'^tests/(\S+::.+)$', listed.stdout, re.M)
  missing = {}
  for place, names in TABLES.items():
    here = [test for test in tests if re.match(place, test)]
    missing[place] = [
      name
      for name in names
      if not any(re.search(rf'(?<![a-z]){name}(?![a-z])', t) for t in here)
    ]
  # Tests of kinds build them from such a spec.
  files = {test.partition('::')[0] for test in tests}
  text = ''.join((ROOT / 'tests' / f).read_text('utf-8') for f in files)
  specs = set(re.findall(r"'?kind'?[=:] '(\w+)'", text))
  missing['kinds'] = set(kinds.TASK_KINDS) - specs
  assert not any(missing.values()), missing

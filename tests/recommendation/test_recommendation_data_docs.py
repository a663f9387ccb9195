"""docs/recommendation_data.md prints what it says."""

import contextlib
import io
import pathlib
import re
import runpy
import shlex
import sys

import numpy as np
import pytest

from mtl_jax.recommendation import logs

ROOT = pathlib.Path(__file__).parents[2]
PAGE = (ROOT / 'docs' / 'recommendation_data.md').read_text(encoding='utf-8')
# The table that follows a command, if it is one of simple recommenders.
RUNS = re.findall(
  r'```bash\npython (benchmarks/recommenders.py [^\n]*)\n```\n\n'
  r'(.*?)(?:\n\n[^|]|\Z)',
  PAGE,
  re.DOTALL,
)


def printed(run):
  output = io.StringIO()
  with contextlib.redirect_stdout(output):
    run()
  return output.getvalue()


def test_the_example_prints_its_output():
  (code,) = re.findall(r'```python\n(.*?)```', PAGE, re.DOTALL)
  (expected,) = re.findall(r'```text\n(.*?)```', PAGE, re.DOTALL)
  assert printed(lambda: exec(compile(code, 'page', 'exec'), {})) == expected


def test_every_command_has_its_table():
  assert len(RUNS) == PAGE.count('python benchmarks/recommenders.py') > 3
  assert all(table.startswith('| model |') for _, table in RUNS)


def test_every_log_has_its_row():
  named = re.findall(r'^\| `([\w-]+)` \|', PAGE, re.M)
  assert set(logs.LOGS) <= set(named)


@pytest.mark.slow
@pytest.mark.parametrize('command, table', RUNS)
def test_the_tables_are_what_the_commands_print(command, table, monkeypatch):
  monkeypatch.setattr(sys, 'argv', shlex.split(command))
  script = str(ROOT / 'benchmarks' / 'recommenders.py')
  lines = printed(lambda: runpy.run_path(script, run_name='__main__'))
  rows = [x for x in lines.splitlines() if x.startswith('|')]
  shown = [x for x in table.splitlines() if x.startswith('|')]
  assert len(rows) == len(shown) > 3
  for row, expected in zip(rows, shown, strict=True):
    cells = [x.split('|') for x in (row, expected)]
    assert cells[0][1] == cells[1][1]
    values = [
      [float(x) if '.' in x else np.nan for x in own[2:]] for own in cells
    ]
    np.testing.assert_allclose(*values, atol=3e-4)

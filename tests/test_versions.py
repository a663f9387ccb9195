"""The versions that are allowed, tested, and said to be."""

import pathlib
import re
import runpy

import pytest

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope='module')
def pins():
  return runpy.run_path(str(ROOT / '.ci' / 'oldest.py'))['pins']


def test_the_readme_has_the_oldest_versions(pins):
  oldest = pins((ROOT / 'pyproject.toml').read_text(encoding='utf-8'))
  readme = (ROOT / 'README.md').read_text(encoding='utf-8')
  rows = [
    [cell.strip() for cell in line.strip('|').split('|')]
    for line in readme.splitlines()
    if line.count('|') == 10
  ]
  (row,) = (row for row in rows if row[1].endswith('oldest'))
  for name, version in zip(rows[0][2:], row[2:], strict=True):
    parts = [*oldest[name].split('.'), '0', '0'][:3]
    assert version == '.'.join(parts), name


def test_constraints_are_the_lower_bounds(pins):
  text = """
[project]
dependencies = ["a-b>=1.2; sys_platform != 'win32'", "c>=3"]
optional-dependencies.dev = ["d_e>=4.5.6"]
"""
  assert pins(text) == {'a-b': '1.2', 'c': '3', 'd_e': '4.5.6'}
  with pytest.raises(AssertionError, match="a lower bound, found 'c<4'"):
    pins(text.replace('c>=3', 'c<4'))


def test_ci_says_what_it_skips_and_how_long_it_took():
  script = (ROOT / '.ci' / 'run').read_text(encoding='utf-8')
  assert re.search(r'^trap finish EXIT$', script, re.M)
  parts = re.findall(r"^ *begin ['\"](.+)['\"]$", script, re.M)
  assert len(parts) >= 6 and script.count('skipped+=(') == 3

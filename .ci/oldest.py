"""Prints the oldest versions that pyproject.toml allows, as pip's constraints.

python .ci/oldest.py > constraints.txt
"""

import pathlib
import re
import tomllib

FILE = pathlib.Path(__file__).parents[1] / 'pyproject.toml'


def pins(text):
  """``{name: version}`` of all packages that a use or the tests need."""
  project = tomllib.loads(text)['project']
  lines = project['dependencies'] + project['optional-dependencies']['dev']
  versions = {}
  for line in lines:
    bound = re.match(r'([\w-]+)>=([\d.]+)', line)
    assert bound, f'Expected a lower bound, found {line!r} in pyproject.toml'
    versions[bound[1]] = bound[2]
  return versions


if __name__ == '__main__':
  for name, version in pins(FILE.read_text(encoding='utf-8')).items():
    print(f'{name}=={version}')

"""Writes docs/reproductions.md from the results of configs/papers.

python docs/reproductions.py runs/papers

Each work directory in the folder is named after its config: cagrad_toy for
configs/papers/cagrad_toy.py, zdt_front_2 for zdt_front.py:2. The page holds
what they found; what it says beside numbers is from the configs: their first
paragraphs, and those that begin with 'Seen in the runs:'.
"""

import ast
import json
import pathlib
import re
import sys
from typing import Any

from mtl_jax.reporting import problem_report, tables

ROOT = pathlib.Path(__file__).parents[1]
PAGE = ROOT / 'docs' / 'reproductions.md'
PAPERS = ROOT / 'configs' / 'papers'
HEAD = """# Reproductions

Claims of papers, written down as data in `configs/papers` before the first
run, and what the runs say of them. A claim *holds* or *fails* where the number,
or all of its interval over seeds, lies on one side of the line, and is
*undecided* where the line lies inside. It is never changed afterwards; a work
directory refuses a config whose claims differ from those it was run with.
Times are of 2 CPU cores that were shared with other work. Written by
`python docs/reproductions.py runs/papers` from the results alone.

"""


def main(folder: str) -> None:
  """Writes the page from the work directories in a folder."""
  found = {
    path.parent.name: json.loads(path.read_text(encoding='utf-8'))
    for path in sorted(pathlib.Path(folder).glob('*/results.json'))
  }
  for name in [n for n, results in found.items() if 'claims' not in results]:
    print(f'{name}: without claims, left out')
    del found[name]
  if not found:
    sys.exit(
      f'Expected results.json with claims in folders of {folder}, found none; '
      'run the configs of configs/papers first.'
    )
  text = HEAD + _overview(found)
  for name, results in found.items():
    text += _section(name, results)
  PAGE.write_text(text, encoding='utf-8')
  print(f'{PAGE}: {len(found)} configs')


def config_of(name: str) -> tuple[pathlib.Path, str]:
  """The config file and the argument of a work directory.

  Example:
    >>> config_of('zdt_front_2')[1], config_of('cagrad_toy')[1]
    ('2', '')
  """
  if (PAPERS / f'{name}.py').exists():
    return PAPERS / f'{name}.py', ''
  stem, _, argument = name.rpartition('_')
  return PAPERS / f'{stem}.py', argument


def _overview(found) -> str:
  rows = []
  for name, results in found.items():
    verdicts = [claim['verdict'] for claim in results['claims'].values()]
    counts = [
      str(verdicts.count(v) or '')
      for v in ('holds', 'fails', 'undecided', 'not run')
    ]
    link = f'[{name}](#{name})'
    seconds = results['timing']['seconds']
    rows.append([link, *counts, f'{seconds:.0f} s'])
  columns = ['config', 'holds', 'fails', 'undecided', 'not run', 'time']
  return tables.Table('', columns, rows).to_markdown() + '\n'


def _section(name: str, results: dict[str, Any]) -> str:
  path, argument = config_of(name)
  docstring = ast.get_docstring(ast.parse(path.read_text(encoding='utf-8')))
  paragraphs = re.split(r'\n\s*\n', docstring or '')
  spec = f'configs/papers/{path.name}' + (f':{argument}' if argument else '')
  lines = [f'\n## {name}\n', paragraphs[0], '']
  picture = ROOT / 'docs' / 'images' / f'{name}.png'
  if picture.exists():
    lines += [f'![The runs of {name}](images/{picture.name})', '']
  rows = [
    [
      claim['text'],
      claim.get('source', ''),
      claim['statement'],
      problem_report.ours(claim),
      str(claim.get('n', '-')),
      claim['verdict'],
    ]
    for claim in results['claims'].values()
  ]
  columns = ['claim', 'source', 'statistic and line', 'ours', 'n', 'verdict']
  lines += [tables.Table('', columns, rows, left=3).to_markdown(), '']
  for absent, why in results.get('absent', {}).items():
    lines += [f'Not run: `{absent}`: {why}.', '']
  lines += [p for p in paragraphs if p.startswith('Seen in the runs:')]
  lines += [
    '',
    f'{results["timing"]["seconds"]:.0f} s on '
    f'{results["devices"]["kind"]}, jax {results["versions"]["jax"]}, '
    f'commit {_short(results["commit"])}.',
    '',
    f'```bash\npython launch.py --config={spec} --workdir=runs/papers/{name}',
    '```',
    '',
  ]
  return '\n'.join(lines)


def _short(commit: str | None) -> str:
  if commit is None:
    return 'unknown'
  return commit[:7] + (' with changes' if '+' in commit else '')


if __name__ == '__main__':
  main(*sys.argv[1:])

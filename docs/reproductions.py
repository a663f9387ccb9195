"""Writes docs/reproductions.md from the results of configs/papers.

python docs/reproductions.py runs/papers

Each work directory in the folder is named after its config: cagrad_toy for
configs/papers/cagrad_toy.py, zdt_front_2 for zdt_front.py:2. Analytic problems
have left a results.json there, studies a study.json. The page holds what they
found; what it says beside numbers is from the configs: their first paragraphs,
and those that begin with 'Seen in the runs:' or 'Not run:'. A config without
work directory stands there with its claims, as not run.
"""

import ast
from collections.abc import Mapping
import json
import pathlib
import re
import sys
from typing import Any, NamedTuple

import mtl_jax
from mtl_jax.reporting import tables
from mtl_jax.studies import (
  problem_study as problem_report,
  record as study_record,
  study_tables,
)

ROOT = pathlib.Path(__file__).parents[1]
PAGE = ROOT / 'docs' / 'reproductions.md'
PAPERS = ROOT / 'configs' / 'papers'
HEAD = """# Reproductions

Claims of papers, written down as data in `configs/papers` before the first
run, and what the runs say of them. A claim *holds* or *fails* where the number,
or all of its interval over seeds, lies on one side of the line, and is
*undecided* where the line lies inside. It is never changed afterwards; a work
directory refuses a config whose claims differ from those it was run with.
Times are of 2 CPU cores that were shared with other work, those of studies
without compiling and evaluation. Written by
`python docs/reproductions.py runs/papers` from the results alone.

"""


def main(folder: str) -> None:
  """Writes the page from the work directories in a folder."""
  found = {}
  for path in sorted(pathlib.Path(folder).glob('*/results.json')):
    results = json.loads(path.read_text(encoding='utf-8'))
    if 'claims' in results:
      found[path.parent.name] = of_problem(results)
    else:
      print(f'{path.parent.name}: without claims, left out')
  for path in sorted(pathlib.Path(folder).glob('*/study.json')):
    found[path.parent.name] = of_study(path)
  if not found:
    sys.exit(
      'Expected results.json or study.json with claims in folders of '
      f'{folder}, found none; run the configs of configs/papers first.'
    )
  for path in sorted(PAPERS.glob('*.py')):
    if not any(config_of(name)[0] == path for name in found):
      found[path.stem] = not_run(path)
  found = dict(sorted(found.items()))
  text = HEAD + _overview(found)
  for name, facts in found.items():
    text += _section(name, facts)
  PAGE.write_text(text, encoding='utf-8')
  print(f'{PAGE}: {len(found)} configs')


class Facts(NamedTuple):
  """What the page says of one config."""

  rows: list[list[str]]  # COLUMNS
  seconds: float | None
  surroundings: Mapping[str, Any] | None  # None: not run
  absent: Mapping[str, str] = {}


def of_problem(results: Mapping[str, Any]) -> Facts:
  """Of the results of an analytic problem."""
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
  seconds = results['timing']['seconds']
  return Facts(rows, seconds, results, results.get('absent', {}))


def of_study(path: pathlib.Path) -> Facts:
  """Of the record of a study, and the summary beside it."""
  record = json.loads(path.read_text(encoding='utf-8'))
  summary = json.loads((path.parent / 'summary.json').read_text('utf-8'))
  rows = []
  for found in summary['verdicts']:
    claim, ours = study_record.Claim(**found['claim']), found['found']
    shown = {'ours': ours['mean']}
    if claim.test != 'value' and ours['n']:
      shown |= {'low': ours['low'], 'high': ours['high']}
    rows.append(
      [
        claim.text,
        claim.source,
        study_tables.statement(claim),
        problem_report.ours(shown),
        str(ours['n']),
        found['verdict'],
      ]
    )
  seconds = sum(_seconds(method) for method in record['methods'])
  return Facts(rows, seconds, record['surroundings'])


def _seconds(method: Mapping[str, Any]) -> float:
  """Of the training steps of a method's runs, without compiling."""
  steps = 0
  for run in method['runs']:
    curves = run['curves']['train'].values()
    steps += max(points[-1][0] for points in curves)
  return steps * method['cost']['step_ms'] / 1e3


def not_run(path: pathlib.Path) -> Facts:
  """The claims of a study's config without work directory."""
  claims = mtl_jax.load_config(str(path)).study.claims
  rows = []
  for given in claims:
    claim = study_record.Claim(**given)
    line = study_tables.statement(claim)
    rows.append([claim.text, claim.source, line, '-', '-', 'not run'])
  return Facts(rows, None, None)


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


def _overview(found: Mapping[str, Facts]) -> str:
  rows = []
  for name, facts in found.items():
    verdicts = [row[-1] for row in facts.rows]
    counts = [
      str(verdicts.count(v) or '')
      for v in ('holds', 'fails', 'undecided', 'not run')
    ]
    time = '' if facts.seconds is None else f'{facts.seconds:.0f} s'
    rows.append([f'[{name}](#{name})', *counts, time])
  columns = ['config', 'holds', 'fails', 'undecided', 'not run', 'time']
  return tables.Table('', columns, rows).to_markdown() + '\n'


def _section(name: str, facts: Facts) -> str:
  path, argument = config_of(name)
  docstring = ast.get_docstring(ast.parse(path.read_text(encoding='utf-8')))
  paragraphs = re.split(r'\n\s*\n', docstring or '')
  spec = f'configs/papers/{path.name}' + (f':{argument}' if argument else '')
  lines = [f'\n## {name}\n', paragraphs[0], '']
  picture = ROOT / 'docs' / 'images' / f'{name}.png'
  if picture.exists():
    lines += [f'![The runs of {name}](images/{picture.name})', '']
  columns = ['claim', 'source', 'statistic and line', 'ours', 'n', 'verdict']
  lines += [tables.Table('', columns, facts.rows, left=3).to_markdown(), '']
  for absent, why in facts.absent.items():
    lines += [f'Not run: `{absent}`: {why}.', '']
  shown = ('Seen in the runs:', 'Not run:')
  lines += [p + '\n' for p in paragraphs if p.startswith(shown)]
  if facts.surroundings is not None:
    lines += [
      f'{facts.seconds:.0f} s on {facts.surroundings["devices"]["kind"]}, '
      f'jax {facts.surroundings["versions"]["jax"]}, '
      f'commit {_short(facts.surroundings["commit"])}.',
      '',
    ]
  lines += [
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

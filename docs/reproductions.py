"""Writes docs/reproductions.md from the results of configs/papers.

  python docs/reproductions.py runs/papers        from what is there
  python docs/reproductions.py runs/papers --run  runs all problems first

Each work directory in the folder is named after its config: cagrad_toy for
configs/papers/cagrad_toy.py, zdt_front_2 for zdt_front.py:2. The page holds
what their records say; what it says beside numbers is from the configs: their
first paragraphs, and those that begin with 'Seen in the runs:' or 'Not run:'.
Without a work directory, the section of a config stays as it is while its
claims are the same, and has them as not run otherwise. ``--run`` takes about 20
minutes on 2 cores, needs a clean commit, and copies the pictures too.
"""

import argparse
import ast
from collections.abc import Mapping, Sequence
import pathlib
import re
import shutil
import subprocess
import sys
from typing import Any, NamedTuple

import mtl_jax
from mtl_jax.config import settings as settings_lib
from mtl_jax.reporting import markup, result_tables, results_file as results
from mtl_jax.studies import (
  claims as claims_lib,
  page as page_lib,
  record,
)

ROOT = pathlib.Path(__file__).parents[1]
PAGE = ROOT / 'docs' / 'reproductions.md'
IMAGES = ROOT / 'docs' / 'images'
PAPERS = ROOT / 'configs' / 'papers'
ARGUMENTS = {'famo_toy': ('paper',), 'zdt_front': ('2', '3')}
VERDICTS = ('holds', 'fails', 'undecided', 'not run')
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


class Facts(NamedTuple):
  """Facts of one config on the page.

  Attributes:
    rows: of `COLUMNS`.
    seconds: None if they are not known.
    environment: None if it was not run.
    absent: methods that were not run, and why.
  """

  rows: list[list[str]]
  seconds: float | None = None
  environment: Mapping[str, Any] | None = None
  absent: Mapping[str, str] = {}


COLUMNS = ('claim', 'source', 'statistic and line', 'ours', 'n', 'verdict')


def main(argv: Sequence[str]) -> None:
  """Writes the page from the work directories in a folder."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('folder', type=pathlib.Path)
  parser.add_argument('--run', action='store_true')
  flags = parser.parse_args(argv)
  if flags.run:
    run_problems(flags.folder)
  old = sections_of(PAGE.read_text(encoding='utf-8'))
  sections, rows = {}, []
  for name, spec in sorted(list_configs().items()):
    study = load(spec).study
    if (flags.folder / name / record.STUDY).exists():
      facts = of_record(flags.folder / name)
    elif has_claims(old.get(name, ''), study.claims):
      sections[name], row = old[name], overview_of(old[name])
      rows.append([f'[{name}](#{name})', *row])
      continue
    elif study.claims:
      facts = Facts([_row(x, '-', '-', 'not run') for x in study.claims])
    else:
      print(f'{name}: without claims and not run, left out')
      continue
    sections[name] = _section(name, spec, facts)
    rows.append([f'[{name}](#{name})', *_overview(facts)])
  columns = ['config', *VERDICTS, 'time']
  overview = (
    markup.markdown(result_tables.ResultTable('', columns, rows)) + '\n'
  )
  text = ''.join(f'\n## {name}\n{x}' for name, x in sections.items())
  PAGE.write_text(HEAD + overview + text, encoding='utf-8')
  print(f'{PAGE}: {len(sections)} configs')


def run_problems(folder: pathlib.Path) -> None:
  """Runs the config of every problem, and copies the pictures of the page."""
  commit = results.commit(ROOT)
  if commit is None or commit.endswith('+changes'):
    sys.exit(
      f'Expected a clean commit to run from, found {commit}; commit or stash '
      'what was changed.'
    )
  problems = {
    name: spec
    for name, spec in sorted(list_configs().items())
    if load(spec).problem.name
  }
  for name, spec in problems.items():
    command = ['launch.py', f'--config={spec}', f'--workdir={folder / name}']
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True)
  # Only now, so that every run was of a clean commit.
  for name in problems:
    for kind in ('landscape', 'fronts'):
      picture = folder / name / page_lib.FIGURES / f'{kind}.png'
      if picture.exists() and (IMAGES / f'{name}.png').exists():
        shutil.copy(picture, IMAGES / f'{name}.png')


def list_configs() -> dict[str, str]:
  """The spec of each config of a paper, by the name of its work directory."""
  specs = {}
  for path in sorted(PAPERS.glob('*.py')):
    specs[path.stem] = f'configs/papers/{path.name}'
    for argument in ARGUMENTS.get(path.stem, ()):
      specs[f'{path.stem}_{argument}'] = f'{specs[path.stem]}:{argument}'
  return specs


def load(spec: str) -> settings_lib.Settings:
  """The settings of a config."""
  return settings_lib.from_config(mtl_jax.load_config(str(ROOT / spec)))


def of_record(workdir: pathlib.Path) -> Facts:
  """Facts from the record of a study, on networks or on a problem."""
  study = record.read(workdir)
  summary = page_lib.summarise(study)
  rows = [
    _row(x.claim, claims_lib.ours(x), str(x.estimate.n), x.verdict)
    for x in summary.verdicts
  ]
  seconds = study.seconds
  if seconds is None:
    seconds = sum(map(_seconds, study.methods))
  return Facts(rows, seconds, study.environment, study.absent)


def _row(claim, ours, n, verdict) -> list[str]:
  line = claims_lib.describe(claim)
  return [claim.text, claim.source, line, ours, n, verdict]


def _seconds(method: record.Method) -> float:
  """Of the training steps of a method's runs, without compiling."""
  steps = sum(
    max(points[-1][0] for points in run.curves['train'].values())
    for run in method.runs
  )
  return steps * (method.cost.step_ms or 0) / 1e3


def sections_of(text: str) -> dict[str, str]:
  """The sections of the page that there is, by the name of the config."""
  parts = text.split('\n## ')[1:]
  return dict(part.partition('\n')[::2] for part in parts)


def cells_of(section: str) -> list[list[str]]:
  """The rows of a section's table of claims."""
  lines = [x for x in section.splitlines() if x.startswith('| ')]
  return [[c.strip() for c in x.strip('|').split(' | ')] for x in lines][2:]


def has_claims(section: str, claims: Sequence[record.Claim]) -> bool:
  """Whether a section is of a run, and about these claims."""
  rows = [row[:3] for row in cells_of(section)]
  same = rows == [_row(x, '', '', '')[:3] for x in claims]
  return bool(section) and ', commit ' in section and same


def overview_of(section: str) -> list[str]:
  """The cells of the overview of a section that stays."""
  verdicts = [row[-1] for row in cells_of(section)]
  time = re.search(r'^(\d+ s) on ', section, re.M)
  return [*_counts(verdicts), time[1] if time else '']


def _counts(verdicts):
  return [str(verdicts.count(v) or '') for v in VERDICTS]


def _overview(facts: Facts) -> list[str]:
  time = '' if facts.seconds is None else f'{facts.seconds:.0f} s'
  return [*_counts([row[-1] for row in facts.rows]), time]


def _section(name: str, spec: str, facts: Facts) -> str:
  path = ROOT / spec.partition(':')[0]
  docstring = ast.get_docstring(ast.parse(path.read_text(encoding='utf-8')))
  paragraphs = re.split(r'\n\s*\n', docstring or '')
  lines = ['', paragraphs[0], '']
  if (IMAGES / f'{name}.png').exists():
    lines += [f'![The runs of {name}](images/{name}.png)', '']
  if facts.rows:
    table = result_tables.ResultTable('', COLUMNS, facts.rows, left=3)
    lines += [markup.markdown(table), '']
  for absent, why in facts.absent.items():
    lines += [f'Not run: `{absent}`: {why}.', '']
  shown = ('Seen in the runs:', 'Not run:')
  lines += [p + '\n' for p in paragraphs if p.startswith(shown)]
  if facts.environment is not None:
    lines += [
      f'{facts.seconds:.0f} s on {facts.environment["devices"]["kind"]}, '
      f'jax {facts.environment["versions"]["jax"]}, '
      f'commit {_short(facts.environment["commit"])}.',
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
  main(sys.argv[1:])

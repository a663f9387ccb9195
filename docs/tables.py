"""Writes what exists into README, in two languages, and docs/reference.md.

python docs/tables.py           rewrites them from the code
python docs/tables.py --check   only says whether they are up to date
"""

import argparse
import ast
from collections.abc import Mapping
import inspect
import pathlib
import re
import sys
from typing import Any, NamedTuple

from mtl_jax import combinators, models, problems
from mtl_jax.data import catalogue
from mtl_jax.evaluation import simple_baselines
from mtl_jax.experiment import methods
from mtl_jax.tasks import kinds as task_kinds
from mtl_jax.training import parallel

ROOT = pathlib.Path(__file__).parents[1]
BEGIN = '<!-- begin: written by docs/tables.py -->\n'
END = '<!-- end -->\n'


class Kind(NamedTuple):
  """One table of the code, and the setting that picks from it."""

  title: str
  setting: str
  table: Mapping[str, Any]
  options: str = ''  # where its options stand; '' = it has none


# The values of a table are functions, or what a name means in words.
MODES = {
  'jit': 'Plain jit over global arrays: the default.',
  'shard_map': 'One program per device, with explicit reductions.',
  'pmap': 'The older form of the same.',
}


def _configs() -> dict[str, str]:
  """The shipped configs, with the first lines of their docstrings."""
  titles = {}
  for path in sorted((ROOT / 'configs').rglob('*.py')):
    text = ast.get_docstring(ast.parse(path.read_text(encoding='utf-8'))) or ''
    titles[str(path.relative_to(ROOT))] = text.partition('\n')[0]
  return titles


KINDS = (
  Kind('Experiments', '--config', _configs()),
  Kind('Trunks', 'model.trunk.name', models.TRUNKS, 'model.trunk'),
  Kind(
    'Sharing architectures',
    'model.sharing.name',
    models.SHARING,
    'model.sharing',
  ),
  Kind('Input encoders', 'model.inputs.name', models.INPUTS, 'model.inputs'),
  Kind('Heads', 'model.head.name', models.HEADS, 'model.head'),
  Kind('Combinators', 'combinator.name', combinators.COMBINATORS, 'combinator'),
  Kind('Step builders', 'combinator.name', methods.STEP_BUILDERS, 'combinator'),
  Kind(
    'Wrappers of combinators',
    'combinator.wrappers',
    combinators.WRAPPERS,
    'combinator.wrappers[i]',
  ),
  Kind(
    'In front of combinators',
    'combinator.before',
    combinators.TASK_TRANSFORMS,
    'combinator.before[i]',
  ),
  Kind(
    'Kinds of task', 'targets.TASK.kind', task_kinds.TASK_KINDS, 'targets.TASK'
  ),
  Kind('Data sets', 'data.name', catalogue.BUILDERS, 'data.settings'),
  Kind(
    'Parallel modes', 'training.mode', {m: MODES[m] for m in parallel.MODES}
  ),
  Kind('Baselines', 'baselines', simple_baselines.BASELINES),
  Kind(
    'Analytic problems', 'problem.name', problems.PROBLEMS, 'problem.options'
  ),
)
# Arguments that the builder passes, so that no config sets them.
GIVEN = (
  'parent', 'name', 'info', 'size', 'dtype', 'axis_name', 'num_tasks', 'kinds',
  'shared', 'inner', 'task_names',
)  # fmt: skip


# Titles of the table in README.zh.md.
CHINESE = {
  'What': '内容',
  'Setting': '设置',
  'Names': '名称',
  'Experiments': '实验',
  'Trunks': '主干',
  'Sharing architectures': '共享架构',
  'Input encoders': '输入编码器',
  'Heads': '任务头',
  'Combinators': '组合器',
  'Step builders': '训练步构造器',
  'Wrappers of combinators': '组合器的包装器',
  'In front of combinators': '置于组合器之前',
  'Kinds of task': '任务种类',
  'Data sets': '数据集',
  'Parallel modes': '并行模式',
  'Baselines': '基线',
  'Analytic problems': '解析问题',
}


def overview(words: Mapping[str, str] | None = None) -> str:
  """The README's table: a row for each kind; ``words`` translates titles."""
  titles = ['What', 'Setting', 'Names', *(kind.title for kind in KINDS)]
  what, setting, names, *kinds = (
    titles if words is None else [words[title] for title in titles]
  )
  rows = [
    f'| {title} | `{kind.setting}` | '
    f'{", ".join(f"`{name}`" for name in sorted(kind.table))} |\n'
    for title, kind in zip(kinds, KINDS, strict=True)
  ]
  return f'| {what} | {setting} | {names} |\n|---|---|---|\n' + ''.join(rows)


def reference() -> str:
  """A section for each kind, with what the docstrings say in one line."""
  return ''.join(_section(kind) for kind in KINDS)


def _section(kind: Kind) -> str:
  head, line = '| Name | What it is |', '|---|---|'
  if kind.options:
    head, line = f'{head} Options, in `{kind.options}` |', f'{line}---|'
  text = f'\n## {kind.title}: `{kind.setting}`\n\n{head}\n{line}\n'
  for name, value in sorted(kind.table.items()):
    text += f'| `{name}` | {summary(value)} |'
    known = f' {options(name, value)} |' if kind.options else ''
    text += f'{known}\n'
  return text


def summary(value: Any) -> str:
  """The first line of a docstring, in the notation of Markdown."""
  if isinstance(value, str):
    return value
  line = (inspect.getdoc(value) or '').partition('\n')[0]
  line = re.sub(r':math:`([^`]*)`', r'$\1$', line)
  return line.replace('``', '`').replace('|', r'\|')


def options(name: str, value: Any) -> str:
  """The arguments that a config may set."""
  if kind_is_data(value):
    value = catalogue.CONFIGS.get(name)
  if value is None:
    return ''
  found = [
    f'`{p.name}`'
    for p in inspect.signature(value).parameters.values()
    if p.name not in GIVEN and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
  ]
  return ', '.join(found)


def kind_is_data(value: Any) -> bool:
  """Whether it is a builder, whose options are those of its configs."""
  return value in catalogue.BUILDERS.values()


def replaced(text: str, made: str) -> str:
  """A page with the part between the marks made anew."""
  before, _, rest = text.partition(BEGIN)
  _, _, after = rest.partition(END)
  return f'{before}{BEGIN}{made}{END}{after}'


PAGES = {
  ROOT / 'README.md': overview,
  ROOT / 'README.zh.md': lambda: overview(CHINESE),
  ROOT / 'docs' / 'reference.md': reference,
}


def main(arguments: list[str] | None = None) -> int:
  """Writes or checks the pages; returns how many differ when checking."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--check', action='store_true')
  check = parser.parse_args(arguments).check
  stale = 0
  for path, make in PAGES.items():
    old = path.read_text(encoding='utf-8')
    new = replaced(old, make())
    if new != old:
      stale += 1
      print(f'{path.name} {"is out of date" if check else "rewritten"}')
      if not check:
        path.write_text(new, encoding='utf-8')
  return stale if check else 0


if __name__ == '__main__':
  sys.exit(main())

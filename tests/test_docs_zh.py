"""Pages in Chinese: code, tables, numbers and links are as in English."""

import collections
import itertools
import pathlib
import posixpath
import random
import re
from typing import NamedTuple

import pytest

ROOT = pathlib.Path(__file__).parents[1]
# From the page in English to the one in Chinese.
PAGES = {
  'README.md': 'README.zh.md',
  'docs/recommendation.md': 'docs/zh/recommendation.md',
}
ENGLISH = {chinese: english for english, chinese in PAGES.items()}
NUMBER = re.compile(r'(?:(?<![\w.)])[-−+])?\d+(?:[.,]\d+)*%?')
LINK = re.compile(r'\]\(([^)\s]+)\)')


class Section(NamedTuple):
  """What stands under a heading.

  Attributes:
    level: of the heading, from 1.
    title: of the heading.
    blocks: fenced blocks, with their fences.
    tables: tables, each a list of rows, each a list of cells.
    prose: the rest.
  """

  level: int
  title: str
  blocks: list
  tables: list
  prose: str


def sections(text):
  """The sections of a page, in order."""
  made, fence, row_before = [Section(0, 'the top', [], [], '')], False, False
  for line in text.splitlines():
    last, row = made[-1], not fence and line.startswith('|')
    heading = None if fence else re.fullmatch(r'(#+) (.*)', line)
    if line.startswith('```') and not fence:
      fence = True
      last.blocks.append(line)
    elif fence:
      last.blocks[-1] += f'\n{line}'
      fence = not line.startswith('```')
    elif heading:
      made.append(Section(len(heading[1]), heading[2], [], [], ''))
    elif row:
      if not row_before:
        last.tables.append([])
      cells = re.split(r'(?<!\\)\|', line.strip())[1:-1]
      last.tables[-1].append([cell.strip() for cell in cells])
    else:
      made[-1] = last._replace(prose=f'{last.prose}{line}\n')
    row_before = row
  return made


def facts(text):
  """``(code, numbers)`` of a text: spans of code and maths, and digits."""
  text = ' '.join(text.split())  # a span may go over lines
  spans = re.findall(r'`[^`]+`|\$[^$]+\$', text)
  rest = re.sub(r'`[^`]+`|\$[^$]+\$', ' ', LINK.sub('] ', text))
  return spans, collections.Counter(NUMBER.findall(rest))


def links(text, page):
  """What a text links to, from the root, in English where there are both."""
  targets = set()
  for target in LINK.findall(text):
    if '://' not in target:
      path, _, anchor = target.partition('#')
      path = posixpath.normpath(
        posixpath.join(posixpath.dirname(page), path) if path else page
      )
      path = ENGLISH.get(path, path)
      # Headings of a page in Chinese have anchors of their own.
      target = path if path in PAGES else f'{path}#{anchor}'.removesuffix('#')
    targets.add(target)
  return targets


def differing_tables(mine, other, where):
  """A sentence per difference of two tables."""
  if len(mine) != len(other):
    yield f'{where} has {len(mine)} lines, in Chinese {len(other)}'
    return
  for row, translated in zip(mine, other, strict=True):
    at = f'{where}, row {row[0] or row[1]}'
    if len(row) != len(translated):
      yield f'{at} has {len(row)} cells, in Chinese {len(translated)}'
      continue
    for cell, its in zip(row, translated, strict=True):
      (spans, numbers), (code, digits) = facts(cell), facts(its)
      if sorted(spans) != sorted(code) or numbers != digits:
        yield f'{at}: {cell!r} and {its!r} differ in a number or in code'


def differing_prose(mine, other, pages, where):
  """A sentence per difference between two texts of one section."""
  (spans, numbers), (code, digits) = facts(mine), facts(other)
  for name, a, b in (
    ('code', set(spans), set(code)),
    ('numbers', numbers, digits),
    ('links', links(mine, pages[0]), links(other, pages[1])),
  ):
    if a != b:
      yield (
        f'the text of {where} differs in {name}: only in English '
        f'{sorted(a - b)}, only in Chinese {sorted(b - a)}; write digits where '
        'the other has digits, and words where it has words'
      )


def differences(english, chinese, pages):
  """Sentences that name where two pages differ in what no language changes.

  Args:
    english: the text of one page.
    chinese: that of the other.
    pages: their paths from the root, which links depend on.
  """
  mine, other = sections(english), sections(chinese)
  outline = [[f'{"#" * s.level} {s.title}' for s in x] for x in (mine, other)]
  if [s.level for s in mine] != [s.level for s in other]:
    return [f'headings differ: {outline[0]} and {outline[1]}']
  named = []
  for a, b in zip(mine, other, strict=True):
    where = f'section {a.title!r} ({b.title})'
    if len(a.blocks) != len(b.blocks):
      named.append(
        f'{where} has {len(a.blocks)} blocks of code, in Chinese '
        f'{len(b.blocks)}'
      )
    for i, (block, its) in enumerate(zip(a.blocks, b.blocks, strict=False), 1):
      if block != its:
        rows = itertools.zip_longest(block.splitlines(), its.splitlines())
        line, translated = next(pair for pair in rows if pair[0] != pair[1])
        named.append(
          f'block {i} of {where} differs: {line!r}, in Chinese {translated!r}'
        )
    if len(a.tables) != len(b.tables):
      named.append(
        f'{where} has {len(a.tables)} tables, in Chinese {len(b.tables)}'
      )
    for i, pair in enumerate(zip(a.tables, b.tables, strict=False), 1):
      named += differing_tables(*pair, f'table {i} of {where}')
    named += differing_prose(a.prose, b.prose, pages, where)
  return named


def read(path):
  return (ROOT / path).read_text(encoding='utf-8')


@pytest.mark.parametrize('pages', PAGES.items(), ids=lambda pages: pages[1])
def test_code_tables_numbers_and_links_are_those_of_the_english(pages):
  named = differences(*map(read, pages), pages)
  assert not named, '\n'.join(named)


@pytest.mark.parametrize('pages', PAGES.items(), ids=lambda pages: pages[1])
def test_each_page_links_to_the_other_language_at_its_top(pages):
  for page, other in (pages, pages[::-1]):
    top = '\n'.join(read(page).splitlines()[:4])
    target = posixpath.relpath(other, posixpath.dirname(page) or '.')
    assert f']({target})' in top, page


@pytest.mark.parametrize('pages', PAGES.items(), ids=lambda pages: pages[1])
def test_a_changed_digit_anywhere_is_seen(pages):
  english, chinese = map(read, pages)
  places = [match.start() for match in re.finditer(r'[0-9]', chinese)]
  for place in random.Random(0).sample(places, 25):
    digit = str((int(chinese[place]) + 1) % 10)
    changed = chinese[:place] + digit + chinese[place + 1 :]
    assert differences(english, changed, pages), chinese[place - 30 : place + 9]


TEXT = """# A
Of `k` in 3 runs, see [b](b.md#c).

```bash
run --k=1
stop
```

## B
| name | ndcg |
|---|---|
| `one` | 0.25 |
| two | -0.5 |
"""


@pytest.mark.parametrize(
  ('old', 'new', 'message'),
  [
    ('k=1', 'k=2', r"block 1 of section 'A' \(A\) differs: 'run --k=1', in"),
    ('stop\n', '', r"block 1 .* differs: 'stop', in Chinese '```'"),
    ('## B', '### B', r"headings differ: .*'# A', '## B'. and .*'### B'"),
    (
      '| two | -0.5 |\n',
      '',
      "table 1 of section 'B' .* has 4 lines, in Ch.* 3",
    ),
    ('| two | -0.5 |', '| two |', 'row two has 2 cells, in Chinese 1'),
    ('-0.5', '0.5', "row two: '-0.5' and '0.5' differ in a number"),
    ('`one`', '`uno`', "row `one`: '`one`' and '`uno`' differ"),
    ('in 3 runs', 'in three runs', r"in numbers: only in English \['3'\]"),
    (
      'Of `k`',
      'Of `l`',
      r"in code: only in English \['`k`'\], only in Chinese",
    ),
    ('(b.md#c)', '(c.md#c)', r"in links: only in English \['b.md#c'\]"),
    ('```bash', '```\n```\n\n```bash', 'has 1 blocks of code, in Chinese 2'),
    ('| name', 'x\n\n| a |\n\n| name', 'has 1 tables, in Chinese 2'),
  ],
)
def test_what_differs_is_named(old, new, message):
  assert TEXT.count(old) == 1
  named = differences(TEXT, TEXT.replace(old, new), ('a.md', 'a.zh.md'))
  assert re.search(message, '\n'.join(named)), named


def test_words_may_differ():
  other = TEXT.replace('# A', '# 甲').replace('in 3 runs, see', '3 次运行，见')
  other = other.replace('name', '名称').replace('two', '二')
  assert not differences(TEXT, other, ('a.md', 'zh.md'))
  # A page of both languages is one target, from wherever it is linked.
  pages = ('docs/recommendation.md', 'docs/zh/recommendation.md')
  english = '[x](../README.md#use-it), [y](tasks.md#a)'
  chinese = '[x](../../README.zh.md#使用), [y](../tasks.md#a)'
  assert not differences(english, chinese, pages)

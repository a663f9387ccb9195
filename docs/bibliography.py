"""Reads docs/references.bib, as far as that file goes."""

import pathlib
import re

BIB = pathlib.Path(__file__).parent / 'references.bib'


def as_list() -> str:
  """All entries as a list, by key."""
  lines = []
  for key, entry in sorted(read().items()):
    venue = next(
      entry[field]
      for field in ('booktitle', 'journal', 'howpublished')
      if field in entry
    )
    who = f'{_authors(entry["author"])}. ' if 'author' in entry else ''
    lines.append(
      f'- `{key}`: {who}{entry["title"]}. *{venue}*, {entry["year"]}.\n'
    )
  return ''.join(lines)


def read() -> dict[str, dict[str, str]]:
  """``{key: fields}`` of references.bib, with the marks of LaTeX taken away."""
  entries = {}
  for body in re.split(r'^@\w+\{', BIB.read_text(encoding='utf-8'), flags=re.M):
    key, _, fields = body.partition(',')
    found = re.findall(r'^  (\w+) = \{(.*)\},$', fields, re.M)
    if found:
      entries[key] = {name: _plain(value) for name, value in found}
  return entries


def _plain(text: str) -> str:
  """Text without LaTeX's accents and braces."""
  return re.sub(r'[{}]', '', text.replace(r'{\'e}', 'é'))


def _authors(text: str) -> str:
  """Names in the order of speech, those that are left out as 'and others'."""
  names = [' '.join(reversed(name.split(', '))) for name in text.split(' and ')]
  last = f' and {names.pop()}' if len(names) > 1 else ''
  return ', '.join(names) + last

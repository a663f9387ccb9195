"""Doubtful ways of writing: what a file may mean by ids and by points."""

from typing import Any

import pyarrow as pa
import pyarrow.compute

pc: Any = pyarrow.compute  # it makes its functions when it is imported


class Powers:
  """Ids that a spreadsheet has shortened, in a column of names."""

  def __init__(self):
    self.example = ''

  def look(self, texts: pa.Array) -> None:
    """Looks at one text per row."""
    if self.example or not pc.any(pc.match_substring(texts, 'E+')).as_py():
      return
    short = pc.match_substring_regex(texts, r'^\s*\d(\.\d+)?E\+\d+\s*$')
    if pc.any(short).as_py():
      self.example = texts.filter(short)[0].as_py().strip()

  def line(self) -> str:
    """A line on what is doubtful, if anything is."""
    return self.example and (
      f'{self.example} is a long number that a spreadsheet has shortened, so '
      'that different ones may be alike: export the column as text.'
    )


class Points:
  """Points that may stand between thousands, in the numbers of a column.

  As if each number with a point has three digits behind it, and each without
  has no more than three.
  """

  def __init__(self):
    self.possible, self.whole, self.example = True, False, ''

  def look(self, texts: pa.Array) -> None:
    """Looks at one text per row."""
    if not self.possible:
      return
    # A few tell nearly all columns.
    for some in (texts[:100], texts):
      some = pc.utf8_trim_whitespace(some)
      texts = some.filter(pc.match_substring_regex(some, r'[0-9]'))
      grouped = pc.match_substring_regex(texts, r'^[+-]?[1-9]\d{0,2}\.\d{3}$')
      short = pc.match_substring_regex(texts, r'^[+-]?\d{1,3}$')
      if pc.all(pc.or_(grouped, short)).as_py() is False:
        self.possible = False
        return
    self.whole = self.whole or bool(pc.any(short).as_py())
    if pc.any(grouped).as_py():
      self.example = self.example or texts.filter(grouped)[0].as_py()

  def line(self) -> str:
    """A line on what is doubtful, if anything is."""
    if not (self.possible and self.whole and self.example):
      return ''
    return (
      f'{self.example} and the like are read with a point before decimals, '
      'beside numbers of up to three digits without a point: take the point '
      'out if it is between thousands.'
    )


# Of columns that are read as a kind.
DOUBTS = {
  'class': (Powers,),
  'string': (Powers,),
  'integer': (Powers, Points),
  'float': (Points,),
}

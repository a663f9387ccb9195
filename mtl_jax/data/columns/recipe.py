"""Recipe of one array of a batch, and what is asked of it."""

import collections
import dataclasses
import functools

from mtl_jax.data import tokenization

# (key, feature, 'cells' | 'missing' | 'unknown' | 'cut') -> how many
Counts = collections.Counter[tuple[str, str, str]]
# Kinds of field whose values are names, or lists of them.
NAMED = ('string', 'name', 'set', 'sequence')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Column:
  """Recipe of one array of the batch.

  Attributes:
    kind: that of the field; a string is 'text', 'category' or, as a label, a
      'class'; several features make a 'vector', and 'derived' ones are made by
      the table. A 'group' is a number per value of a split, -1 of a missing
      one, whatever training has.
    features: what it is made from.
    kinds: of the fields of these.
    shape: of one value of a feature.
    size: number of classes, categories or tokens, where that is known.
    names: of the classes, where they have names, and of the members of a set.
    texts: of the classes, where more is said of them than a name.
    pictures: paths of those of the classes, '' = none; () = of none.
    vocabulary: of a category; id 0 is any other name. Of a sequence, whose id 0
      is padding and 1 any other name. Of a class, the names
      that training has, where they are not those of its classes.
    by_value: of a class: whether codes are given to values by ``names``, or
      values are codes; of a set, whether it is a label; of a list, whether it
      holds whole numbers; of whole numbers, whether ``fill`` is an id of its
      own; of a group, whether a number below 0 is a value.
    positive: of a class, the name that is 1 where all others are 0.
    fold: whether names are compared without regard to case.
    tokenizer: of a text, as JSON.
    length: steps of a padded list or sequence.
    mean: subtracted from each of the features, in float64.
    std: they are divided by it.
    fill: what a missing number of each feature is replaced by; none is if
      empty, as in labels.
    seen: of ids: start and stop of each run of whole numbers in training.
    indicator: whether 1 or 0 for each feature that is missing or not follows.
    refuse: whether a missing number is an error.
  """

  kind: str
  features: tuple[str, ...]
  kinds: tuple[str, ...] = ()
  shape: tuple[int, ...] = ()
  size: int | None = None
  names: tuple[str, ...] = ()
  texts: tuple[str, ...] = ()
  pictures: tuple[str, ...] = ()
  vocabulary: tuple[str, ...] = ()
  by_value: bool = False
  positive: str = ''
  fold: bool = False
  tokenizer: str = ''
  length: int = 0
  mean: tuple[float, ...] = ()
  std: tuple[float, ...] = ()
  fill: tuple[float, ...] = ()
  seen: tuple[int, ...] = ()
  indicator: bool = False
  refuse: bool = False

  @functools.cached_property
  def codes(self) -> dict[str, int]:
    """Name of a value -> number of its class, category or member."""
    if self.kind in ('category', 'sequence'):
      first = 1 if self.kind == 'category' else tokenization.UNKNOWN + 1
      return {name: i for i, name in enumerate(self.vocabulary, start=first)}
    if self.positive:
      return {name: int(name == self.positive) for name in self.vocabulary}
    names = self.names or map(str, range(self.size or 0))
    return {name: i for i, name in enumerate(names)}

  @functools.cached_property
  def trained_tokenizer(self) -> tokenization.Tokenizer:
    """The tokenizer of a text."""
    return tokenization.Tokenizer(self.tokenizer)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Label:
  """Label that a task learns from a key of the batch.

  Attributes:
    kind: 'classification', 'binary', 'multilabel' or 'regression'; 'group' is
      no label but the number of a row's group in its split.
    num_classes: where whole numbers are classes 0, ..., num_classes - 1, also
      those that training lacks; 0 = the values that training has.
    positive: of 'binary': the name that is 1, all others being 0.
    shift: of 'regression': whether a constant may be taken off, as where all
      that is asked are differences.
    of: of 'group': the key whose values are the groups.
  """

  kind: str
  num_classes: int = 0
  positive: str = ''
  shift: bool = False
  of: str = ''


@dataclasses.dataclass(frozen=True, kw_only=True)
class InputUse:
  """Use of a column as an input, beyond its kind.

  Attributes:
    text: how a text is tokenized; None of other columns.
    standardize: whether numbers get mean 0 and standard deviation 1.
    fill: what becomes of missing numbers; '' leaves them as they are.
  """

  text: tokenization.TextOptions | None = None
  standardize: bool = False
  fill: str = ''


def plural(kind: str, shape: tuple[int, ...] = ()) -> str:
  """Values of a kind, for messages."""
  if shape:
    return f'lists of {shape[0]} numbers'
  return f'{kind}s' if kind in NAMED else f'{kind} values'

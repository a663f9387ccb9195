"""A log whose items have texts and pictures: who likes which emoji.

python benchmarks/emoji_log.py emoji_log

It writes a folder of RecBole's atomic files, and the pictures that they name.
Users are made up: each likes two of 95 subgroups, such as food-fruit, from
which four of five of their 20 emoji come. Every tenth emoji has no picture and
every tenth no words. A few stay out of the log, so that they are new
(docs/content.md). It takes seconds; npm brings 22.5 MB.
"""

import argparse
import pathlib

import numpy as np

from mtl_jax.data import emoji, packages

USERS, EVENTS, SHARE = 1500, 20, 0.8
NEW = ('mango', 'otter', 'trolleybus')


def main():
  """Writes the folder."""
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('folder', type=pathlib.Path)
  folder = parser.parse_args().folder
  (folder / 'pictures').mkdir(parents=True, exist_ok=True)
  every = emoji.read(
    str(packages.fetch(*packages.EMOJIBASE)),
    str(packages.fetch(*packages.FLUENT_EMOJI)),
  )
  # One of each stem: variants of one emoji look alike.
  first = dict(reversed([*zip(emoji.stems(every), every, strict=True)]))
  known = [one for one in first.values() if one.group != 'flags']
  for one in known:
    (folder / 'pictures' / f'{one.code}.webp').write_bytes(one.picture or b'')
  items = sorted(
    (one for one in known if one.label not in NEW), key=lambda one: one.code
  )
  about = [
    'item_id:token\ttitle:token\twords:token\tpicture:token\tclass:token'
  ]
  for number, one in enumerate(items):
    words = '' if number % 10 == 5 else one.text
    picture = '' if number % 10 == 0 else f'{one.code}.webp'
    about.append(f'{one.code}\t{one.label}\t{words}\t{picture}\t{one.group}')
  (folder / 'emoji.item').write_text('\n'.join(about) + '\n', encoding='utf-8')
  events = ['user_id:token\titem_id:token\ttimestamp:float']
  events += draw(items, np.random.default_rng(0))
  (folder / 'emoji.inter').write_text('\n'.join(events) + '\n')
  print(f'{len(items):,} emoji, {USERS:,} users, {len(events) - 1:,} events')
  for one in known:
    if one.label in NEW:
      print(f'new: {one.code}.webp, {one.text}')


def draw(items, rng):
  """Rows of events of users who mostly stay with two subgroups."""
  subgroups = sorted({one.subgroup for one in items})
  of = np.array([subgroups.index(one.subgroup) for one in items])
  rows = []
  for user in range(USERS):
    likes = rng.choice(len(subgroups), 2, replace=False)
    liked, seen = np.flatnonzero(np.isin(of, likes)), set()
    for time in range(EVENTS):
      among = [i for i in liked if i not in seen]
      if rng.random() >= SHARE or not among:
        among = [i for i in range(len(items)) if i not in seen]
      item = int(rng.choice(among))
      seen.add(item)
      rows.append(f'{user}\t{items[item].code}\t{time}')
  return rows


if __name__ == '__main__':
  main()

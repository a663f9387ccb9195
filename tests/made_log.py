"""A folder of RecBole's atomic files whose order a Markov chain made."""

import numpy as np


def write(folder, users=40, items=12, events=8, seed=0):
  """Users who mostly go on to the next item; odd items are of genre B.

  Args:
    folder: where ``made.inter`` and ``made.item`` go.
    users: how many.
    items: V, ids from 100.
    events: of each user, at most V.
    seed: of the draws.

  Returns:
    The folder, as a string.
  """
  rng = np.random.default_rng(seed)
  folder.mkdir(parents=True, exist_ok=True)
  rows = ['user_id:token\titem_id:token\trating:float\ttimestamp:float']
  for user in range(users):
    left, item = set(range(items)), int(rng.integers(items))
    for step in range(min(events, items)):
      left.discard(item)
      rating = 4 + item % 2 if user % 2 else 1 + item % 3
      rows.append(f'u{user}\t{100 + item}\t{rating}\t{1000 + 60 * step}')
      after = (item + 1) % items
      if left:
        item = after if after in left else int(rng.choice(sorted(left)))
  (folder / 'made.inter').write_text('\n'.join(rows) + '\n')
  about = ['item_id:token\tmovie_title:token\tclass:token_seq']
  about += [
    f'{100 + i}\tFilm {i}\t{"B" if i % 2 else "A"}' for i in range(items)
  ]
  (folder / 'made.item').write_text('\n'.join(about) + '\n')
  return str(folder)

"""Time and memory of reading a log of two million rows, layout by layout.

Writes made files into a temporary folder (300 MB), and reads each in a process
of its own, whose largest resident memory is printed beside that of a process
which only imports the reader.

  python benchmarks/log_files.py

About 2 minutes on 2 CPU cores.
"""

import argparse
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np

LAYOUTS = ('recbole', 'movielens 1M', 'movielens 25M', 'kuairand')


def columns(rows: int):
  """Users, items, ratings and times of a made log, in random order."""
  rng = np.random.default_rng(0)
  users = rng.integers(1, rows // 20, rows)
  items = (rng.pareto(0.7, rows) * 50).astype(int) % (rows // 40) + 1
  times = 1_600_000_000 + rng.integers(0, 10**8, rows)
  return users, items, rng.integers(1, 6, rows), times


def write(folder: pathlib.Path, layout: str, rows: int) -> None:
  """The files of one layout."""
  users, items, ratings, times = map(np.ndarray.tolist, columns(rows))
  events = zip(users, items, ratings, times, strict=True)
  known = range(1, max(items) + 1)
  if layout == 'recbole':
    with open(folder / 'made.inter', 'w') as file:
      file.write(
        'user_id:token\titem_id:token\trating:float\ttimestamp:float\n'
      )
      file.writelines(f'U{u}\tB{i:07}\t{r}\t{t}\n' for u, i, r, t in events)
  elif layout == 'movielens 1M':
    with open(folder / 'ratings.dat', 'w') as file:
      file.writelines(f'{u}::{i}::{r}::{t}\n' for u, i, r, t in events)
    with open(folder / 'movies.dat', 'w') as file:
      file.writelines(f'{i}::Film {i} (1999)::Drama|War\n' for i in known)
  elif layout == 'movielens 25M':
    with open(folder / 'ratings.csv', 'w') as file:
      file.write('userId,movieId,rating,timestamp\n')
      file.writelines(f'{u},{i},{r - 0.5},{t}\n' for u, i, r, t in events)
    with open(folder / 'movies.csv', 'w') as file:
      file.write('movieId,title,genres\n')
      file.writelines(f'{i},"Film, {i} (1999)",Drama|War\n' for i in known)
  else:
    _write_kuairand(folder, events, known)


def _write_kuairand(folder, events, known):
  names = (
    'user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,'
    'is_comment,is_forward,is_hate,long_view,play_time_ms,duration_ms,'
    'profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab\n'
  )
  with open(folder / 'log_standard_4_08_to_4_21_1k.csv', 'w') as file:
    file.write(names)
    file.writelines(
      f'{u},{i},20220408,1200,{t}000,{int(r > 3)},{int(r > 4)},0,0,0,0,1,'
      '12345,56789,0,0,0,0,1\n'
      for u, i, r, t in events
    )
  with open(folder / 'video_features_basic_1k.csv', 'w') as file:
    file.write('video_id,author_id,video_type,video_duration,tag\n')
    file.writelines(f'{i},{i % 999},NORMAL,9000,"12,65"\n' for i in known)


def read(folder: str, layout: str) -> None:
  """Reads a folder; prints events, seconds and megabytes."""
  from mtl_jax.recommendation.readers import kuairand, movielens, recbole

  # Of macOS in bytes, of Linux in kilobytes.
  unit = 1e-6 if sys.platform == 'darwin' else 1.024e-3
  before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
  start = time.perf_counter()
  readers = {'recbole': recbole.read, 'kuairand': kuairand.read}
  log = readers.get(layout, movielens.read)(folder)
  seconds = time.perf_counter() - start
  after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
  print(
    f'| {layout} | {len(log):,} | {log.num_users:,} | {log.num_items:,} | '
    f'{seconds:.1f} | {before:.0f} | {after:.0f} |'
  )


def main() -> None:
  """Prints one row per layout."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--rows', type=int, default=2_000_000)
  parser.add_argument('--read', nargs=2, help='a folder and its layout')
  flags = parser.parse_args()
  if flags.read:
    read(*flags.read)
    return
  print(
    '| layout | events | users | items | seconds | MB before | MB at most |'
  )
  print('|---|---|---|---|---|---|---|', flush=True)
  for layout in LAYOUTS:
    with tempfile.TemporaryDirectory() as folder:
      write(pathlib.Path(folder), layout, flags.rows)
      command = [sys.executable, __file__, '--read', folder, layout]
      subprocess.run(command, check=True)


if __name__ == '__main__':
  main()

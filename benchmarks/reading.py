"""Time and memory of reading a large CSV file: see docs/data.md.

Writes a file of random columns (numbers with empty cells, ids, categories and
names of classes), reads and encodes it, and prints the seconds and the largest
resident memory of the process that read it, which holds the whole table.

  python benchmarks/reading.py --rows=1000000 --columns=20
"""

import argparse
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np

KINDS = ('float', 'integer', 'string', 'float', 'class')


def kinds_of(count: int) -> dict[str, str]:
  """``{column: kind}``; the last column is the label."""
  kinds = {f'c{i}': KINDS[i % len(KINDS)] for i in range(count - 1)}
  return kinds | {'label': 'class'}


def write(path: pathlib.Path, rows: int, columns: int, quoted: bool) -> None:
  """Writes the file; with ``quoted`` names stand in quotation marks."""
  rng = np.random.default_rng(0)
  kinds = kinds_of(columns)
  mark = '"' if quoted else ''
  with open(path, 'w', encoding='utf-8') as file:
    file.write(','.join(kinds) + '\n')
    for start in range(0, rows, 10_000):
      count = min(10_000, rows - start)
      written = []
      for name, kind in kinds.items():
        if kind == 'float':
          values = [f'{x:.6f}' for x in rng.normal(size=count)]
          for hole in rng.integers(0, count, count // 50):
            values[hole] = ''
        elif kind == 'integer':
          values = list(map(str, rng.integers(0, 10**6, count)))
        else:
          most = 2 if name == 'label' else 50_000 if kind == 'string' else 20
          values = [f'{mark}n{i}{mark}' for i in rng.integers(0, most, count)]
        written.append(values)
      file.writelines(
        ','.join(row) + '\n' for row in zip(*written, strict=True)
      )


def read(path: pathlib.Path, columns: int) -> None:
  """Reads the file as a run does, and prints what that took."""
  from mtl_jax import data

  began = time.perf_counter()
  kinds = kinds_of(columns)
  numbers = [name for name, kind in kinds.items() if kind == 'float']
  features = {name: name for name in kinds if name not in numbers}
  loaded = data.load_files(
    {'train': f'{path}[:80%]', 'test': f'{path}[80%:]'},
    kinds,
    {**features, 'inputs': tuple(numbers)},
    labels={'label': 'binary'},
    standardize=('inputs',),
  )
  seconds = time.perf_counter() - began
  # Linux counts in KiB, macOS in bytes.
  unit = 1 if sys.platform == 'darwin' else 2**10
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
  rows = sum(loaded.info.sizes.values())
  print(
    f'{rows:,} rows, {columns} columns, '
    f'{path.stat().st_size / 1e6:.0f} MB: {seconds:.1f} s, '
    f'{peak / 1e9:.2f} GB',
    flush=True,
  )


def main() -> None:
  """Writes the file, and reads it in a process of its own."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--rows', type=int, default=1_000_000)
  parser.add_argument('--columns', type=int, default=20)
  parser.add_argument('--quoted', action='store_true')
  parser.add_argument('--read', type=pathlib.Path)
  flags = parser.parse_args()
  if flags.read:
    read(flags.read, flags.columns)
    return
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / 'large.csv'
    write(path, flags.rows, flags.columns, flags.quoted)
    command = [sys.executable, __file__, f'--read={path}']
    subprocess.run([*command, f'--columns={flags.columns}'], check=True)


if __name__ == '__main__':
  main()

"""Runs TorchJD and LibMTL on stored gradients, and stores their directions.

The tests compare mtl_jax with the outcome, tests/data/reference_*.npz, so they
need neither library. To make the files again, in an environment of its own
(neither library is a dependency of mtl_jax):

  python -m venv /tmp/reference
  /tmp/reference/bin/pip install torch==2.13.0 quadprog qpsolvers ecos
  /tmp/reference/bin/pip install \
      'torchjd[nash_mtl,cagrad,fairgrad]==0.18.0'
  /tmp/reference/bin/pip install --no-deps LibMTL==1.1.5
  git clone https://github.com/median-research-group/LibMTL /tmp/LibMTL
  /tmp/reference/bin/python benchmarks/reference_libmtl.py |
      while read commit name; do
        git -C /tmp/LibMTL show $commit:LibMTL/weighting/$name.py \
            > /tmp/newer/$name.py
      done
  /tmp/reference/bin/python benchmarks/make_reference.py tests/data /tmp/newer

LibMTL's last release, 1.1.5, has 12 methods; 10 more, and a CAGrad for any
number of tasks, are in its repository only. What is random in a library is
drawn by NumPy in its place, and stored.
"""

import sys
import warnings

import numpy as np
import reference_libmtl
import reference_problems
import reference_torchjd


def main(folder, newer):
  """Writes all files."""
  warnings.simplefilter('ignore')
  files = {
    'inputs': reference_problems.inputs(),
    'torchjd': reference_torchjd.run(),
    'libmtl': reference_libmtl.run(newer),
  }
  for name, arrays in files.items():
    np.savez_compressed(f'{folder}/reference_{name}.npz', **arrays)


if __name__ == '__main__':
  main(*sys.argv[1:])

"""Runs TorchJD and LibMTL on stored gradients, and stores their directions.

The tests compare mtl_jax with the outcome, tests/data/reference_*.npz, so they
need neither library. To make the files again, in an environment of its own
(neither library is a dependency of mtl_jax):

  python -m venv /tmp/reference
  /tmp/reference/bin/pip install torch==2.13.0 quadprog qpsolvers
  /tmp/reference/bin/pip install \
      'torchjd[nash_mtl,cagrad,fairgrad]==0.18.0'
  /tmp/reference/bin/pip install --no-deps LibMTL==1.1.5
  /tmp/reference/bin/python benchmarks/make_reference.py tests/data

What is random in a library (the orders of PCGrad and GradVac) is recorded.
"""

import importlib.util
import random
import sys
import types
import warnings

import numpy as np
import torch

SIZES = (2, 3, 5, 16)
STEPS = 3


def gradients(num_tasks):
  """``[STEPS, K, 2 K]``: plain, agreeing, and unequal with two camps."""
  rng = np.random.default_rng(num_tasks)
  rows = rng.normal(size=(STEPS, num_tasks, 2 * num_tasks))
  rows[1] += 0.5
  rows[2] *= np.geomspace(0.3, 3, num_tasks)[:, None]
  rows[2, :, 0] += np.where(np.arange(num_tasks) % 2, 1.5, -1.5)
  return rows


def losses(num_tasks):
  """``[STEPS, K]``, > 0."""
  return np.random.default_rng(99).uniform(0.5, 2, size=(STEPS, num_tasks))


class Recorder:
  """Stands for a source of permutations, and remembers what it gave."""

  def __init__(self, seed):
    self.rng, self.drawn = np.random.default_rng(seed), []

  def permutation(self, n):
    """Draws, and remembers, a permutation of 0 .. n - 1."""
    self.drawn.append(self.rng.permutation(n))
    return self.drawn[-1]


def orders(drawn, num_tasks):
  """Drawn permutations as ``[K, K]``: of all tasks, whatever was drawn."""
  rows = []
  for i, order in enumerate(drawn):
    if len(order) == num_tasks - 1:  # Of the others, by position.
      others = np.delete(np.arange(num_tasks), i)
      order = [*others[order], i]
    rows.append(order)
  return np.array(rows)


def run_torchjd():
  """``{name: array}`` for every method of TorchJD that mtl_jax has too."""
  from torchjd import aggregation

  out = {}
  for k in SIZES:
    rows = torch.tensor(gradients(k))
    out[f'rows_{k}'] = rows.numpy()
    makers = {
      'upgrad': aggregation.UPGrad,
      'dualproj': aggregation.DualProj,
      'mgda': lambda: aggregation.MGDA(epsilon=1e-9, max_iters=20000),
      'cagrad': lambda: aggregation.CAGrad(c=0.5),
      'imtl_g': aggregation.IMTLG,
      'conflict_free': aggregation.ConFIG,
      'nash_mtl': lambda k=k: aggregation.NashMTL(n_tasks=k),
      'fairgrad_1': lambda: aggregation.FairGrad(alpha=1.0),
      'fairgrad_2': lambda: aggregation.FairGrad(alpha=2.0),
      'aligned_min': aggregation.AlignedMTL,
      'aligned_median': lambda: aggregation.AlignedMTL(scale_mode='median'),
      'aligned_rmse': lambda: aggregation.AlignedMTL(scale_mode='rmse'),
    }
    if k > 2:
      makers['krum'] = lambda: aggregation.Krum(0, 2)
    for name, make in makers.items():
      out[f'{name}_{k}'] = np.array([make()(j).numpy() for j in rows])
    pcd = aggregation.PCD(tau=0.1)  # It keeps a state over the steps.
    out[f'pcd_{k}'] = np.array([pcd(j).numpy() for j in rows])
    for name, method in {
      'pcgrad': aggregation.PCGrad(),
      'gradvac': aggregation.GradVac(),
    }.items():
      directions, used = [], []
      for t, j in enumerate(rows):
        recorder = Recorder(t)
        original = torch.randperm
        torch.randperm = lambda n, r=recorder: torch.tensor(r.permutation(n))
        directions.append(method(j).numpy())
        torch.randperm = original
        used.append(orders(recorder.drawn, k))
      out[f'{name}_{k}'] = np.array(directions)
      out[f'{name}_orders_{k}'] = np.array(used)
  return out


def import_libmtl():
  """LibMTL.weighting, without its models, which need more packages."""
  spec = importlib.util.find_spec('LibMTL')
  package = types.ModuleType('LibMTL')
  package.__path__ = list(spec.submodule_search_locations)
  sys.modules['LibMTL'] = package
  import LibMTL.weighting

  return LibMTL.weighting


def run_libmtl():
  """``{name: array}`` for every gradient method of LibMTL 1.1.5."""
  weighting = import_libmtl()
  out = {}
  cases = {
    f'mgda_{n}': ('MGDA', {'mgda_gn': n}) for n in ('none', 'l2', 'loss')
  }
  cases['mgda_loss+'] = ('MGDA', {'mgda_gn': 'loss+'})
  cases['imtl_g'] = ('IMTL', {})
  cases['pcgrad'] = ('PCGrad', {})
  cases['gradvac'] = ('GradVac', {'beta': 0.5})
  for rescale in range(3):
    cases[f'cagrad_{rescale}'] = (
      'CAGrad',
      {'calpha': 0.5, 'rescale': rescale},
    )
  for k in SIZES:
    out[f'rows_{k}'], out[f'losses_{k}'] = gradients(k), losses(k)
    for name, (method, options) in cases.items():
      if method == 'CAGrad' and k != 3:
        continue  # It reshapes to (1, 3).
      directions, used = one_libmtl(getattr(weighting, method)(), k, options)
      out[f'{name}_{k}'] = directions
      if used is not None:
        out[f'{name}_orders_{k}'] = used
  return out


def one_libmtl(method, k, options):
  """Directions ``[STEPS, d]``, and orders ``[STEPS, K, K]`` or None."""
  method.task_num, method.rep_grad = k, False
  method.device = torch.device('cpu')
  method.init_param()
  method._compute_grad_dim = lambda: None
  result = {}
  method._reset_grad = lambda g: result.update(direction=g)
  directions, used = [], []
  for t in range(STEPS):
    rows = torch.tensor(gradients(k)[t]).float()  # As its buffers are.
    method._compute_grad = lambda *unused, r=rows, **also_unused: r
    recorder = Recorder(t)

    def shuffle(tasks, recorder=recorder):
      tasks[:] = [tasks[i] for i in recorder.permutation(len(tasks))]

    original, random.shuffle = random.shuffle, shuffle
    method.backward(torch.tensor(losses(k)[t]).float(), **options)
    random.shuffle = original
    directions.append(result['direction'].detach().numpy())
    if recorder.drawn:
      used.append(orders(recorder.drawn, k))
  return np.array(directions), np.array(used) if used else None


def main(folder):
  """Writes both files."""
  warnings.simplefilter('ignore')
  for name, run in {'torchjd': run_torchjd, 'libmtl': run_libmtl}.items():
    np.savez_compressed(f'{folder}/reference_{name}.npz', **run())


if __name__ == '__main__':
  main(sys.argv[1])

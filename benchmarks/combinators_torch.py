"""The part of `benchmarks/combinators.py` that runs TorchJD and LibMTL.

  ENVIRONMENT/bin/python benchmarks/combinators_torch.py FOLDER

Reads ``problems.npz`` and ``plan.json`` there, and writes ``torchjd.npz``,
``libmtl.npz`` (the weights) and ``torch.json`` (milliseconds). A method that
takes longer than the plan's limit, or fails, has no time.
"""

import contextlib
from importlib import metadata
import json
import pathlib
import random
import signal
import sys
import time
import warnings

from make_reference import import_libmtl
import numpy as np
import torch
from torchjd import aggregation, autojac

LIBMTL = {
  'imtl_g': ('IMTL', {}),
  'mgda': ('MGDA', {'mgda_gn': 'none'}),
  'pcgrad': ('PCGrad', {}),
}
TORCHJD = {
  'aligned_mtl': aggregation.AlignedMTLWeighting,
  'cagrad': lambda: aggregation.CAGradWeighting(c=0.5),
  'dualproj': aggregation.DualProjWeighting,
  'fairgrad': lambda: aggregation.FairGradWeighting(alpha=2.0),
  'imtl_g': aggregation.IMTLGWeighting,
  'mgda': aggregation.MGDAWeighting,
  'pcgrad': aggregation.PCGradWeighting,
  'upgrad': aggregation.UPGradWeighting,
}
STEPS = {
  'mgda': lambda num: aggregation.MGDA(),
  'nash_mtl': lambda num: aggregation.NashMTL(n_tasks=num),
  'pcgrad': lambda num: aggregation.PCGrad(),
  'upgrad': lambda num: aggregation.UPGrad(),
}


class Late(Exception):
  """A call took longer than it may."""


@contextlib.contextmanager
def limit(seconds):
  """Raises `Late` in what runs longer: some loops below have no end."""

  def stop(*unused):
    raise Late

  signal.signal(signal.SIGALRM, stop)
  signal.alarm(seconds)
  try:
    yield
  finally:
    signal.alarm(0)


def milliseconds(call, plan):
  """The times of a call, after one that is not counted; None if it fails."""
  times = []
  try:
    with limit(plan['limit']):
      call()
      for _ in range(plan['repeats']):
        start = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - start))
  except Late:
    return times or None
  except Exception as error:
    print(f'  {type(error).__name__}: {error}'[:100], file=sys.stderr)
    return None
  return times


def torchjd_solver(name, rows, gramian):
  """A call that gives the weights; Nash-MTL takes rows there."""
  if name == 'nash_mtl':
    weighting = aggregation.NashMTL(n_tasks=len(rows)).weighting

    def from_rows():
      weighting.reset()  # Without the solution of the call before.
      return weighting(rows)

    return from_rows
  weighting = TORCHJD[name]()
  return lambda: weighting(gramian)


def libmtl_solver(name, rows, weightings):
  """A call that gives the weights; LibMTL takes rows."""
  kind, options = LIBMTL[name]
  method = getattr(weightings, kind)()
  method.task_num, method.rep_grad = len(rows), False
  method.device = torch.device('cpu')
  method.init_param()
  method._compute_grad_dim = lambda: None
  method._compute_grad = lambda *unused, **also_unused: rows
  method._reset_grad = lambda direction: None
  losses = torch.ones(len(rows))
  return lambda: torch.as_tensor(method.backward(losses, **options))


def solve_all(problems, plan, make):
  """Weights and median milliseconds, as in `combinators_jax.py`."""
  weights, times = {}, {}
  for num in plan['solve_sizes']:
    for name in plan['solvers']:
      found, spent = [], []
      for rows, gramian in zip(
        problems[f'rows_{num}'], problems[f'gramian_{num}'], strict=True
      ):
        call = make(name, torch.tensor(rows), torch.tensor(gramian))
        these = call and milliseconds(call, plan)
        if not these:
          break
        spent += these
        found.append(call().detach().numpy())
      else:
        weights[f'{name}_{num}'] = np.array(found)
        times[f'{name}_{num}'] = float(np.median(spent))
  return weights, times


class Workload:
  """The multi-layer perceptron, its tasks and its optimizer."""

  def __init__(self, num, problems, widths):
    self.num = num
    self.inputs = torch.tensor(problems['inputs'])
    self.labels = torch.tensor(problems['labels'][:, :num]).float()
    layers, size = [], self.inputs.shape[1]
    for width in widths:
      layers += [torch.nn.Linear(size, width), torch.nn.ReLU()]
      size = width
    self.trunk = torch.nn.Sequential(*layers)
    self.heads = torch.nn.ModuleList(
      torch.nn.Linear(size, 1) for _ in range(num)
    )
    self.optimizer = torch.optim.Adam(
      [*self.trunk.parameters(), *self.heads.parameters()], lr=1e-3
    )

  def losses(self):
    """Features and K losses."""
    features = self.trunk(self.inputs)
    loss = torch.nn.functional.binary_cross_entropy_with_logits
    return features, [
      loss(head(features)[:, 0], self.labels[:, i])
      for i, head in enumerate(self.heads)
    ]

  def plain(self):
    """A step on the sum of losses."""
    self.optimizer.zero_grad()
    sum(self.losses()[1]).backward()
    self.optimizer.step()

  def torchjd(self, aggregator):
    """A step of TorchJD, as a call."""

    def step():
      self.optimizer.zero_grad()
      features, losses = self.losses()
      autojac.mtl_backward(losses, features)
      autojac.jac_to_grad(self.trunk.parameters(), aggregator)
      self.optimizer.step()

    return step

  def libmtl(self, method, options):
    """A step of LibMTL, as a call."""
    method.task_num, method.rep_grad = self.num, False
    method.device = torch.device('cpu')
    method.get_share_params = self.trunk.parameters
    method.zero_grad_share_params = lambda: self.trunk.zero_grad(False)
    method.init_param()

    def step():
      self.optimizer.zero_grad(False)
      method.backward(torch.stack(self.losses()[1]), **options)
      self.optimizer.step()

    return step


def step_all(problems, plan, make):
  """Median milliseconds of a step."""
  times = {}
  for num in plan['step_sizes']:
    for name in plan['steps']:
      call = make(name, Workload(num, problems, plan['widths']))
      spent = call and milliseconds(call, plan)
      if spent:
        times[f'{name}_{num}'] = float(np.median(spent))
  return times


def main(folder):
  """Runs the plan."""
  warnings.simplefilter('ignore')
  torch.manual_seed(0)
  random.seed(0)
  plan = json.loads((folder / 'plan.json').read_text())
  problems = dict(np.load(folder / 'problems.npz'))
  weightings = import_libmtl()

  def libmtl_of(name, rows, gramian):
    del gramian
    return libmtl_solver(name, rows, weightings) if name in LIBMTL else None

  def torchjd_step(name, work):
    if name == 'plain':
      return work.plain
    return work.torchjd(STEPS[name](work.num)) if name in STEPS else None

  def libmtl_step(name, work):
    if name not in LIBMTL:
      return None
    kind, options = LIBMTL[name]
    return work.libmtl(getattr(weightings, kind)(), options)

  results = {}
  for library, solve, step in (
    ('torchjd', torchjd_solver, torchjd_step),
    ('libmtl', libmtl_of, libmtl_step),
  ):
    weights, solved = solve_all(problems, plan, solve)
    np.savez(folder / f'{library}.npz', **weights)
    stepped = step_all(problems, plan, step)
    results[library] = {'solve': solved, 'step': stepped}
  on = f'on torch {torch.__version__}, {torch.get_num_threads()} threads'
  for library in results:
    results[library]['is'] = f'{metadata.version(library)} {on}'
  (folder / 'torch.json').write_text(json.dumps(results))


if __name__ == '__main__':
  main(pathlib.Path(sys.argv[1]))

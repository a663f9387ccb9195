"""Directions of TorchJD for the problems of reference_problems.py."""

import numpy as np
import reference_problems as problems
import torch


def run():
  """``{name: array}`` for every method that mtl_jax has too."""
  torch.set_default_dtype(torch.float64)
  out = {}
  for k in problems.SIZES:
    found = {
      **aggregated(k),
      **shuffled(k),
      **drawn(k),
      **sampled(k),
      **scalarized(k),
    }
    out.update({f'{name}_{k}': array for name, array in found.items()})
  return out


def aggregated(k):
  """Methods that read the matrix of gradients, their state carried along."""
  from torchjd import aggregation

  rows = torch.tensor(problems.gradients(k))
  preference = torch.tensor(problems.preference(k))
  makers = {
    'upgrad': aggregation.UPGrad,
    'upgrad_preference': lambda: aggregation.UPGrad(preference),
    'dualproj': aggregation.DualProj,
    'dualproj_preference': lambda: aggregation.DualProj(preference),
    'mgda': lambda: aggregation.MGDA(epsilon=1e-9, max_iters=20000),
    'cagrad': lambda: aggregation.CAGrad(c=0.5),
    'imtl_g': aggregation.IMTLG,
    'conflict_free': aggregation.ConFIG,
    'conflict_free_preference': lambda: aggregation.ConFIG(preference),
    'nash_mtl': lambda: aggregation.NashMTL(n_tasks=k),
    'fairgrad_1': lambda: aggregation.FairGrad(alpha=1.0),
    'fairgrad_2': lambda: aggregation.FairGrad(alpha=2.0),
    'aligned_min': aggregation.AlignedMTL,
    'aligned_median': lambda: aggregation.AlignedMTL(scale_mode='median'),
    'aligned_rmse': lambda: aggregation.AlignedMTL(scale_mode='rmse'),
    'aligned_preference': lambda: aggregation.AlignedMTL(preference),
    'weighted_sum': aggregation.Sum,
    'weighted_sum_mean': aggregation.Mean,
    'weighted_sum_constant': lambda: aggregation.Constant(preference),
    'trimmed_mean_0': lambda: aggregation.TrimmedMean(0),
  }
  if k > 2:
    makers['krum'] = lambda: aggregation.Krum(0, 2)
    makers['krum_1'] = lambda: aggregation.Krum(0)
    makers['trimmed_mean_1'] = lambda: aggregation.TrimmedMean(1)
  found = {
    name: np.array([make()(j).numpy() for j in rows])
    for name, make in makers.items()
  }
  # These keep a state over the steps; ExcessMTL's first one only looks.
  for name, method in {
    'pcd': aggregation.PCD(tau=0.1),
    'excess_mtl': aggregation.ExcessMTL(0.1, n_warmup_steps=1),
  }.items():
    found[name] = np.array([method(j).numpy() for j in rows])
  smoothed = aggregation.CRMOGMWeighting(aggregation.UPGradWeighting())
  found['smooth_upgrad'] = np.array(
    [(smoothed(j @ j.T) @ j).numpy() for j in rows]
  )
  return found


def shuffled(k):
  """Methods that draw orders, and the orders."""
  from torchjd import aggregation

  found = {}
  for name, method in {
    'pcgrad': aggregation.PCGrad(),
    'gradvac': aggregation.GradVac(),
  }.items():
    directions, used = [], []
    for t, j in enumerate(torch.tensor(problems.gradients(k))):
      recorder = problems.Recorder(t)
      with problems.replaced(torch, randperm=recorder.tensor):
        directions.append(method(j).numpy())
      used.append(recorder.orders(k))
    found[name] = np.array(directions)
    found[f'{name}_orders'] = np.array(used)
  return found


def drawn(k):
  """Methods that draw numbers: those that are stored."""
  from torchjd import aggregation

  leak = torch.linspace(0, 1, k)
  rlw, dropped, leaky = [], [], []
  for t, j in enumerate(torch.tensor(problems.gradients(k))):
    with problems.replaced(
      torch, randn=problems.normals(t, k), rand=problems.uniforms(t, k)
    ):
      rlw.append(aggregation.Random()(j).numpy())
      dropped.append(aggregation.GradDrop()(j).numpy())
      leaky.append(aggregation.GradDrop(leak=leak)(j).numpy())
  return {
    'rlw': np.array(rlw),
    'graddrop': np.array(dropped),
    'graddrop_leak': np.array(leaky),
  }


def sampled(k):
  """Methods that read three samples of the gradients."""
  from torchjd import aggregation

  weightings = {
    'modo': (1.0, aggregation.MoDoWeighting()),
    'sdmgrad': (problems.LARGE, aggregation.SDMGradWeighting(5.0, n_iter=5)),
  }
  found = {name: [] for name in weightings}
  for samples in torch.tensor(problems.parts(k)):
    for name, (factor, weighting) in weightings.items():
      first, second, third = factor * samples
      found[name].append((weighting(first @ second.T) @ third).numpy())
  return {name: np.array(d) for name, d in found.items()}


def scalarized(k):
  """Methods that read the losses only; some learn, by Adam."""
  from torchjd import scalarization

  preference = torch.tensor(problems.preference(k))
  ideal = torch.full((k,), 0.1)
  scalarizers = {
    'geometric_mean': scalarization.GeometricMean(),
    'stch': scalarization.STCH(0.1),
    'stch_preference': scalarization.STCH(0.1, preference, ideal),
    'cosmos': scalarization.COSMOS(2.0, preference),
    'pbi': scalarization.PBI(5.0, preference),
    'pbi_ideal': scalarization.PBI(0.5, preference, ideal),
    'dwa': scalarization.DWA(),
    'famo': scalarization.FAMO(k, min_losses=ideal),
    'imtl_l': scalarization.IMTLL(k),
    'uncertainty': scalarization.UW(k),
    'rlw_of_losses': scalarization.Random(),
  }
  return {name: descend(k, method) for name, method in scalarizers.items()}


def descend(k, method):
  """Directions ``[STEPS, d]`` of a scalarizer."""
  problem, found = problems.Problem(k), []
  learned = [p for p in method.parameters() if not hasattr(method, 'update')]
  adam = torch.optim.Adam(learned, problems.LEARNING_RATE) if learned else None
  for t, epoch in enumerate(problems.EPOCHS):
    if t and epoch != problems.EPOCHS[t - 1] and hasattr(method, 'step'):
      method.step()
    method.zero_grad()
    with problems.replaced(torch, randn=problems.normals(t, k)):
      loss = method(problem.losses(t))
    found.append(problem.direction(loss))
    if adam is not None:
      adam.step()
    if hasattr(method, 'update'):
      method.update(torch.tensor(problems.losses_after(k)[t]))
  return np.array(found)

"""Directions of LibMTL for the problems of reference_problems.py.

Run as a script it prints which files of LibMTL's repository are needed, and
their commits.
"""

import importlib.util
import random
import sys
import types

import numpy as np
import reference_problems as problems
import torch

# In the repository, not in release 1.1.5.
NEWER = {
  'Aligned_MTL': '0aaada50cd609b39c65553d4c2760c18b02d8e74',
  'CAGrad': '01cb7f12964966ea65429c6a68d2f130d44eb8bc',
  'DB_MTL': '7b0f56a7ee61f9fc17738dd221bb017d04999832',
  'ExcessMTL': 'b65c9140c6b51a0cf8b38e4a00e9ab73c768954c',
  'FAMO': '8bc760590d09fb3f48ef3b535efb66dcc750f5c9',
  'FairGrad': '2ab02163183f02bcf18fffaf766a8989f150979a',
  'MoCo': '8b8f1d030377b14d9c29017e11e2586944a23d9b',
  'MoDo': '7a2cbe207c9d67c03b1f5bb9303e436ed8714ac3',
  'Nash_MTL': '04cf41af15808c98250c1c2fb2deba8da32b2d04',
  'SDMGrad': '8bc760590d09fb3f48ef3b535efb66dcc750f5c9',
  'STCH': 'ea8b8b7e9eec911275a25d557641efcbe41d9e9c',
  'UPGrad': '4d195c090bdffdfdbfb1b68215107382843926dc',
}
RATE = problems.LEARNING_RATE
CASES = {
  **{f'mgda_{n}': ('MGDA', {'mgda_gn': n}) for n in ('none', 'l2', 'loss')},
  'mgda_loss+': ('MGDA', {'mgda_gn': 'loss+'}),
  **{
    f'cagrad_{r}': ('CAGrad', {'calpha': 0.5, 'rescale': r}) for r in range(3)
  },
  'pcgrad': ('PCGrad', {}),
  'gradvac': ('GradVac', {'beta': 0.5}),
  'weighted_sum': ('EW', {}),
  'geometric_mean': ('GLS', {}),
  'dwa': ('DWA', {'T': 2.0}),
  'uncertainty': ('UW', {}),
  'imtl_g': ('IMTL', {'rate': 0.0}),
  'imtl_l_then_g': ('IMTL', {}),
  'rlw': ('RLW', {'dist': 'Normal'}),
  'gradnorm': ('GradNorm', {'alpha': 1.5, 'rate': 0.0}),
  'graddrop': ('GradDrop', {'leak': 0.0}),
  'graddrop_leak': ('GradDrop', {'leak': 0.3}),
  'aligned_mtl': ('Aligned_MTL', {}),
  'fairgrad_1': ('FairGrad', {'FairGrad_alpha': 1.0}),
  'fairgrad_2': ('FairGrad', {'FairGrad_alpha': 2.0}),
  'nash_mtl': (
    'Nash_MTL',
    {'update_weights_every': 1, 'optim_niter': 20, 'max_norm': 1.0},
  ),
  'upgrad': ('UPGrad', {'UPGrad_norm_eps': 1e-4, 'UPGrad_reg_eps': 1e-4}),
  'db_mtl': ('DB_MTL', {'DB_beta': 0.9, 'DB_beta_sigma': 0.0}),
  'db_mtl_decay': ('DB_MTL', {'DB_beta': 0.9, 'DB_beta_sigma': 0.5}),
  'excess_mtl': ('ExcessMTL', {'robust_step_size': 0.1}),
  'famo': ('FAMO', {'FAMO_w_lr': RATE, 'FAMO_w_gamma': 1e-3}),
  'log_stch': ('STCH', {'STCH_mu': 0.5, 'STCH_warmup_epoch': 1}),
  'moco': (
    'MoCo',
    {
      'MoCo_beta': 0.5,
      'MoCo_beta_sigma': 0.5,
      'MoCo_gamma': 0.1,
      'MoCo_gamma_sigma': 0.5,
      'MoCo_rho': 0.1,
    },
  ),
  'modo': ('MoDo', {'MoDo_gamma': 0.1, 'MoDo_rho': 0.1}),
  'sdmgrad': ('SDMGrad', {'SDMGrad_lamda': 0.3, 'SDMGrad_niter': 5}),
}


def run(newer):
  """``{name: array}`` for every method, the newer ones from that folder."""
  torch.set_default_dtype(torch.float64)
  # Both are gone from the libraries that LibMTL calls.
  torch.symeig = lambda m, eigenvectors: torch.linalg.eigh(m)
  np.alltrue = np.all
  methods = load(newer)
  out = {}
  for k in problems.SIZES:
    for name, (method, options) in CASES.items():
      found = Run(methods[method], k, options).run()
      out.update({f'{name}{what}_{k}': a for what, a in found.items()})
  return out


def load(newer):
  """``{name: class}``, without LibMTL's models, which need more packages."""
  spec = importlib.util.find_spec('LibMTL')
  package = types.ModuleType('LibMTL')
  package.__path__ = list(spec.submodule_search_locations)
  sys.modules['LibMTL'] = package
  import LibMTL.weighting

  methods = {name: getattr(LibMTL.weighting, name) for name in released()}
  for name in NEWER:
    spec = importlib.util.spec_from_file_location(name, f'{newer}/{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    methods[name] = getattr(module, name)
  return methods


def released():
  """Methods that are taken from the release."""
  return {method for method, _ in CASES.values()} - set(NEWER)


class Run:
  """A method in the place of LibMTL's trainer, on one number of tasks."""

  def __init__(self, make, k, options):
    self.problem, self.k = problems.Problem(k), k
    self.rate = options.get('rate', RATE)
    self.options = {n: v for n, v in options.items() if n != 'rate'}
    self.x, self.method = self.problem.x, make()
    self.x.grad = torch.zeros_like(self.x)
    self.set_up()

  def set_up(self):
    """Attributes that LibMTL's trainer and architecture give to a method."""
    m, k = self.method, self.k
    m.task_num, m.device = k, torch.device('cpu')
    m.task_name = [str(i) for i in range(k)]
    m.rep_grad = type(m).__name__ == 'GradDrop'
    m.decoders = {}
    m.encoder = types.SimpleNamespace(zero_grad=self.x.grad.zero_)
    m.get_share_params = lambda: [self.x]
    m.zero_grad_share_params = self.x.grad.zero_
    m.train_loss_buffer = np.zeros((k, max(problems.EPOCHS) + 1))
    for epoch in set(problems.EPOCHS):
      steps = np.array(problems.EPOCHS) == epoch
      m.train_loss_buffer[:, epoch] = self.problem.values[steps].mean(0)
    m.init_param()

  def losses(self, step):
    """Losses ``[K]``, or ``[3, K]`` for methods that take three samples."""
    if type(self.method).__name__ in ('MoDo', 'SDMGrad'):
      values, samples = self.problem.values[step], problems.parts(self.k)[step]
      if type(self.method).__name__ == 'SDMGrad':
        # Its first is that of the direction.
        samples = problems.LARGE * samples[[2, 0, 1]]
      return [problems.losses_at(self.x, rows, values) for rows in samples]
    if self.method.rep_grad:
      return self.losses_of_features(step)
    return self.problem.losses(step)

  def losses_of_features(self, step):
    """Losses whose gradients at the features are the stored ones."""
    values, cotangents = (a[step] for a in problems.features(self.k))
    rep = torch.tensor(values, requires_grad=True)
    self.method.rep = rep
    self.method.rep_tasks = {
      task: rep.detach().clone().requires_grad_()
      for task in self.method.task_name
    }
    return [
      (torch.tensor(c) * self.method.rep_tasks[task]).sum()
      for c, task in zip(cotangents, self.method.task_name, strict=True)
    ]

  def run(self):
    """``{what: [STEPS, ...]}``: directions, and what goes with them."""
    learned = list(self.method.parameters())
    adam = torch.optim.Adam(learned, self.rate) if learned else None
    directions, used, slopes = [], [], []
    for t, epoch in enumerate(problems.EPOCHS):
      self.method.epoch = epoch
      self.x.grad.zero_()
      recorder = problems.Recorder(t)
      self.method.zero_grad()
      self.step(t, recorder)
      where = self.method.rep if self.method.rep_grad else self.x
      directions.append(where.grad.numpy().copy())
      if recorder.drawn:
        used.append(recorder.orders(self.k))
      if type(self.method).__name__ == 'GradNorm':
        slope = self.method.loss_scale.grad
        slopes.append(np.zeros(self.k) if slope is None else np.array(slope))
      if adam is not None:
        adam.step()
      if hasattr(self.method, 'update_w'):
        after = problems.losses_after(self.k)[t]
        self.method.update_w(torch.tensor(after))
    extra = {'_orders': used, '_slopes': slopes}
    found = {what: np.array(a) for what, a in extra.items() if a}
    return {'': np.array(directions), **found}

  def step(self, t, recorder):
    """One call of the method, with stored draws."""
    distribution = torch.distributions.normal.Normal
    with (
      problems.replaced(random, shuffle=recorder.shuffle),
      problems.replaced(
        torch, rand_like=lambda p: torch.tensor(uniform_for(t, p))
      ),
      problems.replaced(
        distribution,
        sample=lambda unused: torch.tensor(problems.draws(self.k)[0][t]),
      ),
    ):
      self.method.backward(self.losses(t), **self.options)


def uniform_for(step, like):
  """The first of the stored uniform draws, as many as there are features."""
  return problems.draws(max(problems.SIZES))[1][step][: like.numel()]


if __name__ == '__main__':
  for name, commit in NEWER.items():
    sys.stdout.write(f'{commit} {name}\n')

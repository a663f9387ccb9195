"""The part of `benchmarks/combinators.py` that runs TorchJD and LibMTL.

  ENVIRONMENT/bin/python benchmarks/combinators_torch.py FOLDER torchjd

Reads ``problems.npz`` and ``plan.json`` there, and answers what it is asked
(`serving.serve`), as ``torchjd`` or ``libmtl``. A method that takes longer
than the plan's limit, or fails, has no time.
"""

import functools
from importlib import metadata, util
import json
import pathlib
import random
import sys
import types
import warnings

import numpy as np
import serving
import torch
from torchjd import aggregation, autojac
import workloads

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


def import_libmtl():
  """LibMTL's weightings, without its models, which need more packages."""
  package = types.ModuleType('LibMTL')
  package.__path__ = list(util.find_spec('LibMTL').submodule_search_locations)
  sys.modules['LibMTL'] = package
  import LibMTL.weighting

  return LibMTL.weighting


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


class Recurrent(torch.nn.Module):
  """The last state of an LSTM."""

  def __init__(self, inputs, features):
    super().__init__()
    self.lstm = torch.nn.LSTM(inputs, features, batch_first=True)

  def forward(self, x):
    """Features of ``[B, T, D]``."""
    return self.lstm(x)[1][0][0]


class TextCNN(torch.nn.Module):
  """Windows of three tokens, each filter's maximum over the text."""

  def __init__(self, vocabulary, width, filters):
    super().__init__()
    self.embed = torch.nn.Embedding(vocabulary, width)
    self.conv = torch.nn.Conv1d(width, filters, 3, padding=1)

  def forward(self, tokens):
    """Features of ``[B, T]``; token 0 is padding."""
    mask = tokens != 0
    x = self.embed(tokens) * mask[..., None]
    z = self.conv(x.transpose(1, 2))
    z = z.masked_fill(~mask[:, None], -torch.inf).amax(2)
    return torch.relu(z)


def trunk_of(spec):
  """The shared network, and how many features it has."""
  if spec['kind'] == 'lstm':
    return Recurrent(spec['inputs'], spec['features']), spec['features']
  if spec['kind'] == 'cnn_text':
    sizes = spec['vocabulary'], spec['width'], spec['filters']
    return TextCNN(*sizes), spec['filters']
  if spec['kind'] == 'lenet':
    edge = ((spec['edge'] - 4) // 2 - 4) // 2
    layers = []
    for before, after in ((1, 10), (10, 20)):
      layers += [torch.nn.Conv2d(before, after, 5), torch.nn.MaxPool2d(2)]
      layers.append(torch.nn.ReLU())
    layers += [torch.nn.Flatten(), torch.nn.Linear(20 * edge**2, 50)]
    return torch.nn.Sequential(*layers, torch.nn.ReLU()), 50
  layers, size = [], spec['inputs']
  for width in spec['widths']:
    layers += [torch.nn.Linear(size, width), torch.nn.ReLU()]
    size = width
  return torch.nn.Sequential(*layers), size


class Workload:
  """A network, its K binary tasks and its optimizer."""

  def __init__(self, num, spec):
    self.num = num
    inputs, labels = workloads.arrays(spec, num)
    self.inputs = torch.tensor(inputs)
    if spec['kind'] == 'lenet':
      self.inputs = self.inputs.permute(0, 3, 1, 2).contiguous()
    self.labels = torch.tensor(labels).float()
    self.trunk, size = trunk_of(spec)
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


def weights_of(weigh):
  """A solver as a call that gives a list."""
  return lambda: weigh().detach().tolist()


def make_torchjd(case, problems, plan):
  """A call of TorchJD."""
  name = case['name']
  if case['part'] == 'solve':
    return weights_of(torchjd_solver(name, *_problem(case, problems)))
  work = Workload(case['num'], plan['workloads'][case['workload']])
  if name == 'plain':
    return work.plain
  return work.torchjd(STEPS[name](work.num)) if name in STEPS else None


def make_libmtl(case, problems, plan, weightings):
  """A call of LibMTL, or None."""
  name = case['name']
  if name not in LIBMTL:
    return None
  if case['part'] == 'solve':
    rows, _ = _problem(case, problems)
    return weights_of(libmtl_solver(name, rows, weightings))
  work = Workload(case['num'], plan['workloads'][case['workload']])
  kind, options = LIBMTL[name]
  return work.libmtl(getattr(weightings, kind)(), options)


def _problem(case, problems):
  names = (f'rows_{case["num"]}', f'gramian_{case["num"]}')
  return [torch.tensor(problems[name][case['problem']]) for name in names]


def main(folder, library):
  """Answers until there are no more questions."""
  warnings.simplefilter('ignore')
  torch.manual_seed(0)
  random.seed(0)
  plan = json.loads((folder / 'plan.json').read_text())
  problems = dict(np.load(folder / 'problems.npz'))
  make = make_torchjd
  if library == 'libmtl':
    make = functools.partial(make_libmtl, weightings=import_libmtl())
  version = metadata.version(library)
  version += f' on torch {torch.__version__}, {torch.get_num_threads()} threads'
  serving.serve(lambda case: make(case, problems, plan), version, plan['limit'])


if __name__ == '__main__':
  main(pathlib.Path(sys.argv[1]), sys.argv[2])

"""The part of `benchmarks/combinators.py` that runs TorchJD and LibMTL.

  ENVIRONMENT/bin/python benchmarks/combinators_torch.py FOLDER torchjd [tuned]

Reads ``problems.npz`` and ``plan.json`` there, and answers what it is asked
(`serving.serve`), as ``torchjd`` or ``libmtl``. A method that takes longer
than the plan's limit, or fails, has no time. ``tuned`` is what a careful user
would add: memory kept between steps as by `mtl_jax.keep_memory`, Adam's fused
kernel, all heads (and all experts) as one product, and channels last (which
LibMTL cannot take).
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


class Transformer(torch.nn.Module):
  """Blocks that are normalised before each part, and their mean over time."""

  def __init__(self, spec):
    super().__init__()
    features = spec['features']
    self.embed = torch.nn.Linear(spec['inputs'], features)
    self.positions = torch.nn.Parameter(torch.zeros(spec['length'], features))
    self.blocks = torch.nn.ModuleList(
      torch.nn.TransformerEncoderLayer(
        features,
        spec['heads'],
        spec['hidden'],
        dropout=0.0,
        activation='gelu',
        batch_first=True,
        norm_first=True,
      )
      for _ in range(spec['layers'])
    )
    self.norm = torch.nn.LayerNorm(features)

  def forward(self, x):
    """Features of ``[B, T, D]``."""
    x = self.embed(x) + self.positions
    for block in self.blocks:
      x = block(x)
    return self.norm(x).mean(1)


class Experts(torch.nn.Module):
  """Perceptrons side by side, ``[B, E, width]``."""

  def __init__(self, spec):
    super().__init__()
    self.experts = torch.nn.ModuleList(
      perceptron(spec) for _ in range(spec['experts'])
    )

  def forward(self, x):
    """Features of ``[B, D]``, of every expert."""
    return torch.stack([expert(x) for expert in self.experts], 1)


class StackedExperts(torch.nn.Module):
  """The same, each layer of all experts as one product."""

  def __init__(self, spec):
    super().__init__()
    sizes = [spec['inputs'], *spec['widths']]
    number = spec['experts']
    self.kernels = torch.nn.ParameterList(
      torch.randn(number, n, m) / n**0.5
      for n, m in zip(sizes, sizes[1:], strict=False)
    )
    self.biases = torch.nn.ParameterList(
      torch.zeros(number, 1, m) for m in sizes[1:]
    )

  def forward(self, x):
    """Features of ``[B, D]``, of every expert."""
    x = x.expand(len(self.biases[0]), *x.shape)
    for kernel, bias in zip(self.kernels, self.biases, strict=True):
      x = torch.relu(torch.baddbmm(bias, x, kernel))
    return x.transpose(0, 1)


def perceptron(spec):
  """Dense layers with ReLU."""
  layers, size = [], spec['inputs']
  for width in spec['widths']:
    layers += [torch.nn.Linear(size, width), torch.nn.ReLU()]
    size = width
  return torch.nn.Sequential(*layers)


def trunk_of(spec, tuned):
  """The shared network, and how many features it has."""
  if spec['kind'] == 'lstm':
    return Recurrent(spec['inputs'], spec['features']), spec['features']
  if spec['kind'] == 'transformer':
    return Transformer(spec), spec['features']
  if spec['kind'] == 'mmoe':
    return (StackedExperts if tuned else Experts)(spec), spec['widths'][-1]
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
  return perceptron(spec), spec['widths'][-1]


class Heads(torch.nn.Module):
  """K binary heads, which mix experts by gates of their own if there are any.

  ``stacked``: all of them as one product.
  """

  def __init__(self, spec, size, num, stacked):
    super().__init__()
    self.num, self.stacked = num, stacked
    self.number = number = spec.get('experts')
    one = torch.nn.Linear
    many = torch.nn.ModuleList
    self.gates = None
    if stacked:
      self.heads = one(size, num)
      if number:
        self.gates = one(spec['inputs'], num * number)
    else:
      self.heads = many(one(size, 1) for _ in range(num))
      if number:
        self.gates = many(one(spec['inputs'], number) for _ in range(num))

  def forward(self, features, x):
    """K logits ``[B]``; stacked, one array ``[B, K]``."""
    if self.stacked:
      if self.gates is None:
        return self.heads(features)
      gates = self.gates(x).view(len(x), self.num, self.number).softmax(-1)
      mixed = gates @ features  # [B, K, width]
      return (mixed * self.heads.weight).sum(-1) + self.heads.bias
    outputs = []
    for i, head in enumerate(self.heads):
      z = features
      if self.gates is not None:
        z = (self.gates[i](x).softmax(-1)[..., None] * features).sum(1)
      outputs.append(head(z)[:, 0])
    return outputs


class Workload:
  """A network, its K binary tasks and its optimizer."""

  def __init__(self, num, spec, tuned=False, channels_last=False):
    self.num = num
    inputs, labels = workloads.arrays(spec, num)
    self.inputs = torch.tensor(inputs)
    self.labels = torch.tensor(labels).float()
    self.trunk, size = trunk_of(spec, tuned)
    self.heads = Heads(spec, size, num, tuned)
    if spec['kind'] == 'lenet':
      self.inputs = self.inputs.permute(0, 3, 1, 2).contiguous()
      if channels_last:
        self.trunk = self.trunk.to(memory_format=torch.channels_last)
        self.inputs = self.inputs.to(memory_format=torch.channels_last)
    self.optimizer = torch.optim.Adam(
      [*self.trunk.parameters(), *self.heads.parameters()],
      lr=1e-3,
      fused=tuned or None,
    )

  def losses(self):
    """Features and K losses."""
    features = self.trunk(self.inputs)
    loss = torch.nn.functional.binary_cross_entropy_with_logits
    outputs = self.heads(features, self.inputs)
    if self.heads.stacked:
      each = loss(outputs, self.labels, reduction='none').mean(0)
      return features, list(each)
    return features, [
      loss(logits, self.labels[:, i]) for i, logits in enumerate(outputs)
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
      # Stacked heads are one graph, which each of the losses walks.
      stacked = self.heads.stacked
      autojac.mtl_backward(losses, features, retain_graph=stacked)
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


def make_torchjd(case, problems, plan, tuned):
  """A call of TorchJD."""
  name = case['name']
  if case['part'] == 'solve':
    return weights_of(torchjd_solver(name, *_problem(case, problems)))
  spec = plan['workloads'][case['workload']]
  work = Workload(case['num'], spec, tuned, channels_last=tuned)
  if name == 'plain':
    return work.plain
  return work.torchjd(STEPS[name](work.num)) if name in STEPS else None


def make_libmtl(case, problems, plan, tuned, weightings):
  """A call of LibMTL, or None."""
  name = case['name']
  if name not in LIBMTL:
    return None
  if case['part'] == 'solve':
    rows, _ = _problem(case, problems)
    return weights_of(libmtl_solver(name, rows, weightings))
  work = Workload(case['num'], plan['workloads'][case['workload']], tuned)
  kind, options = LIBMTL[name]
  return work.libmtl(getattr(weightings, kind)(), options)


def _problem(case, problems):
  names = (f'rows_{case["num"]}', f'gramian_{case["num"]}')
  return [torch.tensor(problems[name][case['problem']]) for name in names]


def keep_memory():
  """mtl_jax's own function; its package needs what is not installed here."""
  path = pathlib.Path(__file__).parents[1] / 'mtl_jax' / 'memory.py'
  spec = util.spec_from_file_location('memory', path)
  memory = util.module_from_spec(spec)
  spec.loader.exec_module(memory)
  return memory.keep_memory()


def main(folder, library, tuned=False):
  """Answers until there are no more questions."""
  warnings.simplefilter('ignore')
  if tuned:
    keep_memory()
  torch.manual_seed(0)
  random.seed(0)
  plan = json.loads((folder / 'plan.json').read_text())
  problems = dict(np.load(folder / 'problems.npz'))
  make = make_torchjd
  if library == 'libmtl':
    make = functools.partial(make_libmtl, weightings=import_libmtl())
  version = metadata.version(library)
  version += f' on torch {torch.__version__}, {torch.get_num_threads()} threads'
  serving.serve(
    lambda case: make(case, problems, plan, tuned), version, plan['limit']
  )


if __name__ == '__main__':
  main(pathlib.Path(sys.argv[1]), sys.argv[2], 'tuned' in sys.argv[3:])

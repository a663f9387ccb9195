"""Steps of RotoGrad's own code, kept for the tests of ours.

python benchmarks/reference_rotograd.py

Needs PyTorch, rotograd 0.1.6 and geotorch 0.4, in an environment of their own.
Both start from the identity, where theirs would draw rotations; plain descent
on the network (0.1) and on the rotations (0.5), in float64.
"""

import pathlib
import sys

import numpy as np
import torch
from torch.nn.utils import parametrize

# The module that an older geotorch had; this is what it became.
sys.modules['geotorch.parametrize'] = parametrize
import rotograd  # noqa: E402

PATH = pathlib.Path(__file__).parents[1] / 'tests/data/reference_rotograd.npz'
DIM, WIDTH, HIDDEN, BATCH, STEPS, BURN_IN = 5, 4, 3, 8, 6, 2
NAMES = ('a', 'b')


class Trunk(torch.nn.Module):
  """tanh(x W)."""

  def __init__(self, w):
    super().__init__()
    self.w = torch.nn.Parameter(torch.tensor(w))

  def forward(self, x):
    """Features ``[B, d]``."""
    return torch.tanh(x @ self.w)


class Head(torch.nn.Module):
  """tanh(z U) v."""

  def __init__(self, u, v):
    super().__init__()
    self.u = torch.nn.Parameter(torch.tensor(u))
    self.v = torch.nn.Parameter(torch.tensor(v))

  def forward(self, z):
    """Outputs ``[B]``."""
    return (torch.tanh(z @ self.u) @ self.v)[:, 0]


def start():
  """Parameters and batches."""
  rng = np.random.default_rng(0)
  found = {'0/w': rng.normal(size=(DIM, WIDTH))}
  for name in NAMES:
    found[f'0/{name}/u'] = rng.normal(size=(WIDTH, HIDDEN))
    found[f'0/{name}/v'] = rng.normal(size=(HIDDEN, 1))
  found['x'] = rng.normal(size=(STEPS, BATCH, DIM))
  for name in NAMES:
    found[name] = 2 * rng.normal(size=(STEPS, BATCH))
  return found


def follow(method, arrays):
  """``{'step/name': parameters}`` after each step."""
  trunk = Trunk(arrays['0/w'])
  heads = [Head(arrays[f'0/{n}/u'], arrays[f'0/{n}/v']) for n in NAMES]
  model = method(trunk, list(heads), WIDTH, burn_in_period=BURN_IN)
  for i in range(len(NAMES)):
    setattr(model, f'rotation_{i}', torch.eye(WIDTH))
  model.train()
  of_heads = [p for head in heads for p in head.parameters()]
  optimizers = [
    torch.optim.SGD([*trunk.parameters(), *of_heads], lr=0.1),
    torch.optim.SGD(list(model.mtl_parameters()), lr=0.5),
  ]
  found = {}
  for i in range(STEPS):
    for optimizer in optimizers:
      optimizer.zero_grad()
    outputs = model(torch.tensor(arrays['x'][i]))
    labels = [torch.tensor(arrays[name][i]) for name in NAMES]
    model.backward(
      [((o - y) ** 2).mean() for o, y in zip(outputs, labels, strict=True)]
    )
    for optimizer in optimizers:
      optimizer.step()
    now = {'w': trunk.w}
    for name, head, rotation in zip(NAMES, heads, model.rotation, strict=True):
      own = {'u': head.u, 'v': head.v, 'rotation': rotation}
      now |= {f'{name}/{key}': value for key, value in own.items()}
    for key, value in now.items():
      found[f'{i + 1}/{key}'] = value.detach().numpy().copy()
  return found


def main():
  """Writes the file."""
  torch.set_default_dtype(torch.float64)
  arrays = start()
  for name in ('RotoGrad', 'RotateOnly'):
    found = follow(getattr(rotograd, name), dict(arrays))
    arrays.update({f'{name}/{key}': value for key, value in found.items()})
  np.savez_compressed(PATH, **arrays)


if __name__ == '__main__':
  main()

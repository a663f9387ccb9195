"""The networks of population.py in PyTorch; times as many steps as it is told.

Reads numbers of steps from standard input, and writes milliseconds a step.
"""

import json
import sys
import time

import numpy as np
import torch


class Model(torch.nn.Module):
  """A trunk and two heads."""

  def __init__(self, name):
    super().__init__()
    self.lstm = name == 'lstm'
    if self.lstm:
      self.trunk = torch.nn.LSTM(8, 64, batch_first=True)
      self.heads = torch.nn.ModuleList(
        [torch.nn.Linear(64, 10), torch.nn.Linear(64, 1)]
      )
    else:
      self.trunk = torch.nn.Sequential(
        torch.nn.Linear(100, 16),
        torch.nn.ReLU(),
        torch.nn.Linear(16, 8),
        torch.nn.ReLU(),
      )
      self.heads = torch.nn.ModuleList(
        [torch.nn.Linear(8, 1), torch.nn.Linear(8, 1)]
      )

  def forward(self, x):
    """Outputs of both heads."""
    z = self.trunk(x)[0][:, -1] if self.lstm else self.trunk(x)
    return [head(z) for head in self.heads]


def main():
  """Times what standard input asks for."""
  name = sys.argv[1]
  rng = np.random.default_rng(0)
  shape = (8000, 100, 8) if name == 'lstm' else (8000, 100)
  inputs = torch.tensor(rng.normal(size=shape).astype(np.float32))
  classes = torch.tensor(rng.integers(0, 10, 8000))
  values = torch.tensor(rng.normal(size=8000).astype(np.float32))
  batch = 32 if name == 'lstm' else 128
  model = Model(name)
  optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

  def run(steps):
    start = time.perf_counter()
    for _ in range(steps):
      rows = torch.randint(0, 8000, (batch,))
      first, second = model(inputs[rows])
      if name == 'lstm':
        loss = torch.nn.functional.cross_entropy(first, classes[rows])
      else:
        loss = torch.nn.functional.mse_loss(first[:, 0], values[rows])
      loss = loss + torch.nn.functional.mse_loss(second[:, 0], values[rows])
      optimizer.zero_grad(set_to_none=True)
      loss.backward()
      optimizer.step()
    return 1e3 * (time.perf_counter() - start) / steps

  run(5)
  print('ready', flush=True)
  for line in sys.stdin:
    print(json.dumps(run(int(line))), flush=True)


if __name__ == '__main__':
  main()

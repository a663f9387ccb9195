"""Outputs of torch-rechub's HSTU, kept for the tests of ours.

python benchmarks/reference_hstu.py

Needs PyTorch and torch-rechub 0.9.0 in an environment of their own. Two layers
with random parameters, in float32, of padded histories. What of its settings is
not the default: seconds in buckets of logarithms, as in the code of HSTU's
authors; and 1e-6 in the norms, as in Flax.
"""

import pathlib

import numpy as np
import torch
from torch_rechub.basic import layers

PATH = pathlib.Path(__file__).parents[1] / 'tests/data/reference_hstu.npz'
BATCH, LENGTH, WIDTH = 3, 7, 6
SETTINGS = {
  'd_model': WIDTH,
  'n_heads': 2,
  'n_layers': 2,
  'dqk': 4,
  'dv': 5,
  'max_seq_len': 9,
  'num_time_buckets': 40,
  'time_bucket_fn': 'log',
  'time_bucket_divisor': 0.301,
  'time_bucket_unit': 'seconds',
}


def main():
  """Writes inputs, parameters and outputs."""
  torch.manual_seed(0)
  block = layers.HSTUBlock(**SETTINGS, dropout=0.0).eval()
  for module in block.modules():
    if isinstance(module, torch.nn.LayerNorm):
      module.eps = 1e-6
  with torch.no_grad():
    for parameter in block.parameters():
      parameter.add_(0.5 * torch.randn(parameter.shape))
  x = torch.randn(BATCH, LENGTH, WIDTH)
  times = torch.cumsum(torch.randint(0, 4_000, (BATCH, LENGTH)), dim=1)
  mask = torch.arange(LENGTH) >= torch.tensor([[0], [3], [5]])
  with torch.no_grad():
    y = block(x, padding_mask=mask, time_diffs=(times.max() - times).float())
  arrays = {'inputs': x, 'times': times, 'mask': mask, 'outputs': y}
  arrays |= {f'params/{k}': v for k, v in block.state_dict().items()}
  np.savez_compressed(PATH, **{k: v.numpy() for k, v in arrays.items()})


if __name__ == '__main__':
  main()

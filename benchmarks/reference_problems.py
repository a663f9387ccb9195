"""Inputs of make_reference.py for the libraries: gradients, losses, draws."""

import contextlib

import numpy as np
import torch

SIZES = (2, 3, 5, 16)
STEPS = 6
EPOCHS = (0, 0, 1, 2, 2, 3)
# Of every method that learns something by an optimizer.
LEARNING_RATE = 0.025
# For SDMGrad: beside such gradients, the 1e-8 that both libraries add to a
# squared norm is nothing. Its inner loop does not converge at the usual rate,
# and makes much of a small difference: after 6 times 20 inner steps with 16
# tasks the libraries differ from each other in the second digit. So they do 5.
LARGE = 1e4


def gradients(num_tasks):
  """``[STEPS, K, 2 K]``: plain, agreeing, unequal with two camps; twice."""
  rng = np.random.default_rng(num_tasks)
  rows = rng.normal(size=(STEPS, num_tasks, 2 * num_tasks))
  rows[1::3] += 0.5
  rows[2::3] *= np.geomspace(0.3, 3, num_tasks)[:, None]
  rows[2::3, :, 0] += np.where(np.arange(num_tasks) % 2, 1.5, -1.5)
  return rows


def losses(num_tasks):
  """``[STEPS, K]``, > 0."""
  return np.random.default_rng(99).uniform(0.5, 2, size=(STEPS, num_tasks))


def losses_after(num_tasks):
  """``[STEPS, K]``, > 0: after the update, mostly smaller."""
  factor = np.random.default_rng(98).uniform(0.7, 1.1, (STEPS, num_tasks))
  return factor * losses(num_tasks)


def parts(num_tasks):
  """``[STEPS, 3, K, 2 K]``: three noisy samples of the gradients."""
  rng = np.random.default_rng(1000 + num_tasks)
  rows = gradients(num_tasks)[:, None]
  return rows + 0.3 * rng.normal(size=(STEPS, 3, *rows.shape[2:]))


def preference(num_tasks):
  """``[K]``, > 0, summing to 1."""
  p = np.random.default_rng(97).uniform(0.2, 1, num_tasks)
  return p / p.sum()


def draws(num_tasks):
  """Standard normal ``[STEPS, K]``, and uniform ``[STEPS, 2 K]``."""
  rng = np.random.default_rng(96)
  normal = rng.normal(size=(STEPS, num_tasks))
  return normal, rng.uniform(size=(STEPS, 2 * num_tasks))


def features(num_tasks, batch=4, width=6):
  """Features ``[STEPS, B, D]`` and their gradients ``[STEPS, K, B, D]``."""
  rng = np.random.default_rng(95)
  z = rng.normal(size=(STEPS, batch, width))
  return z, rng.normal(size=(STEPS, num_tasks, batch, width))


def inputs():
  """All of the above by name, as the tests read them."""
  found = {}
  for k in SIZES:
    found.update(_inputs(k))
  return found


def _inputs(k):
  normal, uniform = draws(k)
  values, cotangents = features(k)
  return {
    f'rows_{k}': gradients(k),
    f'losses_{k}': losses(k),
    f'after_{k}': losses_after(k),
    f'parts_{k}': parts(k),
    f'preference_{k}': preference(k),
    f'normal_{k}': normal,
    f'uniform_{k}': uniform,
    f'features_{k}': values,
    f'cotangents_{k}': cotangents,
  }


def losses_at(x, rows, values):
  """Losses ``[K]`` with these gradients and, at ``x = 0``, these values."""
  return torch.tensor(values) + torch.tensor(rows) @ x


@contextlib.contextmanager
def replaced(owner, **functions):
  """Other functions in a module, and the old ones again at the end."""
  old = {name: getattr(owner, name, None) for name in functions}
  for name, function in functions.items():
    setattr(owner, name, function)
  yield
  for name, function in old.items():
    setattr(owner, name, function)


class Recorder:
  """Stands for a source of permutations, and remembers what it gave."""

  def __init__(self, seed):
    self.rng, self.drawn = np.random.default_rng(seed), []

  def permutation(self, n):
    """Draws, and remembers, a permutation of 0 .. n - 1."""
    self.drawn.append(self.rng.permutation(n))
    return self.drawn[-1]

  def tensor(self, n):
    """As ``torch.randperm``."""
    return torch.tensor(self.permutation(n))

  def shuffle(self, tasks):
    """As ``random.shuffle``: in place."""
    tasks[:] = [tasks[i] for i in self.permutation(len(tasks))]

  def orders(self, num_tasks):
    """The permutations as ``[K, K]``: of all tasks, whatever was drawn."""
    rows = []
    for i, order in enumerate(self.drawn):
      if len(order) == num_tasks - 1:  # Of the others, by position.
        others = np.delete(np.arange(num_tasks), i)
        order = [*others[order], i]
      rows.append(order)
    return np.array(rows)


class Problem:
  """One number of tasks: parameters ``x``, at zero, and losses on them."""

  def __init__(self, num_tasks):
    self.k = num_tasks
    self.rows, self.values = gradients(num_tasks), losses(num_tasks)
    self.x = torch.zeros(2 * num_tasks, requires_grad=True)

  def losses(self, step):
    """Losses ``[K]`` of this step."""
    return losses_at(self.x, self.rows[step], self.values[step])

  def direction(self, loss):
    """The gradient ``[d]`` of a scalar."""
    self.x.grad = None
    loss.backward()
    return self.x.grad.numpy().copy()


def normals(step, num_tasks):
  """A stand-in for ``torch.randn``: the stored draws of this step."""
  return lambda *shape, **kwargs: torch.tensor(draws(num_tasks)[0][step])


def uniforms(step, num_tasks):
  """A stand-in for ``torch.rand``: the stored draws of this step."""
  return lambda *shape, **kwargs: torch.tensor(draws(num_tasks)[1][step])

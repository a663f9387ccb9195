"""An experiment whose model reads rows of a table, through Flax."""

import dataclasses

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax.config import settings as settings_lib
from mtl_jax.experiment import build
from mtl_jax.models import embedding_table

ROWS, PATH = 500, 'trunk/items/embedding'


def numbers_of(arrays):
  return (jnp.abs(arrays['inputs']) * 100).astype(jnp.int32)


class Buckets(nn.Module):
  """The mean of the rows of all inputs."""

  @nn.compact
  def __call__(self, batch, *, train):
    table = embedding_table.EmbeddingTable(ROWS, 4, name='items')
    return table(numbers_of(batch)).mean(1)


@pytest.fixture(scope='module', name='make')
def make_experiment(tiny):
  sources = build.Sources({'main': tiny.data()})

  def make(method, tables=True, accumulate=1, **optimizer):
    config = tiny.config(accumulate=accumulate)
    config.combinator.name = method
    config.optimizer.update(optimizer)
    settings = settings_lib.with_values(
      settings_lib.from_config(config), {'model.trunk': {'name': Buckets}}
    )
    experiment = build.build(settings, sources=sources)
    if not tables:
      return experiment
    plain = experiment.make_model
    rows = {PATH: lambda batch: numbers_of(batch['main'])}
    return dataclasses.replace(
      experiment, make_model=lambda axis: plain(axis)._replace(tables=rows)
    )

  return make


def train(experiment, steps=3):
  """States before and after some steps, and the numbers that were read."""
  start = state = experiment.first_state(0)
  step, read = jax.jit(experiment.make_step()), []
  for i in range(steps):
    batch = {
      'main': experiment.data['main']
      .splits['train']
      .take(np.arange(12 * i, 12 * i + 12))
    }
    state, _ = step(state, batch)
    read.append(np.unique(numbers_of(batch['main'])))
  return start, state, read


def test_dense_runs_are_those_of_the_whole_table(make):
  ends = [train(make('pcgrad', tables))[1].params for tables in (True, False)]
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), *ends
  )


@pytest.mark.parametrize('name', ['adam', 'rowwise_adagrad'])
def test_a_lazy_run_moves_the_rows_read(make, name):
  start, end, read = train(make('pcgrad', lazy_rows=True, name=name))
  before, after = (
    s.params['trunk']['items']['embedding'] for s in (start, end)
  )
  moved = np.flatnonzero(np.any(np.asarray(before != after), axis=1))
  np.testing.assert_array_equal(moved, np.unique(np.concatenate(read)))
  assert len(moved) < ROWS


def test_the_plan_counts_the_rows_read(make):
  experiment, whole = (
    make('pcgrad', tables, accumulate=3) for tables in (True, False)
  )
  assert not experiment.reads_tables_whole
  # Of the step's batch 12 x 5 numbers, in place of 500 rows.
  assert experiment.gramian.memory < 0.3 * whole.gramian.memory


def test_methods_that_keep_a_jacobian_read_tables_whole(make, capsys):
  from mtl_jax.experiment import run

  experiment = make('moco')
  assert experiment.reads_tables_whole
  assert make('rotograd').reads_tables_whole
  run.show(experiment)
  printed = capsys.readouterr().out
  assert 'Tables: read whole' in printed and 'lazy' not in printed
  run.show(make('moco', lazy_rows=True))
  printed = capsys.readouterr().out
  assert 'per task, and optimizer.lazy_rows does nothing.' in printed

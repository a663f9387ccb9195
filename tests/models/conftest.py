"""A model that is called outside of a program runs as one program here.

Operation by operation, each of them would be compiled by itself.
"""

import functools

import jax
import pytest

from mtl_jax import models


def as_program(function):
  """The function, under jit where it is called with arrays."""
  if function is None:
    return None
  programs = {}

  @functools.wraps(function)
  def call(*args, **options):
    leaves = jax.tree.leaves((args, options))
    if any(isinstance(x, jax.core.Tracer) for x in leaves):
      return function(*args, **options)
    key = options.pop('key', None)
    name = repr(sorted(options.items()))
    if name not in programs:
      given = functools.partial(function, **options)
      programs[name] = jax.jit(
        lambda args, key: given(*args) if key is None else given(*args, key=key)
      )
    return programs[name](args, key)

  return call


@pytest.fixture(autouse=True)
def _models_are_programs(monkeypatch):
  build = models.build_model

  def build_model(*args, **kwargs):
    model = build(*args, **kwargs)
    return model._replace(
      init=as_program(model.init),
      features=as_program(model.features),
      inspect=as_program(model.inspect),
    )

  monkeypatch.setattr(models, 'build_model', build_model)

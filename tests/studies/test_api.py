"""Functions of `studies.api` as they are called from Python."""

import inspect

import pytest

from mtl_jax.studies import api


@pytest.mark.parametrize('name', ['load', 'evaluate', 'predict', 'report'])
def test_a_work_directory_has_one_keyword(name):
  assert 'workdir' in inspect.signature(getattr(api, name)).parameters

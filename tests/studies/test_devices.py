"""A device a core, asked for before JAX has started."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import os
import launch
from mtl_jax.studies import api
api.use_all_cores()
import jax
print(len(jax.devices()))
"""


@pytest.mark.parametrize(
  ('flags', 'expected'),
  [
    pytest.param('', len(os.sched_getaffinity(0)), marks=pytest.mark.slow),
    ('--xla_force_host_platform_device_count=3', 3),
  ],
)
def test_every_core_is_a_device_unless_the_user_said_otherwise(flags, expected):
  """No import may start JAX, for its devices are fixed from then on."""
  found = subprocess.run(
    [sys.executable, '-c', SCRIPT],
    env={**os.environ, 'XLA_FLAGS': flags},
    capture_output=True,
    text=True,
    check=True,
  )
  assert int(found.stdout) == expected

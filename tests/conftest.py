"""Shared test setup: four CPU devices, so that every mode can be tested."""

import os

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
# Before jax is imported: the number of devices is fixed when it starts.
os.environ['XLA_FLAGS'] = (
    os.environ.get('XLA_FLAGS', '')
    + ' --xla_force_host_platform_device_count=4'
)

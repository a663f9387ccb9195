"""``results.json``: what a run has found, and on what it was run."""

from collections.abc import Mapping
from importlib import metadata
import pathlib
import platform
import subprocess
from typing import Any

import jax

from mtl_jax.reporting import whole_files

RESULTS = 'results.json'
PACKAGES = (
  'mtl_jax',
  'jax',
  'jaxlib',
  'flax',
  'optax',
  'orbax-checkpoint',
  'grain',
  'tensorflow-datasets',
  'numpy',
)


def write_results(
  workdir: whole_files.Path,
  *,
  metrics: Mapping[str, Mapping[str, float]],
  overall: float,
  config: Mapping[str, Any],
  timing: Mapping[str, float],
  **more: Any,
) -> dict[str, Any]:
  """Writes ``results.json`` from the run's numbers and its environment.

  Args:
    workdir: where to.
    metrics: a task's metrics by name, on the split that counts.
    overall: the overall score.
    config: the whole config.
    timing: seconds, steps per second and the like.
    **more: whatever else is to be kept; `mtl_jax.reporting.report` shows
      ``split``, ``best_step``, ``ended``, ``undefined``, ``tasks``
      (``[{'name', 'score', 'positive', ...}]``), ``baselines`` (``{name:
      {task: {metric: value}}}``), ``ranking`` (fields of `tables.Table`),
      ``relations`` (``{'tasks', 'labels', 'residuals'}``) and ``experts``
      (``{stream: {level: ...}}``, see `expert_use`).

  Returns:
    What was written, NaN as None.
  """
  content = whole_files.plain(
    {
      'overall': overall,
      'metrics': metrics,
      **more,
      'timing': timing,
      **environment(),
      'config': config,
    }
  )
  whole_files.write_json(pathlib.Path(workdir) / RESULTS, content)
  return content


def environment() -> dict[str, Any]:
  """Commit, versions and devices.

  Example:
    >>> sorted(environment())
    ['commit', 'devices', 'platform', 'versions']
  """
  devices = jax.devices()
  return {
    'commit': commit(pathlib.Path(__file__).parent),
    'versions': versions(),
    'devices': {
      'kind': devices[0].device_kind,
      'platform': devices[0].platform,
      'count': len(devices),
      'processes': jax.process_count(),
    },
    'platform': platform.platform(),
  }


def versions() -> dict[str, str]:
  """Versions of Python and of the packages that decide a result."""
  by_package = {'python': platform.python_version()}
  for package in PACKAGES:
    try:
      by_package[package] = metadata.version(package)
    except metadata.PackageNotFoundError:
      continue
  return by_package


def commit(directory: whole_files.Path) -> str | None:
  """The commit checked out there, '+changes' if it is not that any more.

  None where there is no repository, or no git.
  """

  def git(*arguments):
    return subprocess.run(
      ['git', *arguments],
      cwd=directory,
      capture_output=True,
      text=True,
      check=True,
      timeout=10,
    ).stdout.strip()

  try:
    head = git('rev-parse', 'HEAD')
    # An installed package may lie inside somebody else's repository.
    git('ls-files', '--error-unmatch', '.')
    changed = git('status', '--porcelain', '--untracked-files=no')
  except (OSError, subprocess.SubprocessError):
    return None
  return head + ('+changes' if changed else '')

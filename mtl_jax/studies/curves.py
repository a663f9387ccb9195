"""Curves over the members of a method, and relations between tasks."""

from typing import Any

import numpy as np

from mtl_jax.studies import record as study_record, statistics, study_summary

Curves = dict[str, dict[str, dict[str, study_summary.Band]]]


def bands(study: study_record.Study, confidence: float) -> Curves:
  """Mean and interval of every series, by kind, name and method.

  Over the steps that all members which did not diverge have: one that stopped
  early ends the band, so that its mean is always over the same members.

  Args:
    study: the record.
    confidence: of the intervals.
  """
  found: Curves = {}
  for method in study.methods:
    runs = [run for run in method.runs if run.counts]
    if not runs:
      continue
    for kind, series in runs[0].curves.items():
      for name in series:
        rows = [run.curves.get(kind, {}).get(name, ()) for run in runs]
        band = _band(rows, confidence)
        if band is not None:
          by_name = found.setdefault(kind, {}).setdefault(name, {})
          by_name[method.name] = band
  return found


def _band(rows, confidence):
  maps = [{int(step): value for step, value in row} for row in rows]
  steps = sorted(set.intersection(*map(set, maps)))
  if not steps:
    return None
  values = np.array(
    [[_number(m[step]) for step in steps] for m in maps]
  )  # [n, T]
  if np.isnan(values).all():
    return None
  mean, half = values.mean(0), np.zeros(len(steps))
  if len(rows) > 1:
    one = statistics.t_interval(np.arange(len(rows)), confidence)
    quantile = one.half / np.arange(len(rows)).std(ddof=1)  # t / sqrt(n)
    half = quantile * values.std(0, ddof=1)
  return study_summary.Band(
    steps=np.array(steps), mean=mean, low=mean - half, high=mean + half
  )


def relations(study: study_record.Study) -> dict[str, Any]:
  """Correlations of labels and residuals, mean over the control's runs."""
  named = [m for m in study.methods if m.name == study.control]
  runs = [run for m in named or study.methods[:1] for run in m.runs]
  runs = [run for run in runs if run.counts and run.relations]
  if not runs:
    return {}
  found: dict[str, Any] = {'tasks': list(runs[0].relations['tasks'])}
  for kind in ('labels', 'residuals'):
    matrices = [run.relations[kind] for run in runs if run.relations.get(kind)]
    if matrices:
      found[kind] = np.mean(np.array(matrices, np.float64), 0)
  return found


def _number(value):
  return np.nan if value is None else float(value)

"""Claims held against the runs of a study, and metrics against each other."""

from collections.abc import Sequence
import math

import numpy as np

from mtl_jax.studies import (
  delta,
  paired as study_members,
  pareto,
  record as study_record,
  statistics,
  study_summary,
)


def hold(
  members: study_members.Members, claim: study_record.Claim
) -> study_summary.Verdict:
  """What the runs say of a claim.

  What was not run leaves a claim undecided.

  Raises:
    ValueError: if its statistic is none of the study's.
  """
  missing = _missing(members, claim)
  if missing:
    none = study_summary.Cell(mean=math.nan)
    return study_summary.Verdict(
      claim=claim, found=none, verdict='undecided', note=missing
    )
  study = members.study
  signed = _signed(study, claim)
  method = signed[0][0]
  against = study.method(claim.against) if claim.against else None
  out = sum(not r.counts for m, _ in signed for r in m.runs)
  note = f'{out} diverged, left out' if out else ''
  if claim.statistic.startswith('cost/'):
    name = claim.statistic.removeprefix('cost/')
    costs = [
      sign * study_members.number(getattr(m.cost, name)) for m, sign in signed
    ]
    x = values = np.array([sum(costs)])
  else:
    by_seed = [members.by_seed(m, claim.statistic) for m, _ in signed]
    seeds = [s for s in by_seed[0] if all(s in own for own in by_seed)]
    values = np.array([[own[s] for s in seeds] for own in by_seed])
    x = np.array([sign for _, sign in signed]) @ values
  if claim.test == 'spread':
    found = statistics.spread_interval(*values, confidence=claim.confidence)
  elif claim.test == 'value':
    mean = float(x.mean()) if x.size else math.nan
    found = statistics.Interval(mean, mean, mean, x.size)
  elif claim.statistic == 'delta_m' and against is None and claim.test == 't':
    # The single-task runs vary too, and do not cancel.
    found = delta.delta_m_interval(
      members.values(method),
      members.twins,
      members.higher,
      members.tasks,
      members.by_task,
      claim.confidence,
    )
  else:
    found = statistics.interval(x, claim.test, claim.confidence)
  verdict = statistics.verdict(found, claim.relation, claim.threshold)
  return study_summary.Verdict(
    claim=claim, found=study_members.cell(found), verdict=verdict, note=note
  )


def _signed(study, claim):
  """The methods of a claim, each with the sign that it counts with."""
  names = [claim.method, claim.against, *claim.beside]
  signs = (1, -1, -1, 1)
  return [
    (study.method(name), sign)
    for name, sign in zip(names, signs, strict=False)
    if name
  ]


def _missing(members, claim) -> str:
  """What a claim needs and the study does not have; '' if nothing."""
  names = [method.name for method in members.study.methods]
  for name in filter(None, (claim.method, claim.against, *claim.beside)):
    if name not in names:
      return f'{name} was not run'
  if claim.statistic == 'delta_m' and not members.twins:
    return 'no single-task runs'
  return ''


def pairs(
  study: study_record.Study, chosen: Sequence[tuple[str, str]] | None
) -> list[tuple[str, str]]:
  """The chosen pairs, or the scores of the first two tasks."""
  if chosen is not None:
    return list(chosen)
  names = []
  for task in study.tasks:
    own = [m for m in study.metrics if m.task == task.name]
    scores = [m.name for m in own if m.metric == task.score]
    names += (scores or [m.name for m in own])[:1]
  return [(names[0], names[1])] if len(names) > 1 else []


def trade_off(
  members: study_members.Members, pair: tuple[str, str]
) -> study_summary.TradeOff:
  """Runs, means, front and hypervolumes of two metrics.

  Args:
    members: of the study.
    pair: two ``task/metric``.

  Raises:
    ValueError: if a metric is not declared in the study.
  """
  missing = [name for name in pair if name not in members.names]
  if missing:
    raise ValueError(
      f'Expected two of the metrics {members.names}, found {missing[0]!r}; '
      'choose the axes among these.'
    )
  where = [members.names.index(name) for name in pair]
  higher = [members.higher[i] for i in where]
  methods = [m for m in members.study.methods if any(r.counts for r in m.runs)]
  runs = {m.name: members.values(m)[:, where] for m in methods}
  means = {name: points.mean(0) for name, points in runs.items()}
  every = np.concatenate([np.zeros((0, 2)), *runs.values()])
  if every.size:
    worst = np.where(higher, np.nanmin(every, 0), np.nanmax(every, 0))
  else:
    worst = np.full(2, np.nan)
  points = np.array(list(means.values())).reshape(-1, 2)
  on_front = pareto.non_dominated(points, higher)
  families: dict[str, list[np.ndarray]] = {}
  for m in methods:
    families.setdefault(m.family or m.name, []).append(means[m.name])
  return study_summary.TradeOff(
    x=members.study.metrics[where[0]],
    y=members.study.metrics[where[1]],
    runs=runs,
    means=means,
    front=[name for name, on in zip(means, on_front, strict=True) if on],
    volumes={
      family: pareto.hypervolume(np.array(own), worst, higher)
      for family, own in families.items()
    },
    volume=pareto.hypervolume(points, worst, higher),
    reference=worst,
  )

"""A study that never was: random numbers with the shape of one."""

import itertools

import jax
import numpy as np

from mtl_jax.studies import record as records

NAMES = (
  ('equal', 'Equal weights'),
  ('tuned', 'Tuned weights'),
  ('pcgrad', 'PCGrad'),
  ('cagrad', 'CAGrad (c = 0.4)'),
  ('mgda', 'MGDA'),
  ('nash_mtl', 'Nash-MTL'),
  ('imtl_g', 'IMTL-G'),
  ('fairgrad', 'FairGrad'),
  ('aligned_mtl', 'Aligned-MTL'),
  ('uncertainty', 'Uncertainty weighting'),
  ('dwa', 'DWA'),
  ('famo', 'FAMO'),
)
TASKS = ('segmentation', 'depth', 'normals', 'edges', 'key points')
STEPS = 2000


def make_study(methods=12, tasks=5, seeds=5, groups=(), seed=0, twins=True):
  """A study of random numbers; one member diverges where there are several."""
  rng = np.random.default_rng(seed)
  names = (TASKS + tuple(f'attribute_{i}' for i in range(40)))[:tasks]
  metrics = []
  for task in names:
    metrics.append(
      records.MetricRecord(task=task, metric='accuracy', higher_is_better=True)
    )
    metrics.append(
      records.MetricRecord(
        task=task, metric='error', higher_is_better=False, unit='degrees'
      )
    )

  def run(quality, number, status='finished'):
    level = quality + 0.01 * rng.normal()
    values = {}
    for i, task in enumerate(names):
      skill = level + 0.04 * np.sin(i + 10 * quality) + 0.01 * rng.normal()
      values[f'{task}/accuracy'] = float(skill)
      values[f'{task}/error'] = float(30 * (1 - skill))
    return records.MemberRecord(
      seed=number,
      status=status,
      diverged_at=700 if status == 'diverged' else None,
      metrics=values if status != 'diverged' else {},
      overall=float(np.mean(list(values.values())[::2])),
      curves=curves(rng, names, level, groups),
      parameters=123_456,
      relations=relations(rng, names),
    )

  made = []
  for i, (name, label) in enumerate(NAMES[:methods]):
    quality = 0.6 + 0.02 * rng.normal() + 0.01 * i
    runs = [
      run(quality, s, 'diverged' if i == 4 and s == 2 else 'finished')
      for s in range(seeds)
    ]
    cost = records.Cost(
      step_ms=2.0 + i,
      compile_s=3.5,
      peak_mb=100.0 + 10 * i,
      relative_flops=float(1 if i < 2 else tasks),
    )
    options = {'learning_rate': 1e-3}
    made.append(
      records.Method(
        name=name, label=label, runs=runs, cost=cost, options=options
      )
    )
  alone = [
    records.Twin(task=task, runs=[run(0.66, s) for s in range(seeds)])
    for task in names
  ]
  return records.Study(
    name='A study of random numbers',
    config={'fixture': True, 'steps': STEPS},
    tasks=[records.TaskRecord(name=task, score='accuracy') for task in names],
    metrics=metrics,
    control='equal',
    methods=made,
    twins=alone if twins else (),
    trials=[
      records.Trial(
        method=m.name,
        options={'learning_rate': rate},
        validation=float(rng.random()),
        chosen=rate == 1e-3,
      )
      for m in made
      for rate in (1e-4, 1e-3)
    ],
    claims=claims(made) if twins else (),
  )


def claims(methods):
  """One of each kind."""
  last, first = methods[-1].name, methods[0].name
  kinds = dict(method=last, against=first)
  return [
    records.Claim(
      text='The last method beats equal weights by delta-m',
      statistic='delta_m',
      relation='<',
      **kinds,
    ),
    records.Claim(
      text='... and by more than a hundred points',
      statistic='delta_m',
      relation='<',
      threshold=-100.0,
      source='a made-up paper',
      published=-123.4,
      **kinds,
    ),
    records.Claim(
      text='It is as good as equal weights in the first task',
      statistic='segmentation/accuracy',
      relation='within',
      threshold=0.05,
      test='wilcoxon',
      **kinds,
    ),
    records.Claim(
      text='It costs less than 20 ms a step',
      statistic='cost/step_ms',
      relation='<',
      threshold=20.0,
      test='value',
      method=last,
    ),
  ]


def curves(rng, names, level, groups):
  """Falling losses, rising scores, wandering cosines and weights."""
  steps = np.arange(100, STEPS + 1, 100)
  rise = level * (1 - np.exp(-steps / 500))
  train, validation, gradients = {}, {}, {}
  for task in names:
    noise = 0.02 * rng.normal(size=steps.size)
    train[f'loss/{task}'] = pairs(steps, 2 * (1 - rise) + noise)
    validation[f'{task}/loss'] = pairs(steps, 2.2 * (1 - rise) + noise)
    validation[f'{task}/accuracy'] = pairs(steps, rise + noise / 3)
  steps = np.arange(0, STEPS, 50)

  def walk(scale=0.1):
    return np.cumsum(scale * rng.normal(size=steps.size))

  for prefix in ('', *(f'group/{g}/' for g in groups)):
    for a, b in itertools.combinations(names, 2):
      key = f'{prefix}cosine/{a}/{b}'
      gradients[key] = pairs(steps, np.tanh(walk()))
  for task in names:
    gradients[f'norm/{task}'] = pairs(steps, np.exp(walk()))
    gradients[f'weight/{task}'] = pairs(steps, np.exp(walk(0.05)) / 2)
  for name in ('conflict_rate', 'conflict_rate_after'):
    gradients[name] = pairs(steps, rng.random(steps.size))
  return {'train': train, 'validation': validation, 'gradients': gradients}


def pairs(steps, values):
  return [[int(s), float(v)] for s, v in zip(steps, values, strict=True)]


def relations(rng, names):
  matrix = np.corrcoef(rng.normal(size=(len(names), 8)))
  found = {'tasks': list(names), 'labels': matrix.tolist()}
  return found | {'residuals': (matrix / 2).tolist()}


def traced_step(experiment):
  """The state that a step of an experiment is traced with, checked."""
  state = jax.eval_shape(experiment.first_state, 0)
  batch = experiment.batch_shapes()
  after, metrics = jax.eval_shape(experiment.make_step(), state, batch)
  assert jax.tree.structure(after) == jax.tree.structure(state)
  assert metrics['losses'].shape == (len(experiment.tasks),)
  return state

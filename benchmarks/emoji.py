"""Emoji: linear probes of each modality beside the trained network, 5 folds.

python benchmarks/emoji.py                 # 5 folds, a minute each
python benchmarks/emoji.py --how=gate,concat --no_flags
python benchmarks/emoji.py --how=concat/text+picture,concat/text

Probes are ridge regressions of standardised vectors (of classes: on 0 and 1),
whose penalty the validation split picks; the network is configs/rec/emoji.py,
with all inputs or those behind a slash. Test splits, by variant; intervals of
95% over folds, also of the difference to the best probe of each column. Then,
per task, what each knock-out costs the first of the networks, and what its
gates weigh.
"""

import argparse
import json
import pathlib

import jax
import numpy as np
from scipy import special, stats
from sklearn import feature_extraction, linear_model, metrics, preprocessing

import mtl_jax
from mtl_jax import data, evaluation
from mtl_jax.data import emoji, packages

CONFIG = pathlib.Path(__file__).parents[1] / 'configs' / 'rec' / 'emoji.py'
PENALTIES = (1, 10, 100, 1000, 10_000)
SPLITS = ('train', 'validation', 'test')
COLUMNS = (
  'group accuracy',
  'group macro F1',
  'subgroup accuracy',
  'sentiment R2',
  'frequency R2',
)
INPUTS = ('text', 'picture', 'chinese')
CLASSES = ('group', 'subgroup')
NETWORK = 'network ({})'
PARTS = {
  'language model, over TF-IDF of the same text': (
    'text (MiniLM)',
    'text, TF-IDF',
  ),
  'picture, beside text': ('text + picture', 'text (MiniLM)'),
  'picture, over that of another item': (
    'text + picture',
    'text + picture of another item',
  ),
  'network with gates, over linear probe of text + picture': (
    'network (gate)',
    'text + picture',
  ),
  'gates, over joining': ('network (gate)', 'network (concat)'),
  'picture, beside text in a joined network': (
    'network (concat/text+picture)',
    'network (concat/text)',
  ),
}
TASKS = {
  'group': ('group accuracy', 'group macro F1'),
  'subgroup': ('subgroup accuracy',),
  'sentiment': ('sentiment R2',),
  'frequency': ('frequency R2',),
}


def main() -> None:
  """Prints both tables, and writes them beside the runs."""
  parser = argparse.ArgumentParser()
  parser.add_argument('--folds', type=int, default=emoji.FOLDS)
  parser.add_argument('--how', default='gate', help='one or more, with commas')
  parser.add_argument('--workdir', default='runs/emoji_folds')
  parser.add_argument('--no_flags', action='store_true')
  flags = parser.parse_args()
  mtl_jax.keep_memory()
  hows = flags.how.split(',')
  rows: dict[str, list] = {}
  costs: dict[str, list] = {}
  reads: dict[str, list] = {}
  for fold in range(flags.folds):
    settings = {'fold': fold, 'flags': not flags.no_flags}
    raw = {
      split: table.read(range(table.size), list(table.fields))
      for split, table in emoji.load(**settings).items()
    }
    english = english_of(settings)
    for name, made in probes(raw, english).items():
      rows.setdefault(name, []).append(made)
    for how in hows:
      trained = train(settings, how, flags.workdir)
      rows.setdefault(NETWORK.format(how), []).append(
        network(trained, raw['test'])
      )
      if how == hows[0] and '/' not in how:
        for key, losses in knock_outs(trained).items():
          costs.setdefault(key, []).append(losses)
      if how == hows[0] == 'gate':
        for task, weights in gates(trained).items():
          reads.setdefault(task, []).append(weights)
  told = ', without flags' if flags.no_flags else ''
  show(f'Test splits of {flags.folds} folds{told}', rows, COLUMNS)
  show('Less the best probe of the column', against_probes(rows), COLUMNS)
  show('What a part adds, by fold', parts(rows), COLUMNS)
  show('Loss of a task, minus that with all inputs', costs, tuple(TASKS))
  show('Mean weight of a gate', reads, INPUTS)
  name = 'tables_no_flags.json' if flags.no_flags else 'tables.json'
  out = pathlib.Path(flags.workdir) / name
  out.write_text(json.dumps({'rows': rows, 'costs': costs, 'gates': reads}))


def against_probes(rows):
  """Of each network the difference to each column's best probe, by fold."""
  networks = {name for name in rows if name.startswith(NETWORK[:8])}
  probed = np.array([x for name, x in rows.items() if name not in networks])
  best = probed.mean(1).argmax(0)  # [columns], of [probes, folds, columns]
  own = probed[best, :, np.arange(len(COLUMNS))].T  # [folds, columns]
  return {name: np.array(rows[name]) - own for name in sorted(networks)}


def parts(rows):
  """What each part adds to what is without it, by fold."""
  return {
    name: np.array(rows[more]) - rows[less]
    for name, (more, less) in PARTS.items()
    if {more, less} <= rows.keys()
  }


def english_of(settings):
  """``{split: texts}`` in the order of the rows of `emoji.load`."""
  every = emoji.read(
    str(packages.fetch(*packages.EMOJIBASE)),
    str(packages.fetch(*packages.FLUENT_EMOJI)),
  )
  splits = emoji.split_of(every, settings['fold'])
  kept = [settings['flags'] or one.group != 'flags' for one in every]
  return {
    split: [every[i].text for i in np.flatnonzero((splits == split) & kept)]
    for split in SPLITS
  }


def count_words(texts, **options):
  """TF-IDF ``[N, W]`` of the texts of each split, fitted on training."""
  words = feature_extraction.text.TfidfVectorizer(max_features=4000, **options)
  words.fit(texts['train'])
  return [words.transform(texts[split]).toarray() for split in SPLITS]


def probes(raw, english):
  """``{name: five numbers}`` of ridge regressions, and of constants."""
  rng = np.random.default_rng(0)
  chinese = {split: raw[split]['chinese'] for split in SPLITS}
  vectors = {
    'Chinese names, TF-IDF': count_words(
      chinese, analyzer='char_wb', ngram_range=(1, 3)
    ),
    'text, TF-IDF': count_words(
      english, analyzer='char_wb', ngram_range=(2, 4)
    ),
    'text (MiniLM)': [raw[split]['text'] for split in SPLITS],
    'picture (EfficientNet)': [raw[split]['picture'] for split in SPLITS],
    'text + picture': [
      np.concatenate([raw[split]['text'], raw[split]['picture']], 1)
      for split in SPLITS
    ],
    'text + picture of another item': [
      np.concatenate(
        [raw[split]['text'], rng.permutation(raw[split]['picture'])], 1
      )
      for split in SPLITS
    ],
  }
  labels = [{task: labels_of(raw[s], task) for task in TASKS} for s in SPLITS]
  made = {'constant': judge(constants(labels), labels[2])}
  for name, parts in vectors.items():
    scale = preprocessing.StandardScaler().fit(parts[0])
    parts = [scale.transform(part) for part in parts]
    found = {
      task: probe(parts, [x[task] for x in labels], task in CLASSES)
      for task in TASKS
    }
    made[name] = judge(found, labels[2])
  return made


def labels_of(raw, task):
  """Labels ``[N]`` and weights ``[N]``, 0 where there is none."""
  y = np.asarray(raw[task], float)
  weight = np.isfinite(y).astype(float)
  if task == 'sentiment':
    weight = np.asarray(raw['sentiment_weight'], float)
  return y, weight


def constants(labels):
  """The commonest class, or the mean of training."""
  found = {}
  for task, (y, weight) in labels[0].items():
    known = weight > 0
    values, counts = np.unique(y[known], return_counts=True)
    best = values[counts.argmax()]
    if task not in CLASSES:
      best = np.average(y[known], weights=weight[known])
    found[task] = np.full(len(labels[2][task][0]), best)
  return found


def probe(parts, labels, classes):
  """Predictions of the test split by the best penalty on validation."""
  best = (np.inf, None)
  (y, weight), (y_valid, valid_weight), _ = labels
  train, valid = weight > 0, valid_weight > 0
  target = y[train]
  if classes:
    target = np.eye(int(target.max()) + 1)[target.astype(int)]
  for penalty in PENALTIES:
    model = linear_model.Ridge(penalty, solver='cholesky')
    model.fit(parts[0][train], target, sample_weight=weight[train])
    put_out = [model.predict(part) for part in parts[1:]]
    if classes:
      put_out = [x.argmax(1) for x in put_out]
      error = np.mean(put_out[0][valid] != y_valid[valid])
    else:
      gap = (put_out[0][valid] - y_valid[valid]) ** 2
      error = np.average(gap, weights=valid_weight[valid])
    if error < best[0]:
      best = (error, put_out[1])
  return best[1]


def judge(found, labels):
  """The five numbers of predictions."""
  numbers = []
  for task in TASKS:
    y, weight = labels[task]
    known = weight > 0
    y, weight, predicted = y[known], weight[known], found[task][known]
    if task not in CLASSES:
      numbers.append(metrics.r2_score(y, predicted, sample_weight=weight))
      continue
    numbers.append(np.mean(y == predicted))
    if task == 'group':
      numbers.append(metrics.f1_score(y, predicted, average='macro'))
  return [float(x) for x in numbers]


def train(settings, how, folder):
  """The network of a fold; a finished run is read back."""
  fusion, _, inputs = how.partition('/')
  config = mtl_jax.load_config(f'{CONFIG}:{fusion}')
  if inputs:
    config.model.trunk.inputs = tuple(inputs.split('+'))
  for name, value in settings.items():
    config.data.settings[name] = value
  how = how.replace('/', '_of_')
  name = f'{how}_{settings["fold"]}_{"all" if settings["flags"] else "no"}'
  workdir = pathlib.Path(folder) / name
  mtl_jax.run(config, workdir)
  return mtl_jax.load(workdir)


def network(trained, raw):
  """The five numbers of the network on the test split."""
  experiment = trained.experiment
  source = experiment.data['main'].splits['test']
  step = evaluation.make_predict_step(experiment.model, experiment.tasks)
  predicted = evaluation.predict(
    jax.jit(step),
    experiment.tasks,
    trained.params,
    trained.model_state,
    ({'main': x} for x in data.EvaluationBatches(source, 256)),
  )
  for task in CLASSES:
    predicted[task] = predicted[task].argmax(-1)
  found = {task: np.asarray(x).reshape(-1) for task, x in predicted.items()}
  return judge(found, {task: labels_of(raw, task) for task in TASKS})


def knock_outs(trained):
  """Loss of each task that a knock-out adds."""
  found = trained.knock_outs(INPUTS)
  whole = found.pop(('', '')).metrics
  return {
    f'{name} {how}': [
      result.metrics[task]['loss'] - whole[task]['loss'] for task in TASKS
    ]
    for (name, how), result in found.items()
  }


def gates(trained):
  """Mean weight of each modality in each task's gate, on the test split."""
  model, source = trained.experiment.model, trained.experiment.data['main']
  split = source.splits['test']
  features, _ = model.features(
    trained.params,
    trained.model_state,
    split.take(np.arange(len(split))),
    stream='main',
    train=False,
  )
  z, there = np.asarray(features[..., :-1]), np.asarray(features[..., -1])
  found = {}
  for task in TASKS:
    weigh = trained.params['heads'][task]['weigh']
    logits = z.reshape(len(z), -1) @ weigh['kernel'] + weigh['bias']
    weights = special.softmax(np.where(there > 0, logits, -np.inf), axis=-1)
    found[task] = [float(x) for x in weights.mean(0)]
  return found


def show(title, rows, columns):
  """A table in Markdown: means, and half of the interval over folds."""
  if not rows:
    return
  print(f'\n{title}\n\n| | {" | ".join(columns)} |')
  print(f'|---|{"---|" * len(columns)}')
  for name, folds in rows.items():
    x = np.array(folds)  # [folds, columns]
    cells = [f'{mean:.3f}' for mean in x.mean(0)]
    if len(x) > 1:
      wide = stats.t.ppf(0.975, len(x) - 1) * x.std(0, ddof=1) / len(x) ** 0.5
      cells = [f'{c} ± {w:.3f}' for c, w in zip(cells, wide, strict=True)]
    print(f'| {name} | {" | ".join(cells)} |', flush=True)


if __name__ == '__main__':
  main()

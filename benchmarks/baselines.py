"""TF-IDF and logistic regression on the splits of `configs/reviews_cnn.py`.

Prints department accuracy and recommended AUC on the test split, for the
regularisation that is best on the validation split, and beside them what a run
of the config has written, if its work directory is given.

  python benchmarks/baselines.py --workdir=runs/reviews

About 2 minutes on 2 CPU cores; needs scikit-learn (`pip install -e '.[dev]'`).
"""

import argparse
import json
import pathlib

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, roc_auc_score

from mtl_jax import data

TASKS = {'department': 'accuracy', 'recommended': 'auc'}
STRENGTHS = (1.0, 3.0, 10.0, 30.0)  # inverse regularisation


def load(split: str) -> dict[str, np.ndarray]:
  """Texts and labels of one split."""
  table = data.from_tfds(data.make_builder('clothing_reviews'), split)
  raw = table.read(range(table.size), ('text', *TASKS))
  texts = [t.decode() if isinstance(t, bytes) else t for t in raw['text']]
  return {
    'text': np.array(texts, object),
    **{task: np.asarray(raw[task]) for task in TASKS},
  }


def score(task: str, model, features, labels) -> float:
  """Accuracy of classes, AUC of a binary label."""
  if task == 'department':
    return float(accuracy_score(labels, model.predict(features)))
  return float(roc_auc_score(labels, model.predict_proba(features)[:, 1]))


def fit(task: str, splits) -> tuple[float, float]:
  """The best strength on validation, and the score on test."""
  vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
  known = {name: s[task] >= 0 for name, s in splits.items()}
  features = {}
  for name in ('train', 'validation', 'test'):
    texts = splits[name]['text'][known[name]]
    learn = (
      vectorizer.fit_transform if name == 'train' else (vectorizer.transform)
    )
    features[name] = learn(texts)
  labels = {name: splits[name][task][known[name]] for name in splits}
  best = (-1.0, 0.0, 0.0)
  for strength in STRENGTHS:
    model = LogisticRegression(C=strength, max_iter=1000)
    model.fit(features['train'], labels['train'])
    validation, test = (
      score(task, model, features[name], labels[name])
      for name in ('validation', 'test')
    )
    best = max(best, (validation, strength, test))
  return best[1], best[2]


def main() -> None:
  """Fits, and prints the table."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--workdir', help='of a run of configs/reviews_cnn.py')
  flags = parser.parse_args()
  ours = {}
  if flags.workdir:
    file = pathlib.Path(flags.workdir) / 'results.json'
    ours = json.loads(file.read_text())['metrics']
  splits = {name: load(name) for name in ('train', 'validation', 'test')}
  print('| task | metric | TF-IDF + logistic regression | ours |')
  print('|---|---|---|---|')
  for task, metric in TASKS.items():
    strength, found = fit(task, splits)
    mine = f'{ours[task][metric]:.4f}' if ours else '-'
    print(f'| {task} | {metric} | {found:.4f} (C = {strength:g}) | {mine} |')


if __name__ == '__main__':
  main()

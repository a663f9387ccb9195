"""Made packages of emoji, as small as they can be, and encoders that count."""

import hashlib
import io
import json
import tarfile
import zipfile

import numpy as np

from mtl_jax.data import item_content, packages

GROUPS = {
  'groups': {'0': 'smileys', '1': 'people', '2': 'component', '9': 'flags'},
  'subgroups': {'0': 'face', '1': 'person', '2': 'tone', '3': 'country'},
}


def emoji_rows():
  """Rows of data.json: variants, a component, one that has no picture."""
  rows = [('1F44B', 'waving hand', 1, 1), ('1F3FB', 'light skin tone', 2, 2)]
  rows += [('1F9D1-200D-1F373', 'cook', 1, 1)]
  rows += [('1F468-200D-1F373', 'man cook', 1, 1)]
  rows += [('1F469-200D-1F373', 'woman cook', 1, 1)]
  rows += [('0031-FE0F-20E3', 'keycap: 1', 1, 1)]
  rows += [('0032-FE0F-20E3', 'keycap: 2', 1, 1), ('1FFFF', 'unseen', 0, 0)]
  rows += [(f'1F6{i:02X}', f'face {i}', 0, 0) for i in range(30)]
  rows += [
    (f'1F1E6-1F1{i:02X}', f'flag: land {i}', 9, 3) for i in range(230, 245)
  ]
  return [
    {
      'hexcode': code,
      'label': label,
      'tags': [label, f'tag {i}'],
      'group': group,
      'subgroup': subgroup,
      'order': i,
    }
    for i, (code, label, group, subgroup) in enumerate(rows)
  ]


def write(folder, monkeypatch):
  """Writes the archives, and lets `packages` pin these instead."""
  rows = emoji_rows()
  chinese = [{**row, 'label': f'脸 {i}'} for i, row in enumerate(rows)]
  base = {
    'en/data.json': json.dumps([*rows, {'hexcode': '1F1E6', 'label': 'A'}]),
    'zh/data.json': json.dumps(chinese[:-1]),
    'meta/groups.json': json.dumps(GROUPS),
  }
  pictures = {}
  for i, row in enumerate(rows):
    name = row['hexcode'].lower()
    if row['label'] != 'unseen':
      pictures[f'assets/{name}.webp'] = f'picture {i}'
  # Two lands that share a picture.
  names = sorted(name for name in pictures if '1f1e6-' in name)
  pictures[names[1]] = pictures[names[0]]
  table = ['Emoji,Occurrences,Negative,Neutral,Positive']
  table += [f'{chr(0x1F600 + i)},{4 + i},1,1,{2 + i}' for i in range(20)]
  table += ['👋,100,10,20,70', 'x,50,1,1,48']
  for attribute, files in (('EMOJIBASE', base), ('FLUENT_EMOJI', pictures)):
    pin(monkeypatch, attribute, tarball(files), 'tgz', folder)
  content = io.BytesIO()
  with zipfile.ZipFile(content, 'w') as archive:
    archive.writestr(
      'emosent/data/Emoji_Sentiment_Data_v1.0.csv', '\n'.join(table)
    )
  pin(monkeypatch, 'EMOSENT', content.getvalue(), 'whl', folder)
  monkeypatch.setenv('MTL_JAX_CACHE', str(folder))
  for name, width in (('text_encoder', 6), ('picture_encoder', 5)):
    monkeypatch.setattr(
      item_content, name, lambda _, width=width: Letters(width)
    )


def tarball(files):
  content = io.BytesIO()
  with tarfile.open(fileobj=content, mode='w:gz') as archive:
    for name, text in files.items():
      entry = tarfile.TarInfo(f'package/{name}')
      text = text.encode() if isinstance(text, str) else text
      entry.size = len(text)
      archive.addfile(entry, io.BytesIO(text))
  return content.getvalue()


def pin(monkeypatch, attribute, content, suffix, folder, module=packages):
  file = folder / 'packages' / f'{attribute.lower()}.{suffix}'
  file.parent.mkdir(exist_ok=True)
  file.write_bytes(content)
  digest = hashlib.sha256(content).hexdigest()
  made = packages.Package('made', file.name, digest, len(content))
  monkeypatch.setattr(module, attribute, made)


class Letters:
  """First bytes of a digest, as a stand-in of an encoder."""

  def __init__(self, features):
    self.features = features
    self.fingerprint = f'letters {features}'

  def encode(self, items):
    return np.array([self._bytes(item) for item in items], np.float32) / 100

  def _bytes(self, item):
    if isinstance(item, str):
      item = item.encode()
    if isinstance(item, np.ndarray):
      item = item.tobytes()
    content = item if isinstance(item, bytes) else item.read_bytes()
    return list(hashlib.sha256(content).digest()[: self.features])

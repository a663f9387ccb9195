"""Compilation caches of processes that run side by side, or are killed."""

import os
import pathlib

import compiled


def test_what_a_run_compiles_is_there_for_the_next(tmp_path):
  first, second = (compiled.own_folder(tmp_path) for _ in range(2))
  assert first != second
  (first / 'a').write_text('one')
  (second / 'a').write_text('another')
  assert not (tmp_path / 'a').exists()
  compiled.give_back(first, complete=True)
  compiled.give_back(second, complete=True)
  assert (tmp_path / 'a').read_text() == 'one'
  assert [path.name for path in tmp_path.iterdir()] == ['a']
  third = compiled.own_folder(tmp_path)
  assert (third / 'a').read_text() == 'one'


def test_nothing_stays_of_a_run_that_was_stopped(tmp_path):
  folder = compiled.own_folder(tmp_path)
  (folder / 'half').write_text('o')
  compiled.give_back(folder, complete=False)
  assert not list(tmp_path.iterdir())
  # Killed: its folder lies there, but for a day only.
  killed = compiled.own_folder(tmp_path)
  (killed / 'half').write_text('o')
  assert not list(compiled.own_folder(tmp_path).iterdir())
  assert killed.exists()
  os.utime(killed, (0, 0))
  compiled.own_folder(tmp_path)
  assert not killed.exists()


def test_a_folder_that_a_killed_worker_left_is_not_given_back(tmp_path):
  folder = compiled.own_folder(tmp_path)
  inner = compiled.own_folder(folder)
  (inner / 'half').write_text('o')
  (folder / 'whole').write_text('one')
  compiled.give_back(folder, complete=True)
  assert [path.name for path in tmp_path.iterdir()] == ['whole']


def test_a_folder_that_ends_while_it_is_listed_is_passed_over(
  tmp_path, monkeypatch
):
  (tmp_path / 'whole').write_text('one')
  ended = tmp_path / 'running_ended'
  listed = [ended, tmp_path / 'whole']
  monkeypatch.setattr(pathlib.Path, 'iterdir', lambda path: iter(listed))
  folder = compiled.own_folder(tmp_path)
  assert (folder / 'whole').read_text() == 'one'
  assert not (folder / ended.name).exists()


def test_this_process_has_a_folder_of_its_own():
  import jax

  folder = pathlib.Path(jax.config.jax_compilation_cache_dir)
  assert str(folder) == os.environ['JAX_COMPILATION_CACHE_DIR']
  assert folder.name.startswith('running_') and folder.is_dir()

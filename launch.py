"""Trains, evaluates and reports multi-task models from one config.

  python launch.py                                  the small built-in example
  python launch.py --config=configs/reviews_cnn.py --workdir=runs/reviews
  python launch.py --config=configs/reviews_cnn.py:class
      --config.combinator.name=pcgrad --config.optimizer.learning_rate=3e-4

The same command again resumes a run that was stopped. In the work directory
are config.json, metrics.jsonl, TensorBoard events, checkpoints, results.json
and report.html.

  --mode=tune --config=...         only the tuning of a study
  --mode=report --workdir=DIR      tables and pictures again, from the record
  --mode=evaluate --workdir=DIR    prints the table of the best checkpoint again
  --mode=predict --workdir=DIR --input=FILE [--output=FILE.jsonl] [--tasks=A,B]
                                   CSV or JSONL with the inputs of the tasks
      --method=NAME --member=INDEX which one, of a study or of several members
  --dry_run                        shapes, parameters, memory, compile time
  --profile                        also traces ten steps of a run alone

Every setting of a config can be set with --config.SECTION.KEY=VALUE; they are
listed with their meaning in mtl_jax/config/sections.py. An error is one
sentence; MTL_JAX_TRACEBACK=1 in the environment shows where it comes from.
"""

import argparse
import os
import pathlib
import sys
from typing import Any

DEFAULT = pathlib.Path(__file__).parent / 'configs' / 'synthetic_sequences.py'


def main(arguments: list[str] | None = None) -> int:
  """Runs the command; returns the exit code."""
  flags, overrides = _parser().parse_known_args(arguments)
  refused = _refuse(flags, overrides)
  if refused:
    print(f'launch.py: {refused}', file=sys.stderr)
    return 1
  chosen = {'method': flags.method, 'member': flags.member}
  try:
    api, config, workdir = _prepare(flags, overrides)
    if flags.mode == 'evaluate':
      api.evaluate(workdir, **chosen)
    elif flags.mode == 'predict':
      api.predict(workdir, flags.input, flags.output, flags.tasks, **chosen)
    elif flags.mode == 'report':
      api.report(workdir)
    else:
      api.run(
        config,
        workdir,
        tune=flags.mode == 'tune',
        dry_run=flags.dry_run,
        profile=flags.profile,
      )
    return 0
  except KeyboardInterrupt:
    print('launch.py: interrupted', file=sys.stderr)
    return 130
  except MemoryError as error:
    if os.environ.get('MTL_JAX_TRACEBACK'):
      raise
    print(
      f'launch.py: expected the run to fit into memory, found that it does not '
      f'({error}); take smaller batches or splits, or fewer classes, of which '
      'the table of labels says how many there are.',
      file=sys.stderr,
      flush=True,
    )
    return 1
  except (ValueError, OSError, RuntimeError, FloatingPointError) as error:
    if os.environ.get('MTL_JAX_TRACEBACK'):
      raise
    print(f'launch.py: {error}', file=sys.stderr, flush=True)
    if 'no space left' in str(error):
      os._exit(1)  # what else would be written at exit fails as well
    return 1


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--config', default=str(DEFAULT), help='FILE.py[:ARG]')
  parser.add_argument('--workdir', help='default: runs/NAME_OF_THE_CONFIG')
  parser.add_argument(
    '--mode',
    choices=('train', 'evaluate', 'predict', 'tune', 'report'),
    default='train',
  )
  parser.add_argument('--input', help='CSV or JSONL file to predict')
  parser.add_argument(
    '--tasks', default='', help='to predict: some of a stream'
  )
  parser.add_argument('--output', help='default: standard output')
  parser.add_argument('--method', help='of a study, to evaluate or predict')
  parser.add_argument('--member', type=int, help='its index, of several')
  parser.add_argument('--dry_run', action='store_true')
  parser.add_argument('--profile', action='store_true')
  return parser


def _refuse(flags, overrides) -> str:
  """Refuses flags that do not go together, in one sentence."""
  begins = flags.mode in ('train', 'tune')
  if not begins and (overrides or flags.dry_run or flags.profile):
    return (
      f'Expected --workdir alone for --mode={flags.mode}, found '
      f'{(overrides or ["--dry_run or --profile"])[0]!r}; the settings are '
      'those that the run was trained with.'
    )
  if flags.mode != 'predict' and (flags.input or flags.output or flags.tasks):
    return (
      'Expected --input, --output and --tasks with --mode=predict only, found '
      f'--mode={flags.mode}; add --mode=predict.'
    )
  chosen = flags.method is not None or flags.member is not None
  if chosen and flags.mode not in ('evaluate', 'predict'):
    return (
      'Expected --method and --member with --mode=evaluate or predict, found '
      f'--mode={flags.mode}; remove them.'
    )
  return ''


def _prepare(flags, overrides) -> tuple[Any, Any, str]:
  """The package's ways in, the config, and the work directory."""
  # A user's own modules lie beside the config, or where they are.
  for folder in (str(pathlib.Path.cwd()), os.path.dirname(flags.config)):
    if folder and folder not in sys.path:
      sys.path.insert(1, folder)
  # Late: --help and a misspelt flag should not wait for JAX.
  from absl import logging as absl_logging

  from mtl_jax import memory
  from mtl_jax.config import overrides as overrides_lib
  from mtl_jax.studies import api

  memory.keep_memory()
  # Orbax logs whole tracebacks of what we say in a sentence.
  absl_logging.set_verbosity(absl_logging.FATAL)
  config = overrides_lib.load_config(flags.config)
  overrides_lib.apply_overrides(config, overrides)
  name = flags.config.rpartition('/')[2].replace('.py', '').replace(':', '_')
  return api, config, flags.workdir or f'runs/{name}'


if __name__ == '__main__':
  sys.exit(main())

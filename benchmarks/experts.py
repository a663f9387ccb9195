"""Seconds to compile a training step with 8 and with 64 experts.

Of each architecture with experts, around an MLP of 64 and 64 units on 20
numbers, with three regressions, batch 256, equal weights and PCGrad. Nothing
comes from a compilation cache. In PLE, CGC, HoME and STEM the number is that of
the shared experts.

  python benchmarks/experts.py

About 2 minutes on 2 CPU cores.
"""

import time

import jax
import jax.numpy as jnp
import optax

from mtl_jax import combinators, models, tasks as tasks_lib
from mtl_jax.training import step as step_lib

SHARED = ('cgc', 'ple', 'home', 'stem')
NAMES = ('omoe', 'mmoe', 'dselect_k', 'snr', 'branching', *SHARED)
METHODS = {
  'equal weights': combinators.weighted_sum,
  'PCGrad': combinators.pcgrad,
}
TASKS = tuple(tasks_lib.regression(name) for name in 'abc')


def seconds(name: str, number: int, method: str) -> float:
  """Of compiling alone, without tracing."""
  option = 'shared_experts' if name in SHARED else 'experts'
  model = models.build_model(
    models.SHARING[name](**{option: number}),
    models.MLP(widths=(64, 64)),
    {task.name: models.LinearHead(1) for task in TASKS},
  )
  combinator = METHODS[method]()
  optimizer = optax.adam(1e-3)
  shapes = {'inputs': (256, 20)} | {task.name: (256,) for task in TASKS}
  batch = {'main': {key: jnp.zeros(shape) for key, shape in shapes.items()}}
  state = jax.eval_shape(
    lambda key: step_lib.init_state(model, combinator, key, batch, optimizer),
    jax.random.key(0),
  )
  step = jax.jit(step_lib.make_train_step(model, TASKS, combinator, optimizer))
  lowered = step.lower(state, batch)
  begin = time.perf_counter()
  lowered.compile()
  return time.perf_counter() - begin


def main() -> None:
  """Prints the table."""
  jax.config.update('jax_enable_compilation_cache', False)
  cases = [(number, method) for method in METHODS for number in (8, 64)]
  titles = [f'{method}, {number} experts' for number, method in cases]
  print(f'| seconds | {" | ".join(titles)} |')
  print('|---|' + '---|' * len(cases))
  for name in NAMES:
    cells = [f'{seconds(name, *case):.1f}' for case in cases]
    print(f'| `{name}` | {" | ".join(cells)} |', flush=True)


if __name__ == '__main__':
  main()

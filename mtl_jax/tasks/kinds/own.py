"""A user's own function as a kind of task."""

from collections.abc import Callable
import functools
import inspect
from typing import Any

from mtl_jax.tasks import task as task_lib
from mtl_jax.tasks.kinds import kind as kind_lib


def of_user(
  kind: str, function: Callable[..., task_lib.Task]
) -> Callable[..., task_lib.Task]:
  """A user's own function as a kind: it need not know what all kinds know.

  Args:
    kind: its name, for tables.
    function: ``(name, ...) -> Task``.

  Returns:
    The function with the options of every kind that it lacks.
  """
  signature = inspect.signature(function)
  keyword = inspect.Parameter.KEYWORD_ONLY
  common = {
    p.name: p
    for p in inspect.signature(kind_lib.TaskKind.__call__).parameters.values()
    if p.kind is keyword and p.name not in {*signature.parameters, 'label'}
  }

  def make(name, info, **options):
    fields = {k: options.pop(k) for k in common if k in options}
    if 'info' in signature.parameters:
      options['info'] = info
    task = function(name, **options)
    fields.setdefault('description', task.description or kind)
    return kind_lib.with_common(task, info, **fields)

  own = [p for p in signature.parameters.values() if p.name != 'info']
  end = [p for p in own if p.kind is p.VAR_KEYWORD]
  first = inspect.Parameter('info', keyword)
  kind_of_user: Any = functools.wraps(function)(make)
  kind_of_user.__signature__ = signature.replace(
    parameters=[
      *(p for p in own if p not in end),
      first,
      *common.values(),
      *end,
    ]
  )
  return kind_of_user

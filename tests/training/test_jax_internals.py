"""What the product reads of JAX's programs, by names that JAX may change.

Nothing is imported of `jax._src`. But a traced program is read, whose names JAX
does not promise: all of them stand below, each with what has it.
"""

import ast
import pathlib

import jax
from jax.extend import core
from jax.interpreters import partial_eval
import jax.numpy as jnp
from jax.sharding import AxisType, PartitionSpec as P
import numpy as np
import pytest

from mtl_jax.training import jaxprs

pytestmark = pytest.mark.smoke
PRODUCT = pathlib.Path(jaxprs.__file__).parents[1]
READERS = {'training/jaxprs.py'}
TABLE = np.arange(16, dtype=np.float32).reshape(4, 4)
IMAGE = np.ones((2, 3, 3, 1), np.float32)


@jax.custom_vjp
def twice(x):
  return 2 * x


twice.defvjp(lambda x: (2 * x, None), lambda _, g: (2 * g,))


def convolved(x):
  return jax.lax.conv_general_dilated_patches(x, (2, 2), (1, 1), 'VALID')


def taken(x):
  return jnp.take(x, np.array([0, 2]), axis=0)


def looped(x):
  return jax.lax.scan(lambda y, _: (jnp.sin(y), None), x, None, length=3)[0]


def over_devices(f, *specs):
  mesh = jax.make_mesh((4,), ('data',), axis_types=(AxisType.Auto,))
  return jax.shard_map(f, mesh=mesh, in_specs=specs, out_specs=P('data'))


def varying(x):
  return over_devices(lambda x: jax.lax.pcast(x, 'data', to='varying'), P())(x)


def products(x):
  return jnp.exp(TABLE @ x) + 2.0


# {a primitive: a program that has it, and of what}.
PRIMITIVES = {
  'conv_general_dilated': (convolved, IMAGE),
  'convert_element_type': (lambda x: x.astype(jnp.bfloat16), TABLE),
  'dot_general': (products, TABLE),
  'gather': (taken, TABLE),
  'jit': (jax.jit(products), TABLE),
  'pvary': (varying, TABLE),
  'stop_gradient': (jax.lax.stop_gradient, TABLE),
}
# Programs with what is run by its name without being told from others.
RUN = {
  'custom_jvp_call': (jax.nn.relu, TABLE),
  'custom_vjp_call': (twice, TABLE),
  'scan': (looped, TABLE),
}


def traced(f, x):
  return jax.make_jaxpr(f)(x)


def all_equations(jaxpr):
  for equation in jaxpr.eqns:
    yield equation
    for value in equation.params.values():
      inner = getattr(value, 'jaxpr', value)
      if hasattr(inner, 'eqns'):
        yield from all_equations(inner)


def equation(name):
  """The first of a primitive."""
  found = all_equations(traced(*PRIMITIVES[name]).jaxpr)
  return next(e for e in found if e.primitive.name == name)


def program():
  return traced(products, TABLE).jaxpr


def literal():
  return next(v for e in program().eqns for v in e.invars if hasattr(v, 'val'))


# {a name: what has it}.
ATTRIBUTES = {
  'aval': lambda: program().invars[0],
  'bind': lambda: equation('gather').primitive,
  'collapsed_slice_dims': lambda: numbers_of('gather'),
  'consts': lambda: traced(products, TABLE),
  'constvars': program,
  'ctx': lambda: equation('gather'),
  'eqns': program,
  'get_bind_params': lambda: equation('gather').primitive,
  'invars': program,
  'jaxpr': lambda: traced(products, TABLE),
  'manager': lambda: equation('gather').ctx,
  'multiple_results': lambda: equation('gather').primitive,
  'name': lambda: equation('gather').primitive,
  'offset_dims': lambda: numbers_of('gather'),
  'operand_batching_dims': lambda: numbers_of('gather'),
  'outvars': program,
  'params': lambda: equation('gather'),
  'primitive': lambda: equation('gather'),
  'rhs_spec': lambda: numbers_of('conv_general_dilated'),
  'start_index_map': lambda: numbers_of('gather'),
  'val': literal,
}
# {a key of an equation's parameters: the equation}.
KEYS = {
  'dimension_numbers': lambda: equation('gather'),
  'jaxpr': lambda: equation('jit'),
  'length': lambda: next(all_equations(traced(looped, TABLE).jaxpr)),
  'mode': lambda: equation('gather'),
  'name': lambda: equation('jit'),
  'slice_sizes': lambda: equation('gather'),
}
# What the readers call things by themselves.
OURS = {'conv_pool', 'lookup', 'other', 'product'}


def numbers_of(name):
  return equation(name).params['dimension_numbers']


@pytest.mark.parametrize('name', PRIMITIVES)
def test_primitives_have_their_names(name):
  assert equation(name).primitive.name == name


@pytest.mark.parametrize('name', ATTRIBUTES)
def test_attributes_are_there(name):
  assert hasattr(ATTRIBUTES[name](), name)


@pytest.mark.parametrize('name', KEYS)
def test_parameters_are_there(name):
  assert name in KEYS[name]().params


@pytest.mark.parametrize(
  'f, x',
  [*PRIMITIVES.values(), *RUN.values()],
  ids=[*PRIMITIVES, *RUN],
)
def test_a_program_that_is_run_by_its_equations_gives_the_same(f, x):
  closed = traced(f, x)

  def run(x):
    return jaxprs._evaluate(closed.jaxpr, closed.consts, [x], {}, None)

  (found,) = jax.jit(run)(x)
  np.testing.assert_allclose(found, jax.jit(f)(x), rtol=1e-6)


def tree(path):
  return ast.parse((PRODUCT / path).read_text(encoding='utf-8'))


def dotted(node):
  """``'jax.core.Jaxpr'`` of such an expression, else ``''``."""
  if isinstance(node, ast.Name):
    return node.id
  if isinstance(node, ast.Attribute) and dotted(node.value):
    return f'{dotted(node.value)}.{node.attr}'
  return ''


def names_of_jax(path):
  """All of JAX that a file imports, or reaches by dots."""
  for node in ast.walk(tree(path)):
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
      yield from (f'{node.module}.{alias.name}' for alias in node.names)
    elif isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.Attribute):
      yield dotted(node)


FILES = sorted(str(p.relative_to(PRODUCT)) for p in PRODUCT.rglob('*.py'))
# {a name of such a package: its test is below}.
TESTED = {
  'jax.extend.core',
  'jax.extend.core.Literal',
  'jax.extend.core.get_opaque_trace_state',
  'jax.extend.core.jaxprs_in_params',
  'jax.interpreters.partial_eval',
  'jax.interpreters.partial_eval.dce_jaxpr',
}
INTERNAL = ('api_util', 'core', 'extend', 'interpreters', 'lib', 'linear_util')


def test_no_file_imports_what_is_private():
  for path in FILES:
    for name in names_of_jax(path):
      package, *rest = name.split('.')
      if package in ('jax', 'jaxlib') and name not in TESTED:
        private = {x for x in rest if x.startswith('_')} | {*rest[:1]} & {
          *INTERNAL
        }
        assert not private, f'{path} uses {name}: give it a test here'


def test_literals_and_inner_programs_are_told():
  equations = list(all_equations(traced(products, TABLE).jaxpr))
  found = {
    e.primitive.name: [isinstance(v, core.Literal) for v in e.invars]
    for e in equations
  }
  assert found['add'] == [False, True] and found['exp'] == [False]
  called = equation('jit')
  (inner,) = core.jaxprs_in_params(called.params)
  assert [e.primitive.name for e in inner.eqns] == [
    e.primitive.name for e in equations
  ]
  assert not list(core.jaxprs_in_params(equation('gather').params))


def test_dead_code_is_left_out():
  def f(x):
    x @ x  # nobody reads it
    return x + 1

  jaxpr = traced(f, TABLE).jaxpr
  live, used = partial_eval.dce_jaxpr(jaxpr, [True])
  assert [e.primitive.name for e in live.eqns] == ['add'] and used == [True]
  assert len(jaxpr.eqns) == 2


def test_a_trace_is_told_from_another():
  seen = []

  def look(x):
    seen.append(core.get_opaque_trace_state())
    return x

  def f(x):
    look(look(x))
    return jax.lax.cond(x.sum() > 0, look, lambda x: x, x)

  jax.make_jaxpr(f)(TABLE)
  assert seen[0] == seen[1] != seen[2]


def asked_by_name(node):
  """The name in ``hasattr(x, 'name')`` and ``getattr(x, 'name')``."""
  if isinstance(node, ast.Call) and dotted(node.func) in ('hasattr', 'getattr'):
    return getattr(node.args[1], 'value', None)
  return None


def test_every_name_that_is_read_is_one_of_these():
  types = [type(make()) for make in ATTRIBUTES.values()]
  inside = {name for x in types for name in dir(x)} | set(ATTRIBUTES)
  plain = {name for x in (np.ndarray, dict, list, set) for name in dir(x)}
  attributes, words = set(), set()
  for path in FILES:
    nodes = list(ast.walk(tree(path)))
    read = {n.attr for n in nodes if isinstance(n, ast.Attribute)}
    reads = bool(read & {'make_jaxpr', 'eqns', 'invars', 'primitive'})
    assert reads == (path in READERS), f'{path} reads programs of JAX, or not'
    if reads:
      asked = {asked_by_name(n) for n in nodes} - {None}
      attributes |= (read | asked) & inside - plain
      words |= {
        n.value
        for n in nodes
        if isinstance(n, ast.Constant) and isinstance(n.value, str)
      } - (asked - set(KEYS))
  assert attributes == set(ATTRIBUTES)
  words = {word for word in words if word.isidentifier()}
  assert words - OURS == {*PRIMITIVES, *KEYS}, 'give a new name its test here'

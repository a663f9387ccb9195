"""Learned branching: a tree of experts, of which each reads one below it."""

from collections.abc import Sequence
import math

import jax

from mtl_jax.models.sharing import (
  concrete,
  expert_layers,
  levels as levels_lib,
  options,
)
from mtl_jax.models.sharing.architecture import Sharing

DRAWS = ('hard', 'soft')


def branching(
  *,
  levels: int = 2,
  level_widths: Sequence[int] = (),
  experts: int = 4,
  draws: str = 'hard',
  temperature: float = 1.0,
  embeddings: str = 'shared',
  expert_norm: str = 'none',
) -> Sharing:
  r"""Learned branching: which tasks part at which level is learned.

  .. math:: u_j = \sum_i d_{ji} o_i, \quad
    d_j = \mathrm{onehot}(\arg\max_i (a_{ji} + g_{ji})), \quad
    \partial d_j := \partial \, \mathrm{softmax}((a_j + g_j) / \tau)

  :math:`o_i` are the outputs of a level's experts, :math:`u_j` the input of
  expert j of the next level, or of the head of task j above the last one. The
  parent of each is drawn with probability :math:`\mathrm{softmax}(a_j)`, by
  Gumbel noise g, in training, where there is a key: once per microbatch of each
  stream, on each device of the manual modes. Evaluation takes the likeliest, so
  that it sees one tree, whose leaves are the tasks. The report shows it.
  Experts of the first level are copies of the trunk, those above are dense
  layers.

  All is shared but the connections that end in a task's head, which are its
  own.

  Args:
    levels: number of levels.
    level_widths: units of the layers of an expert above the first level; () is
      one layer, as wide as the trunk's features.
    experts: of each level.
    draws: 'hard', as above, so that each batch trains a tree; 'soft': d is
      the softmax in training.
    temperature: :math:`\tau`, at least 1e-6.
    embeddings: 'shared': the trunks' embedding tables are one set; 'own': each
      expert has its own.
    expert_norm: 'none', or 'batch' or 'layer': ``silu(norm(f_e))``.

  Raises:
    ValueError: for an option out of range.

  Example:
    >>> from mtl_jax import models
    >>> heads = {'a': models.LinearHead(1)}
    >>> model = models.build_model(
    ...   branching(levels=3), models.MLP(widths=(8,)), heads
    ... )
    >>> paths = ('connections_2/logits', 'connections/a/logits')
    >>> [model.shared(path) for path in paths]
    [True, False]

  References:
    Guo et al., Learning to branch for multi-task learning, ICML 2020. There
    draws are soft, with a temperature that falls during training, and the
    network of the resulting tree is trained anew. Hard draws with the
    gradient of soft ones are those of Jang et al., Categorical
    reparameterization with Gumbel-softmax, ICLR 2017.
  """
  options.check_option('branching', 'draws', draws, DRAWS)
  options.check_number('branching', 1e-6, math.inf, temperature=temperature)

  def opening(logits, key):
    if key is None:
      return concrete.one_of(logits, temperature)
    noise = jax.random.gumbel(key, logits.shape, logits.dtype)
    return concrete.one_of(logits + noise, temperature, soft=draws == 'soft')

  connected = levels_lib.ConnectedLevels(
    expert_layers.Experts(
      owner='branching',
      embeddings=embeddings,
      norm=expert_norm,
      level_widths=level_widths,
    ),
    levels=levels,
    number=experts,
    opening=opening,
    start=0.0,
    matrices=False,
  )
  return Sharing(connected.features, levels_lib.is_shared, inspects=True)

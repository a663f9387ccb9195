"""Rankings within groups, such as the items that one user was shown."""

from collections.abc import Mapping
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax import names as names_lib
from mtl_jax.tasks import task as task_lib
from mtl_jax.tasks.metrics import states
from mtl_jax.tasks.task import as_float

Array = jax.Array
GROUPS = {'group': '', 'top': 10}  # options of kinds of task


def key_of(name: str, info: Any, group: str) -> str:
  """The key of the batch that says to which group a row belongs, or ''.

  Args:
    name: of the task, for messages.
    info: facts of its data, with ``shapes``.
    group: the column that the config names, or ''.

  Raises:
    ValueError: if it is no column of a number per example.
  """
  if group and info.shapes.get(group) != ():
    raise ValueError(
      f'Task {name!r}: expected group to name a column of the data, found '
      f'{group!r}; {names_lib.nearest(group, info.shapes)}'
    )
  key = task_lib.group_key(group)
  return key if group and key in info.shapes else group


def in_groups(
  label: str, group: str, top: int, binary: bool
) -> dict[str, task_lib.Metric]:
  """The metrics within groups, none where there is no group.

  Raises:
    ValueError: if ``top`` is below 1.
  """
  if not group:
    return {}
  if not top >= 1:
    raise ValueError(
      f'Metrics of {label!r}: expected top >= 1, found {top}; it is K of '
      'NDCG@K.'
    )
  return {'groups': InGroups(label, group, top, binary)}


def metric_names(spec: Mapping[str, Any], binary: bool) -> tuple[str, ...]:
  """Names of metrics of a target whose options have a group."""
  if not spec.get('group'):
    return ()
  ndcg = f'ndcg_{spec.get("top", GROUPS["top"])}'
  return ('gauc', ndcg) if binary else (ndcg,)


@dataclasses.dataclass(frozen=True)
class InGroups(states.Kept):
  r"""GAUC and NDCG@K of examples that are ranked within their group.

  .. math::

    \mathrm{GAUC} = \frac{\sum_g n_g \mathrm{AUC}_g}{\sum_g n_g}, \quad
    \mathrm{NDCG@}K = \operatorname{mean}_g
      \frac{\sum_{i \le K} y_{(i)} / \log_2(i + 1)}
        {\sum_{i \le K} y^*_{(i)} / \log_2(i + 1)}

  with n the examples of a group, :math:`y_{(i)}` the label at rank i and
  :math:`y^*` the labels in their best order. Ties count by the mean over their
  orders. GAUC runs over groups with positives and negatives, NDCG over those
  with a label above 0; NaN where there is none. Labels are gains as they are,
  and must not be negative: NDCG is NaN then.

  Attributes:
    label: key of the labels ``[B]`` in the batch.
    group: key of whole numbers ``[B]``, of which those below 0 are no group.
    top: K.
    binary: whether there is a GAUC: labels above 0 are positive.

  References:
    Zhu et al., Optimized cost per click in Taobao display advertising, KDD 2017
    (GAUC, weighted by impressions). Jarvelin and Kekalainen, Cumulated
    gain-based evaluation of IR techniques, TOIS 2002.
  """

  label: str
  group: str
  top: int = 10
  binary: bool = True

  def from_batch(self, outputs: Array, batch: Any, mask: Array) -> Any:
    """Score, label and group of each example."""
    groups = batch[self.group]
    if groups.shape != mask.shape or groups.dtype.kind not in 'iub':
      raise ValueError(
        f'Metrics of {self.label!r}: expected a whole number per example in '
        f'group {self.group!r}, found {groups.dtype} of shape {groups.shape}; '
        "declare the column 'integer' or 'class'."
      )
    return {
      'scores': as_float(outputs[..., 0]),
      'labels': as_float(batch[self.label]),
      'groups': groups.astype(jnp.int32),
      'mask': (mask > 0) & (groups >= 0),
    }

  def compute(self, state: Any) -> dict[str, float]:
    """The two means."""
    rows = states.labelled_rows(state)
    scores, labels = (rows[k].astype(np.float64) for k in ('scores', 'labels'))
    names = ('gauc', f'ndcg_{self.top}')[not self.binary :]
    if not len(scores) or np.isnan(scores).any():
      return states.nans(names)
    _, groups = np.unique(rows['groups'], return_inverse=True)
    values = [_ndcg(groups, scores, labels, self.top)]
    if self.binary:
      values.insert(0, _gauc(groups, scores, labels > 0))
    return dict(zip(names, values, strict=True))


def _ties(groups, scores):
  """Number of each run of equal scores in a group; both are sorted by them."""
  new = (np.diff(groups) != 0) | (np.diff(scores) != 0)
  return np.concatenate([[0], np.cumsum(new)])


def _gauc(groups, scores, positive):
  order = np.lexsort((scores, groups))
  groups, positive = groups[order], positive[order].astype(np.float64)
  tie = _ties(groups, scores[order])
  won, size = np.bincount(tie, positive), np.bincount(tie)
  lost, of = size - won, groups[np.searchsorted(tie, np.arange(len(size)))]
  all_won, all_lost = np.bincount(of, won), np.bincount(of, lost)
  # Negatives of lower score, without those of the groups before.
  below = np.cumsum(lost) - lost - (np.cumsum(all_lost) - all_lost)[of]
  pairs, defined = all_won * all_lost, (all_won > 0) & (all_lost > 0)
  if not defined.any():
    return float('nan')
  area = np.bincount(of, won * (below + lost / 2))[defined] / pairs[defined]
  return float(np.average(area, weights=np.bincount(groups)[defined]))


def _ndcg(groups, scores, gains, top):
  if (gains < 0).any():
    return float('nan')

  def total(keys):
    """Gains of each group by descending keys, discounted; ties as means."""
    order = np.lexsort((-keys, groups))
    of, tie = groups[order], _ties(groups[order], keys[order])
    place = np.arange(len(of)) - np.searchsorted(of, of)
    discount = np.where(place < top, 1 / np.log2(place + 2), 0)
    mean = np.bincount(tie, gains[order]) / np.bincount(tie)
    return np.bincount(of, mean[tie] * discount)

  best = total(gains)
  defined = best > 0
  if not defined.any():
    return float('nan')
  return float((total(scores)[defined] / best[defined]).mean())

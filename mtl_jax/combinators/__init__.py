"""K losses or gradients -> one direction, as Optax transforms.

Usable alone, with any JAX model: this package imports jax and optax only.
A method is one file, its import here and its name in `COMBINATORS`.
"""

from collections.abc import Callable, Iterable
from typing import Any

from mtl_jax import names as names_lib
from mtl_jax.combinators.aligned_mtl import aligned_mtl, solve_aligned_mtl
from mtl_jax.combinators.base import (
  Weighting,
  combine_by,
  from_gramian,
  from_losses,
  has_weights,
  weighting_of,
)
from mtl_jax.combinators.cagrad import cagrad, solve_cagrad
from mtl_jax.combinators.chebyshev import (
  LogSTCHState,
  chebyshev,
  log_stch,
  stch,
)
from mtl_jax.combinators.db_mtl import DBMTLState, db_mtl
from mtl_jax.combinators.dwa import DWAState, dwa
from mtl_jax.combinators.equal_projections import (
  conflict_free,
  imtl_g,
  solve_conflict_free,
  solve_imtl_g,
)
from mtl_jax.combinators.every_k import EveryKState, every_k
from mtl_jax.combinators.excess_mtl import ExcessMTLState, excess_mtl
from mtl_jax.combinators.fair_gains import solve_fair
from mtl_jax.combinators.fairgrad import fairgrad
from mtl_jax.combinators.famo import FAMOState, famo
from mtl_jax.combinators.from_functions import (
  gradients_from_jacobian,
  task_gradients,
)
from mtl_jax.combinators.from_jacobian import from_jacobian
from mtl_jax.combinators.go4align import GO4AlignState, cluster_means, go4align
from mtl_jax.combinators.graddrop import graddrop, solve_graddrop
from mtl_jax.combinators.gradients import TaskGradients, path_name
from mtl_jax.combinators.gradnorm import GradNormState, gradnorm
from mtl_jax.combinators.gradvac import GradVacState, gradvac, solve_gradvac
from mtl_jax.combinators.imtl_l import IMTLLState, imtl_l
from mtl_jax.combinators.krum import krum, solve_krum
from mtl_jax.combinators.m_config import MConFIGState, m_config
from mtl_jax.combinators.metabalance import MetaBalanceState, metabalance
from mtl_jax.combinators.mgda import (
  capped_mgda,
  mgda,
  solve_capped_mgda,
  solve_mgda,
)
from mtl_jax.combinators.moco import MoCoState, moco
from mtl_jax.combinators.modo import MoDoState, modo, solve_modo
from mtl_jax.combinators.monitor import (
  Measures,
  MonitorState,
  measures_of,
  monitor,
)
from mtl_jax.combinators.nash_mtl import nash_mtl
from mtl_jax.combinators.passes import Features, Passes
from mtl_jax.combinators.pcd import PCDState, pcd, solve_pcd
from mtl_jax.combinators.pcgrad import pcgrad, solve_pcgrad
from mtl_jax.combinators.per_group import per_group
from mtl_jax.combinators.pivrg import PIVRGState, pivrg
from mtl_jax.combinators.preferences import cosmos, pbi
from mtl_jax.combinators.rlw import rlw, solve_rlw
from mtl_jax.combinators.robust import coordinate_median, trimmed_mean
from mtl_jax.combinators.scalarization import (
  from_scalarization,
  geometric_mean,
  scale_invariant,
)
from mtl_jax.combinators.sdmgrad import SDMGradState, sdmgrad, solve_sdmgrad
from mtl_jax.combinators.skip_nonfinite import (
  SkipNonfiniteState,
  skip_nonfinite,
)
from mtl_jax.combinators.smooth import SmoothState, smooth
from mtl_jax.combinators.task_transforms import (
  PerTaskMomentumState,
  clip_per_task,
  log_losses,
  per_task_momentum,
  scale_by,
)
from mtl_jax.combinators.uncertainty import uncertainty
from mtl_jax.combinators.upgrad import (
  dualproj,
  solve_dualproj,
  solve_upgrad,
  upgrad,
)
from mtl_jax.combinators.weighted_sum import weighted_sum
from mtl_jax.combinators.with_preference import with_preference


def _by_name(makes: Iterable[Any]) -> dict[str, Callable[..., Any]]:
  return {make.__name__: make for make in makes}


# The names that a config uses. Task gradients -> one direction:
COMBINATORS = _by_name(
  (
    aligned_mtl,
    cagrad,
    capped_mgda,
    chebyshev,
    conflict_free,
    coordinate_median,
    cosmos,
    db_mtl,
    dualproj,
    dwa,
    excess_mtl,
    fairgrad,
    famo,
    geometric_mean,
    go4align,
    graddrop,
    gradnorm,
    gradvac,
    imtl_g,
    imtl_l,
    krum,
    log_stch,
    m_config,
    metabalance,
    mgda,
    moco,
    modo,
    nash_mtl,
    pbi,
    pcd,
    pcgrad,
    pivrg,
    rlw,
    scale_invariant,
    sdmgrad,
    stch,
    trimmed_mean,
    uncertainty,
    upgrad,
    weighted_sum,
  )
)
# What may stand in front of a combinator, besides combinators with weights.
TASK_TRANSFORMS = _by_name((clip_per_task, log_losses, per_task_momentum))
# A combinator with weights -> another one.
WRAPPERS = _by_name((every_k, monitor, smooth, with_preference))


def __getattr__(name):
  known = [
    key
    for key, value in globals().items()
    if getattr(value, '__module__', '').startswith(__name__) and key[0] != '_'
  ]
  # A method is one object, with its weights: there is no `pcgrad_weights`.
  hint = names_lib.nearest(name.removesuffix('_weights'), known)
  raise AttributeError(f'Expected a name in {__name__}, found {name!r}; {hint}')

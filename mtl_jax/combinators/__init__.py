"""K losses or gradients -> one direction, as Optax transforms.

Usable alone, with any JAX model: this package imports jax and optax only.
"""

from mtl_jax.combinators.aligned_mtl import (
  aligned_mtl,
  aligned_mtl_weights,
  solve_aligned_mtl,
)
from mtl_jax.combinators.base import (
  Weighting,
  combine_by,
  from_gramian,
  from_jacobian,
  from_losses,
  scale_by,
)
from mtl_jax.combinators.cagrad import (
  cagrad,
  cagrad_weights,
  solve_cagrad,
)
from mtl_jax.combinators.chebyshev import (
  LogSTCHState,
  chebyshev,
  chebyshev_weights,
  log_stch,
  log_stch_weights,
  stch,
  stch_weights,
)
from mtl_jax.combinators.db_mtl import DBMTLState, db_mtl
from mtl_jax.combinators.dwa import DWAState, dwa, dwa_weights
from mtl_jax.combinators.equal_projections import (
  conflict_free,
  conflict_free_weights,
  imtl_g,
  imtl_g_weights,
  solve_conflict_free,
  solve_imtl_g,
)
from mtl_jax.combinators.every_k import EveryKState, every_k
from mtl_jax.combinators.excess_mtl import (
  ExcessMTLState,
  excess_mtl,
  excess_mtl_weights,
)
from mtl_jax.combinators.fair_gains import solve_fair
from mtl_jax.combinators.fairgrad import (
  fairgrad,
  fairgrad_weights,
)
from mtl_jax.combinators.famo import FAMOState, famo, famo_weights
from mtl_jax.combinators.go4align import (
  GO4AlignState,
  cluster_means,
  go4align,
  go4align_weights,
)
from mtl_jax.combinators.graddrop import graddrop, solve_graddrop
from mtl_jax.combinators.gradients import TaskGradients, path_name
from mtl_jax.combinators.gradnorm import (
  GradNormState,
  gradnorm,
  gradnorm_weights,
)
from mtl_jax.combinators.gradvac import (
  GradVacState,
  gradvac,
  gradvac_weights,
  solve_gradvac,
)
from mtl_jax.combinators.imtl_l import IMTLLState, imtl_l, imtl_l_weights
from mtl_jax.combinators.krum import (
  krum,
  krum_weights,
  solve_krum,
)
from mtl_jax.combinators.m_config import MConFIGState, m_config
from mtl_jax.combinators.metabalance import (
  MetaBalanceState,
  metabalance,
  metabalance_weights,
)
from mtl_jax.combinators.mgda import (
  capped_mgda,
  capped_mgda_weights,
  mgda,
  mgda_weights,
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
from mtl_jax.combinators.nash_mtl import nash_mtl, nash_mtl_weights
from mtl_jax.combinators.passes import Features, Passes
from mtl_jax.combinators.pcd import (
  PCDState,
  pcd,
  pcd_weights,
  solve_pcd,
)
from mtl_jax.combinators.pcgrad import pcgrad, pcgrad_weights, solve_pcgrad
from mtl_jax.combinators.per_group import per_group
from mtl_jax.combinators.pivrg import (
  PIVRGState,
  pivrg,
  pivrg_weights,
)
from mtl_jax.combinators.preferences import (
  cosmos,
  cosmos_weights,
  pbi,
  pbi_weights,
)
from mtl_jax.combinators.rlw import rlw, rlw_weights, solve_rlw
from mtl_jax.combinators.robust import coordinate_median, trimmed_mean
from mtl_jax.combinators.scalarization import (
  from_scalarization,
  geometric_mean,
  geometric_mean_weights,
  scale_invariant,
  scale_invariant_weights,
)
from mtl_jax.combinators.sdmgrad import (
  SDMGradState,
  sdmgrad,
  solve_sdmgrad,
)
from mtl_jax.combinators.skip_nonfinite import (
  SkipNonfiniteState,
  skip_nonfinite,
)
from mtl_jax.combinators.smooth import SmoothState, smooth
from mtl_jax.combinators.sources import (
  gradients_from_jacobian,
  task_gradients,
)
from mtl_jax.combinators.table import (
  COMBINATORS,
  TASK_TRANSFORMS,
  WEIGHTINGS,
  WRAPPERS,
)
from mtl_jax.combinators.task_transforms import (
  PerTaskMomentumState,
  clip_per_task,
  log_losses,
  per_task_momentum,
)
from mtl_jax.combinators.uncertainty import uncertainty, uncertainty_weights
from mtl_jax.combinators.upgrad import (
  dualproj,
  dualproj_weights,
  solve_dualproj,
  solve_upgrad,
  upgrad,
  upgrad_weights,
)
from mtl_jax.combinators.weighted_sum import weighted_sum, weighted_sum_weights
from mtl_jax.combinators.with_preference import with_preference

"""The tables of methods, by the names that a config uses."""

from mtl_jax.combinators.aligned_mtl import aligned_mtl, aligned_mtl_weights
from mtl_jax.combinators.cagrad import cagrad, cagrad_weights
from mtl_jax.combinators.chebyshev import (
  chebyshev,
  chebyshev_weights,
  log_stch,
  log_stch_weights,
  stch,
  stch_weights,
)
from mtl_jax.combinators.db_mtl import db_mtl
from mtl_jax.combinators.dwa import dwa, dwa_weights
from mtl_jax.combinators.equal_projections import (
  conflict_free,
  conflict_free_weights,
  imtl_g,
  imtl_g_weights,
)
from mtl_jax.combinators.every_k import every_k
from mtl_jax.combinators.excess_mtl import excess_mtl, excess_mtl_weights
from mtl_jax.combinators.fairgrad import fairgrad, fairgrad_weights
from mtl_jax.combinators.famo import famo, famo_weights
from mtl_jax.combinators.go4align import go4align, go4align_weights
from mtl_jax.combinators.graddrop import graddrop
from mtl_jax.combinators.gradnorm import gradnorm, gradnorm_weights
from mtl_jax.combinators.gradvac import gradvac, gradvac_weights
from mtl_jax.combinators.imtl_l import imtl_l, imtl_l_weights
from mtl_jax.combinators.krum import krum, krum_weights
from mtl_jax.combinators.m_config import m_config
from mtl_jax.combinators.metabalance import metabalance, metabalance_weights
from mtl_jax.combinators.mgda import (
  capped_mgda,
  capped_mgda_weights,
  mgda,
  mgda_weights,
)
from mtl_jax.combinators.moco import moco
from mtl_jax.combinators.modo import modo
from mtl_jax.combinators.monitor import monitor
from mtl_jax.combinators.nash_mtl import nash_mtl, nash_mtl_weights
from mtl_jax.combinators.pcd import pcd, pcd_weights
from mtl_jax.combinators.pcgrad import pcgrad, pcgrad_weights
from mtl_jax.combinators.pivrg import pivrg, pivrg_weights
from mtl_jax.combinators.preferences import (
  cosmos,
  cosmos_weights,
  pbi,
  pbi_weights,
)
from mtl_jax.combinators.rlw import rlw, rlw_weights
from mtl_jax.combinators.robust import coordinate_median, trimmed_mean
from mtl_jax.combinators.scalarization import (
  geometric_mean,
  geometric_mean_weights,
  scale_invariant,
  scale_invariant_weights,
)
from mtl_jax.combinators.sdmgrad import sdmgrad
from mtl_jax.combinators.smooth import smooth
from mtl_jax.combinators.task_transforms import (
  clip_per_task,
  log_losses,
  per_task_momentum,
)
from mtl_jax.combinators.uncertainty import uncertainty, uncertainty_weights
from mtl_jax.combinators.upgrad import (
  dualproj,
  dualproj_weights,
  upgrad,
  upgrad_weights,
)
from mtl_jax.combinators.weighted_sum import weighted_sum, weighted_sum_weights
from mtl_jax.combinators.with_preference import with_preference

# Task gradients -> one direction.
COMBINATORS = {
  'aligned_mtl': aligned_mtl,
  'cagrad': cagrad,
  'capped_mgda': capped_mgda,
  'chebyshev': chebyshev,
  'conflict_free': conflict_free,
  'coordinate_median': coordinate_median,
  'cosmos': cosmos,
  'db_mtl': db_mtl,
  'dualproj': dualproj,
  'dwa': dwa,
  'excess_mtl': excess_mtl,
  'fairgrad': fairgrad,
  'famo': famo,
  'geometric_mean': geometric_mean,
  'go4align': go4align,
  'graddrop': graddrop,
  'gradnorm': gradnorm,
  'gradvac': gradvac,
  'imtl_g': imtl_g,
  'imtl_l': imtl_l,
  'krum': krum,
  'log_stch': log_stch,
  'm_config': m_config,
  'metabalance': metabalance,
  'mgda': mgda,
  'moco': moco,
  'modo': modo,
  'nash_mtl': nash_mtl,
  'pbi': pbi,
  'pcd': pcd,
  'pcgrad': pcgrad,
  'pivrg': pivrg,
  'rlw': rlw,
  'scale_invariant': scale_invariant,
  'sdmgrad': sdmgrad,
  'stch': stch,
  'trimmed_mean': trimmed_mean,
  'uncertainty': uncertainty,
  'upgrad': upgrad,
  'weighted_sum': weighted_sum,
}

# Those that are a `Weighting`: they can be wrapped, or stand in front.
WEIGHTINGS = {
  'aligned_mtl': aligned_mtl_weights,
  'cagrad': cagrad_weights,
  'capped_mgda': capped_mgda_weights,
  'chebyshev': chebyshev_weights,
  'conflict_free': conflict_free_weights,
  'cosmos': cosmos_weights,
  'dualproj': dualproj_weights,
  'dwa': dwa_weights,
  'excess_mtl': excess_mtl_weights,
  'fairgrad': fairgrad_weights,
  'famo': famo_weights,
  'geometric_mean': geometric_mean_weights,
  'go4align': go4align_weights,
  'gradnorm': gradnorm_weights,
  'gradvac': gradvac_weights,
  'imtl_g': imtl_g_weights,
  'imtl_l': imtl_l_weights,
  'krum': krum_weights,
  'log_stch': log_stch_weights,
  'metabalance': metabalance_weights,
  'mgda': mgda_weights,
  'nash_mtl': nash_mtl_weights,
  'pbi': pbi_weights,
  'pcd': pcd_weights,
  'pcgrad': pcgrad_weights,
  'pivrg': pivrg_weights,
  'rlw': rlw_weights,
  'scale_invariant': scale_invariant_weights,
  'stch': stch_weights,
  'uncertainty': uncertainty_weights,
  'upgrad': upgrad_weights,
  'weighted_sum': weighted_sum_weights,
}

# What may stand in front of a combinator, besides weightings.
TASK_TRANSFORMS = {
  'clip_per_task': clip_per_task,
  'log_losses': log_losses,
  'per_task_momentum': per_task_momentum,
}

# Weighting -> Weighting.
WRAPPERS = {
  'every_k': every_k,
  'monitor': monitor,
  'smooth': smooth,
  'with_preference': with_preference,
}

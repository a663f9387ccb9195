"""K losses or gradients -> one direction, as Optax transforms.

Usable alone, with any JAX model: this package imports jax and optax only.
"""

from mtl_jax.combinators.base import (
    Weighting,
    combine_by,
    from_gramian,
    from_jacobian,
    from_losses,
    scale_by,
)
from mtl_jax.combinators.gradients import (
    TaskGradients,
    gradients_from_jacobian,
    path_name,
    task_gradients,
)
from mtl_jax.combinators.pcgrad import pcgrad, pcgrad_weights, solve_pcgrad
from mtl_jax.combinators.uncertainty import uncertainty, uncertainty_weights
from mtl_jax.combinators.weighted_sum import weighted_sum, weighted_sum_weights

"""The table of combinators, by the names that a config uses."""

from mtl_jax.combinators.pcgrad import pcgrad
from mtl_jax.combinators.uncertainty import uncertainty
from mtl_jax.combinators.weighted_sum import weighted_sum

COMBINATORS = {
  'pcgrad': pcgrad,
  'uncertainty': uncertainty,
  'weighted_sum': weighted_sum,
}

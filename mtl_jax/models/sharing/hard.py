"""Hard parameter sharing: one trunk for all tasks, a head for each."""

from mtl_jax.models.sharing.architecture import Sharing


def hard_sharing() -> Sharing:
  """One trunk for every stream and task, and a head for each task.

  The trunk is shared.

  Returns:
    The architecture; its features are one array for all tasks.

  Example:
    >>> from mtl_jax import models
    >>> heads = {'like': models.LinearHead(1), 'stars': models.LinearHead(5)}
    >>> model = models.build_model(hard_sharing(), models.MLP((8,)), heads)
    >>> model.shared('trunk/Dense_0/kernel'), model.shared('heads/like/bias')
    (True, False)

  References:
    Caruana, Multitask learning, Machine Learning 1997.
  """

  def features(scope, batch, tasks):
    del tasks
    return scope.call(('trunk',), scope.trunk, batch)

  return Sharing(features, shared=('trunk',), per_task=False)

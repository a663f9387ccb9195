"""What transformers and timm make of small random models, for the tests.

In an environment with torch, transformers and timm:

python benchmarks/reference_encoders.py

writes tests/data/reference_encoders.npz, and tests/data/strides*.pth: a state
dictionary with a transposed array, in both formats of PyTorch.
"""

import pathlib
import sys

import numpy as np
import timm
import torch
import transformers

TESTS = pathlib.Path(__file__).parents[1] / 'tests'
sys.path.insert(0, str(TESTS / 'encoders'))
# Of the tests, which have the folder on their path.
import reference_models as models  # noqa: E402

MODELS = {
  'bert': (transformers.BertConfig, transformers.BertModel),
  'roberta': (transformers.RobertaConfig, transformers.RobertaModel),
  'distilbert': (transformers.DistilBertConfig, transformers.DistilBertModel),
}


def main() -> None:
  """Writes the files."""
  out = {}
  for family, settings in models.FAMILIES.items():
    config, model = MODELS[family]
    settings = {k: v for k, v in settings.items() if k != 'model_type'}
    made = fill(model(config(**settings)))
    ids, mask = torch.tensor(models.IDS), torch.tensor(models.MASK)
    if family == 'roberta':  # its padding is token 1
      ids = torch.where(mask > 0, ids, 1)
    with torch.no_grad():
      states = made(input_ids=ids, attention_mask=mask).last_hidden_state
    out[f'{family}_states'] = states.numpy()
    out[f'{family}_names'] = np.array(sorted(made.state_dict()))
    out[f'{family}_shapes'] = np.array(
      [
        str(tuple(made.state_dict()[n].shape))
        for n in sorted(made.state_dict())
      ]
    )
  out.update(efficientnet())
  np.savez_compressed(TESTS / 'data' / 'reference_encoders.npz', **out)
  strides()


def fill(model, rename=lambda name: name):
  """The model with drawn weights, in evaluation."""
  state = {
    name: torch.tensor(models.draw(rename(name), tuple(x.shape)))
    for name, x in model.state_dict().items()
    if x.is_floating_point()
  }
  model.load_state_dict(state, strict=False)
  return model.eval()


def efficientnet():
  """Features and logits of timm's tf_efficientnet_lite0."""
  model = timm.create_model('tf_efficientnet_lite0', pretrained=False)
  number = {}
  for stage, blocks in enumerate(model.blocks):
    for i in range(len(blocks)):
      number[f'blocks.{stage}.{i}.'] = f'_blocks.{len(number)}.'

  def rename(name):
    """As the file of weights calls it."""
    for ours, theirs in number.items():
      if name.startswith(ours):
        first = ours == 'blocks.0.0.'  # without an expansion
        parts = {
          'conv_dw': '_depthwise_conv',
          'conv_pw': '_project_conv' if first else '_expand_conv',
          'conv_pwl': '_project_conv',
          'bn1': '_bn1' if first else '_bn0',
          'bn2': '_bn2' if first else '_bn1',
          'bn3': '_bn2',
        }
        part, leaf = name.removeprefix(ours).split('.')
        return f'{theirs}{parts[part]}.{leaf}'
    top = {
      'conv_stem': '_conv_stem',
      'bn1': '_bn0',
      'conv_head': '_conv_head',
      'bn2': '_bn1',
      'classifier': '_fc',
    }
    part, leaf = name.split('.')
    return f'{top[part]}.{leaf}'

  fill(model, rename)
  pictures = torch.tensor(models.pictures().transpose(0, 3, 1, 2))
  with torch.no_grad():
    features = model.forward_head(
      model.forward_features(pictures), pre_logits=True
    )
    logits = model(pictures)
  names = sorted(
    (rename(name), str(tuple(x.shape)))
    for name, x in model.state_dict().items()
    if x.is_floating_point()
  )
  return {
    'lite0_features': features.numpy(),
    'lite0_logits': logits.numpy(),
    'lite0_names': np.array([name for name, _ in names]),
    'lite0_shapes': np.array([shape for _, shape in names]),
  }


def strides():
  """A state dictionary whose arrays share, skip and transpose numbers."""
  base = torch.arange(12, dtype=torch.float32).reshape(3, 4)
  state = {
    'plain': base,
    'transposed': base.T,
    'part': base[1:, 1:3],
    'count': torch.tensor(7),
  }
  folder = TESTS / 'data'
  for name, is_zip in (('strides', True), ('strides_legacy', False)):
    torch.save(
      state, folder / f'{name}.pth', _use_new_zipfile_serialization=is_zip
    )


if __name__ == '__main__':
  main()

"""Encoders read files of other libraries, and compute what these compute."""

import ast
import json
import pathlib
import pickle
import zipfile

import jax
import numpy as np
from PIL import Image
import pytest
import reference_models as models
import safetensors.numpy

from mtl_jax import encoders
from mtl_jax.encoders import bert, efficientnet, pictures, text, weights

DATA = pathlib.Path(__file__).parents[1] / 'data'
REFERENCE = np.load(DATA / 'reference_encoders.npz')


def arrays_of(name):
  shapes = map(ast.literal_eval, REFERENCE[f'{name}_shapes'].tolist())
  return {
    key: models.draw(key, shape)
    for key, shape in zip(
      REFERENCE[f'{name}_names'].tolist(), shapes, strict=True
    )
    if 'position_ids' not in key
  }


def write_model(folder, family='bert', prefix='', **changes):
  config = models.FAMILIES[family] | changes
  (folder / 'config.json').write_text(json.dumps(config))
  arrays = {prefix + k: x for k, x in arrays_of(family).items()}
  safetensors.numpy.save_file(arrays, folder / 'model.safetensors')
  (folder / 'vocab.txt').write_text('\n'.join(models.WORDS))
  return folder


@pytest.mark.parametrize('family', models.FAMILIES)
def test_the_bert_family_equals_transformers(family, tmp_path):
  prefix = '' if family == 'bert' else f'{family}.'
  folder = write_model(tmp_path, family, prefix)
  shape = bert.read_shape(folder)
  params = bert.read_params(weights.read_safetensors(folder), shape)
  # What stands behind the text makes no difference.
  ids = np.where(models.MASK > 0, models.IDS, 9)
  with jax.default_matmul_precision('highest'):
    states = bert.Bert(shape).apply({'params': params}, ids, models.MASK)
  seen = models.MASK.astype(bool)
  np.testing.assert_allclose(
    np.asarray(states)[seen], REFERENCE[f'{family}_states'][seen], atol=1e-4
  )


def test_efficientnet_equals_timm():
  """With odd and even sizes, whose padding differs."""
  variables = efficientnet.read_variables(arrays_of('lite0'))
  model = efficientnet.EfficientNetLite()
  features, logits = jax.jit(model.apply)(variables, models.pictures())
  for found, name in ((features, 'features'), (logits, 'logits')):
    wanted = REFERENCE[f'lite0_{name}']
    assert wanted.std() > 0.05  # of pictures that differ
    np.testing.assert_allclose(found, wanted, atol=1e-4, rtol=1e-4)
  wanted = jax.eval_shape(model.init, jax.random.key(0), models.pictures())
  shapes = jax.tree.map(lambda x: x.shape, variables)
  assert shapes == jax.tree.map(lambda x: x.shape, wanted)


def test_texts_become_means_over_their_tokens(tmp_path):
  folder = write_model(tmp_path)
  encoder = encoders.TextEncoder(folder)
  vectors = encoder.encode(models.TEXTS)
  assert vectors.shape == (3, 24)
  assert encoder.pooling == 'mean' and encoder.max_length == 16
  shape = bert.read_shape(folder)
  params = bert.read_params(weights.read_safetensors(folder), shape)
  words = ('[CLS]', 'a', 'man', 'eat', '##s', '[SEP]')  # of the first one
  ids = np.array([[models.WORDS.index(word) for word in words]])
  states = bert.Bert(shape).apply({'params': params}, ids, np.ones((1, 6)))[0]
  np.testing.assert_allclose(vectors[0], states.mean(0), atol=1e-5)
  # A text has the same vector in any company, case aside.
  np.testing.assert_allclose(
    encoder.encode(['A MAN eats'])[0], vectors[0], atol=1e-5
  )
  first = encoders.TextEncoder(folder, pooling='cls')
  np.testing.assert_allclose(
    first.encode([models.TEXTS[0]])[0], states[0], atol=1e-5
  )
  most = encoders.TextEncoder(folder, pooling='max')
  np.testing.assert_allclose(
    most.encode([models.TEXTS[0]])[0], states.max(0), atol=1e-5
  )
  short = encoders.TextEncoder(folder, max_length=4)
  np.testing.assert_allclose(
    short.encode(['a man eats'])[0], short.encode(['a man'])[0], atol=1e-5
  )
  assert short.count_cut(['a man eats', 'a man', '']) == 1
  assert not encoder.count_cut(models.TEXTS)
  prints = [encoder.fingerprint, first.fingerprint, short.fingerprint]
  assert len(set(prints)) == 3
  assert encoders.TextEncoder(folder).fingerprint == prints[0]


def test_a_folder_says_how_it_pools_and_reads_its_tokenizer(tmp_path):
  folder = write_model(tmp_path)
  (folder / '1_Pooling').mkdir()
  (folder / '1_Pooling' / 'config.json').write_text(
    '{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}'
  )
  (folder / 'sentence_bert_config.json').write_text('{"max_seq_length": 8}')
  encoder = encoders.TextEncoder(folder)
  assert (encoder.pooling, encoder.max_length) == ('cls', 8)
  # One that pads each text, as those of sentence-transformers do.
  made = text._tokenizer(folder)
  made.enable_padding(length=12)
  made.save(str(folder / 'tokenizer.json'))
  whole = encoders.TextEncoder(folder)
  np.testing.assert_allclose(
    whole.encode(models.TEXTS), encoder.encode(models.TEXTS), atol=1e-6
  )


@pytest.mark.parametrize(
  'name, content, message',
  [
    ('1_Pooling/config.json', '{"pooling_mode_lasttoken": true}', 'lasttoken'),
    (
      '1_Pooling/config.json',
      '{"pooling_mode_cls_token": true, "pooling_mode_max_tokens": true}',
      'found cls_token, max_tokens; set pooling to one of mean, cls, max',
    ),
    ('modules.json', '[{"type": "st.models.Dense"}]', 'found Dense; set'),
  ],
)
def test_what_stands_behind_the_encoder_and_is_not_read_is_said(
  name, content, message, tmp_path
):
  folder = write_model(tmp_path)
  (folder / '1_Pooling').mkdir()
  (folder / name).write_text(content)
  with pytest.raises(ValueError, match=message):
    encoders.TextEncoder(folder)
  assert encoders.TextEncoder(folder, pooling='mean').pooling == 'mean'


def test_batches_are_no_longer_than_the_table_of_positions():
  ids, mask = text._pad([[7] * 17, [7]], 3, 20)
  assert ids.shape == mask.shape == (3, 20)
  assert mask.sum(1).tolist() == [17, 1, 0]
  assert text._pad([[7] * 17], 1, 64)[0].shape == (1, 32)


@pytest.mark.parametrize(
  'change, message',
  [
    ({'model_type': 't5'}, "Expected a model of bert, .* found 't5'; use one"),
    ({'position_embedding_type': 'relative_key'}, 'absolute positions, found'),
    ({'hidden_act': 'mish'}, "Expected an activation of gelu, .* found 'mish'"),
    ({'vocab_size': 99}, r'Expected tokens/embedding of shape \(99, 24\)'),
    ({'num_hidden_layers': 3}, "Expected an array 'encoder.layer.2.attention"),
  ],
)
def test_other_models_are_refused(change, message, tmp_path):
  folder = write_model(tmp_path, **change)
  with pytest.raises(ValueError, match=message):
    encoders.TextEncoder(folder).encode(['a'])


def test_missing_files_are_named(tmp_path):
  with pytest.raises(FileNotFoundError, match='Expected config.json in'):
    encoders.TextEncoder(tmp_path)
  write_model(tmp_path)
  (tmp_path / 'model.safetensors').rename(tmp_path / 'pytorch_model.bin')
  message = 'Expected weights model.safetensors in .* besides pytorch_model.bin'
  with pytest.raises(FileNotFoundError, match=message):
    encoders.TextEncoder(tmp_path).encode(['a'])
  (tmp_path / 'model.safetensors').write_bytes(b'no such format')
  with pytest.raises(ValueError, match='Expected a file of safetensors at'):
    encoders.TextEncoder(tmp_path).encode(['a'])
  (tmp_path / 'vocab.txt').unlink()
  message = 'Expected tokenizer.json or vocab.txt'
  with pytest.raises(FileNotFoundError, match=message):
    encoders.TextEncoder(tmp_path)
  with pytest.raises(ValueError, match="found 'sum'; name one of these"):
    encoders.TextEncoder(tmp_path, pooling='sum')


def test_a_package_that_lacks_is_named():
  with pytest.raises(ImportError) as error:
    weights.need('no_such_module', 'pillow', 'pictures')
  assert str(error.value) == (
    'Expected the package pillow for pictures, found none; run '
    "pip install 'mtl_jax[rec]'."
  )


@pytest.mark.parametrize('name', ['strides', 'strides_legacy'])
def test_files_of_pytorch_are_read_with_their_strides(name):
  found = weights.read_torch(DATA / f'{name}.pth')
  base = np.arange(12, dtype=np.float32).reshape(3, 4)
  wanted = {'plain': base, 'transposed': base.T, 'part': base[1:, 1:3]}
  assert set(found) == {*wanted, 'count'} and found['count'] == 7
  for key, x in wanted.items():
    np.testing.assert_array_equal(found[key], x)


class Evil:
  def __reduce__(self):
    return print, ('this code ran',)


def test_a_file_of_pytorch_runs_no_code(tmp_path, capsys):
  path = tmp_path / 'evil.pth'
  path.write_bytes(
    b''.join(map(pickle.dumps, (weights.MAGIC, 1001, {'little_endian': True})))
    + pickle.dumps({'x': Evil()})
  )
  with pytest.raises(ValueError, match='holds arrays only, found builtins'):
    weights.read_torch(path)
  assert not capsys.readouterr().out
  path.write_bytes(b'nothing like it')
  with pytest.raises(
    ValueError, match='Expected a state dictionary of PyTorch'
  ):
    weights.read_torch(path)
  content = (DATA / 'strides_legacy.pth').read_bytes()
  path.write_bytes(content[:-30])
  with pytest.raises(ValueError, match='EOFError: 12 numbers are not'):
    weights.read_torch(path)
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('word/document.xml', '')
  with pytest.raises(ValueError, match='UnpicklingError: 0 files data.pkl'):
    weights.read_torch(path)


def test_pictures_are_read_whole_or_cropped_on_white(tmp_path, monkeypatch):
  # Black, but transparent on the right; twice as wide as high.
  rgba = np.zeros((16, 32, 4), np.uint8)
  rgba[:, :16, 3] = 255
  path = tmp_path / 'half.webp'
  Image.fromarray(rgba).save(path, lossless=True)
  whole = pictures.read_picture(path, 32)
  assert whole.shape == (32, 32, 3)
  assert whole[4].min() == 255  # above it
  assert whole[16, 4].max() == 0 and whole[16, 28].min() == 255
  crop = pictures.read_picture(path.read_bytes(), 32, 'crop')
  assert crop[0, 2].max() == 0 and crop[0, 29].min() == 255
  np.testing.assert_array_equal(
    pictures.normalize(np.array([0, 127, 255], np.uint8)), [-127 / 128, 0, 1]
  )
  with pytest.raises(ValueError, match='Expected a picture that Pillow reads'):
    pictures.read_picture(b'no picture', 32)
  # A photograph that is stored on its side, as its camera was held.
  exif = Image.Exif()
  exif[0x0112] = 6  # the first row is on the right
  upper = np.zeros((32, 32, 3), np.uint8)
  upper[:16] = 255
  Image.fromarray(upper).save(tmp_path / 'side.png', exif=exif)
  right = pictures.read_picture(tmp_path / 'side.png', 32)
  assert right[:, 20:].min() == 255 and right[:, :12].max() == 0
  monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 100)
  with pytest.raises(ValueError, match='decompression bomb.*leave its cell'):
    pictures.read_picture(tmp_path / 'side.png', 32)
  with pytest.raises(ValueError, match="one of whole, crop, found 'tight'"):
    encoders.PictureEncoder('x.pth', fit='tight')

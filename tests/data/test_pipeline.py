"""Batches: shuffled, sharded, resumable; evaluation sees each example once."""

import grain
import numpy as np
import pytest

from mtl_jax.data import own_data, pipeline, sampling, train_batches

pytestmark = pytest.mark.smoke


def source(n, name='x'):
  return own_data.from_arrays({name: np.arange(n), 'f': np.arange(n) / 2})


def two_streams():
  return {
    'a': pipeline.Stream(source(50), 4),
    'b': pipeline.Stream(source(9), 2),
  }


def rows(dataset, steps, stream='a'):
  return [dataset[i][stream]['x'].tolist() for i in steps]


def test_an_epoch_sees_each_example_at_most_once_and_epochs_differ():
  streams = {'a': pipeline.Stream(source(50), 4)}
  dataset = train_batches.train_dataset(streams, seed=3)
  assert pipeline.steps_per_epoch(streams) == 12
  epochs = [
    np.concatenate(rows(dataset, range(12 * e, 12 * e + 12))) for e in range(3)
  ]
  for epoch in epochs:
    assert len(set(epoch)) == 48
    assert set(epoch) <= set(range(50))
  assert not np.array_equal(epochs[0], epochs[1])
  # What is left out differs, so every example is seen in time.
  assert set(np.concatenate(epochs)) == set(range(50))


def test_batches_are_numpy_int32_and_float32_with_a_mask():
  batch = train_batches.train_dataset(two_streams(), seed=0)[0]
  assert batch.keys() == {'a', 'b'}
  assert {k: v.dtype.name for k, v in batch['a'].items()} == {
    'x': 'int32', 'f': 'float32', 'example_mask': 'float32',
  }  # fmt: skip
  assert batch['a']['example_mask'].tolist() == [1, 1, 1, 1]
  np.testing.assert_array_equal(batch['a']['f'], batch['a']['x'] / 2)
  assert isinstance(batch['a']['x'], np.ndarray)


def test_the_seed_decides_and_streams_are_independent():
  one = train_batches.train_dataset(two_streams(), seed=1)
  same = train_batches.train_dataset(two_streams(), seed=1)
  other = train_batches.train_dataset(two_streams(), seed=2)
  assert rows(one, range(20)) == rows(same, range(20))
  assert rows(one, range(20)) != rows(other, range(20))
  alone = train_batches.train_dataset({'a': two_streams()['a']}, seed=1)
  assert rows(alone, range(20)) == rows(one, range(20))


@pytest.mark.parametrize('draw', [None, sampling.Draw(2.0)])
@pytest.mark.parametrize('count', [2, 4])
def test_the_union_over_processes_is_the_global_batch(count, draw):
  streams = {
    'a': pipeline.Stream(source(50), 8),
    'b': pipeline.Stream(source(9), 4),
  }
  whole = train_batches.train_dataset(streams, seed=0, draw=draw)
  parts = [
    train_batches.train_dataset(
      streams, seed=0, draw=draw, process_index=i, process_count=count
    )
    for i in range(count)
  ]
  for step in range(15):
    for stream in streams:
      joined = [part[step][stream] for part in parts]
      for key, expected in whole[step][stream].items():
        if stream == 'a' and whole[step][stream]['example_mask'][0]:
          found = np.concatenate([batch[key] for batch in joined])
          np.testing.assert_array_equal(found, expected)
        assert all(len(b[key]) == len(expected) // count for b in joined)


@pytest.mark.parametrize('draw', [None, sampling.Draw()])
@pytest.mark.parametrize('threads', [0, 1])
def test_an_iterator_resumes_from_any_step(draw, threads):
  dataset = train_batches.train_dataset(two_streams(), seed=0, draw=draw)[:25]
  options = grain.ReadOptions(
    num_threads=threads, prefetch_buffer_size=2 * threads
  )
  grain.experimental.assert_equal_output_after_checkpoint(
    dataset.to_iter_dataset(options)
  )


@pytest.mark.parametrize('prefetch', [0, 2])
def test_a_new_iterator_with_the_saved_state_goes_on_alike(prefetch):
  def start(seed=0):
    return train_batches.train_iterator(
      two_streams(), seed=seed, prefetch=prefetch
    )

  iterator = start()
  for _ in range(17):
    next(iterator)
  state = iterator.get_state()
  expected = [next(iterator) for _ in range(30)]
  resumed = start()
  resumed.set_state(state)
  for batch in expected:
    np.testing.assert_equal(next(resumed), batch)


def test_drawn_streams_advance_alone_and_keep_their_shapes():
  streams = two_streams()
  draw = sampling.uniform()
  dataset = train_batches.train_dataset(streams, seed=0, draw=draw)
  steps = pipeline.steps_per_epoch(streams, draw)
  assert steps == 12 + 4
  alone = {
    name: train_batches.train_dataset({name: stream}, seed=0)
    for name, stream in streams.items()
  }
  position = dict.fromkeys(streams, 0)
  for step in range(3 * steps):
    batch = dataset[step]
    masks = {name: part['example_mask'] for name, part in batch.items()}
    assert {n: m.shape for n, m in masks.items()} == {'a': (4,), 'b': (2,)}
    drawn = [name for name, mask in masks.items() if mask.all()]
    assert len(drawn) == 1
    assert sum(mask.sum() for mask in masks.values()) == len(masks[drawn[0]])
    # A stream goes through its own batches, in its own order, without a gap.
    expected = alone[drawn[0]][position[drawn[0]]][drawn[0]]
    np.testing.assert_equal(batch[drawn[0]], expected)
    position[drawn[0]] += 1
  assert position == {'a': 3 * 8, 'b': 3 * 8}


def test_each_epoch_is_shuffled_once(monkeypatch):
  shuffle, epochs = pipeline._Order._permutation, []

  def counted(order, epoch):
    epochs.append((order._count, epoch))
    return shuffle(order, epoch)

  monkeypatch.setattr(pipeline._Order, '_permutation', counted)
  dataset = train_batches.train_dataset(
    two_streams() | {'c': pipeline.Stream(source(20), 5)}, seed=0
  )
  for step in range(12):
    dataset[step]
  expected = [
    (50, 0),
    *((9, e) for e in range(3)),
    *((20, e) for e in range(3)),
  ]
  assert sorted(epochs) == sorted(expected)


def test_a_position_survives_grains_checkpoint(tmp_path):
  start = lambda: train_batches.train_iterator(two_streams(), seed=0)
  handler = grain.checkpoint.CheckpointHandler()
  iterator = start()
  for _ in range(7):
    next(iterator)
  handler.save(tmp_path, iterator)
  expected = [next(iterator) for _ in range(5)]
  resumed = handler.restore(tmp_path, start())
  for batch in expected:
    np.testing.assert_equal(next(resumed), batch)


def test_without_drawing_the_longest_stream_makes_the_epoch():
  assert pipeline.steps_per_epoch(two_streams()) == 12
  dataset = train_batches.train_dataset(two_streams(), seed=0)
  seen = np.concatenate(rows(dataset, range(12), 'b'))
  # The short stream starts anew every 4 steps.
  for epoch in range(3):
    assert len(set(seen[8 * epoch : 8 * epoch + 8])) == 8


@pytest.mark.parametrize('n, size', [(10, 4), (8, 4), (3, 4), (1, 1)])
@pytest.mark.parametrize('count', [1, 2])
def test_evaluation_sees_each_example_exactly_once(n, size, count):
  if size % count:
    return
  seen, lengths = [], set()
  for index in range(count):
    batches = pipeline.EvaluationBatches(source(n), size, index, count)
    lengths.add(len(batches))
    assert len(list(batches)) == len(batches)
    for batch in batches:
      assert len(batch['x']) == size // count
      real = batch['example_mask'] == 1
      assert (batch['example_mask'][~real] == 0).all()
      seen += batch['x'][real].tolist()
  assert sorted(seen) == list(range(n))
  assert len(lengths) == 1


@pytest.mark.parametrize(
  'size, count, message',
  [
    (51, 1, "'a': expected a batch size from 1 to 50, .* found 51"),
    (0, 1, 'from 1 to 50, .* found 0; change batch_size'),
    (4, 3, 'divisible by the 3 processes, found 4'),
  ],
)
def test_bad_batch_sizes(size, count, message):
  streams = {'a': pipeline.Stream(source(50), size)}
  with pytest.raises(ValueError, match=message):
    train_batches.train_dataset(streams, seed=0, process_count=count)


def test_bad_evaluation_batch_size():
  with pytest.raises(ValueError, match='by the 2 processes, found 5'):
    pipeline.EvaluationBatches(source(9), 5, 0, 2)


@pytest.mark.parametrize('draw', [None, sampling.uniform()])
def test_rows_are_those_of_the_batches(draw):
  streams = two_streams()
  order = pipeline.train_rows(streams, seed=3, draw=draw)
  batches = train_batches.train_dataset(streams, seed=3, draw=draw)
  for start, number in ((0, 1), (1, 30), (5, 2), (11, 1)):  # over epochs, too
    for name, (rows, drawn) in order(start, number).items():
      assert rows.shape == (number, streams[name].batch_size)
      assert drawn.all() or draw
      for i in range(number):
        batch = batches[start + i][name]
        assert (batch['example_mask'] == drawn[i]).all()
        expected = streams[name].source.take(rows[i])
        for key, value in expected.items():
          np.testing.assert_array_equal(batch[key], value)

"""Protocols against loops over events: targets, histories, what is learnt."""

import numpy as np
import pytest

from mtl_jax.recommendation import interactions, protocols, ranking


def random_log(n=400, users=11, items=30, times=60, seed=0, **settings):
  rng = np.random.default_rng(seed)
  return interactions.make(
    rng.integers(0, users, n),
    rng.integers(0, items, n),
    rng.integers(0, times, n),
    rng.integers(1, 6, n),
    **settings,
  )


def splits(log):
  return [protocols.make(log, name) for name in protocols.PROTOCOLS]


def test_leave_one_out_takes_the_last_two():
  log = interactions.make([1, 1, 1, 2, 2, 3, 3, 3, 3], range(9), range(9))
  split = protocols.leave_one_out(log)
  assert split.part.tolist() == [0, 1, 2, 0, 0, 0, 0, 1, 2]
  assert '1 users with fewer than 3 events' in split.notes[1]


def test_cold_items_are_in_no_row_of_training():
  log = random_log(n=900, users=15, items=40)
  for among in ('cold', 'all'):
    split = protocols.cold_items(log, share=0.2, targets=60, among=among)
    test = split.targets('test')
    cold = set(log.item[test].tolist())
    assert len(test) == 60 and len(cold) <= 8
    train = np.concatenate([split.targets(x) for x in ('train', 'validation')])
    assert not cold & set(log.item[train].tolist())
    assert len(set(log.item.tolist()) - set(log.item[train].tolist())) == 8
    # One validates per user, the last that is warm.
    warm = np.flatnonzero(split.part >= 0)
    warm = warm[split.part[warm] < 2]
    for user in range(log.num_users):
      own = warm[log.user[warm] == user]
      assert split.part[own].tolist() == [0] * (len(own) - 1) + [1]
    histories = split.histories('test', 99)
    for target, places in zip(test, histories, strict=True):
      own = warm[(log.user[warm] == log.user[target]) & (warm < target)]
      assert places[places >= 0].tolist() == own.tolist() and len(own)
    seen = split.seen(test, 'test').toarray() > 0
    for row, places in zip(seen, histories, strict=True):
      own = set(log.item[places[places >= 0]].tolist())
      expected = (
        own
        if among == 'all'
        else set(range(log.num_items))
        - set(np.flatnonzero(split.candidates).tolist())
      )
      assert set(np.flatnonzero(row).tolist()) == expected
    assert split.num_ranked('test') == {'cold': 8, 'all': 40}[among]
    assert split.num_ranked('validation') == 40
    if among == 'cold':
      with pytest.raises(ValueError, match=r"8 of 40, found seen='keep'; set"):
        ranking.check_seen(split, 'test', 'keep')
      ranking.check_seen(split, 'validation', 'keep')
    # Chance is among what is left of the 40 for each target.
    left = [8 if among == 'cold' else 40 - row.sum() for row in seen]
    assert split.count_ranked(test, 'test').tolist() == left
    assert split.count_ranked(test[:0], 'test').tolist() == []
    chance = np.mean([min(1, 10 / number) for number in left])
    assert f'HR@10 of chance is {chance:.3f}' in split.notes[0]
    assert among == 'cold' or chance > 0.3  # and not 10 of 40
  assert split.seen(split.targets('validation'), 'validation').shape[1] == 40
  for wrong in ({'share': 1.0}, {'among': 'warm'}, {'targets': 0}):
    with pytest.raises(ValueError, match='log: expected a share in'):
      protocols.cold_items(log, **wrong)


def test_an_item_with_the_title_of_a_cold_one_is_cold_too():
  titles = np.array([f'Film {i % 25}' if i < 35 else '' for i in range(40)])
  features = interactions.ItemFeatures(np.arange(40), titles=titles)
  log = random_log(n=900, users=15, items=40, item_features=features)
  plain = protocols.cold_items(random_log(n=900, users=15, items=40), share=0.2)
  split = protocols.cold_items(log, share=0.2)
  (known,), (more,) = (np.nonzero(x.candidates) for x in (plain, split))
  twins = {i for i in range(35) if titles[i] in titles[known] and titles[i]}
  assert set(more.tolist()) == {*known.tolist(), *twins}
  assert len(more) > len(known) == 8
  assert split.notes[0].startswith(f'{len(more)} cold items, ')
  texts = [f' film {i % 25} ' if i < 35 else '' for i in range(40)]
  untitled = random_log(n=900, users=15, items=40)
  told = protocols.cold_items(untitled, share=0.2, texts=texts)
  np.testing.assert_array_equal(told.candidates, split.candidates)


def test_global_time_cuts_at_moments_and_rolls():
  log = random_log()
  split = protocols.global_time(log)
  last = log.time[split.targets('train')].max()
  validation = log.time[split.targets('validation')]
  test = log.time[split.targets('test')]
  assert last < validation.min() <= validation.max() < test.min()
  begins = split.part < 0
  assert set(np.flatnonzero(begins)) <= set(log.starts[:-1])
  assert 30 <= len(test) <= 50
  # The rule for equal times moves no event from a split to another.
  other = protocols.global_time(log.in_order('reversed'))
  again = split.part[np.argsort(log.row)]
  moved = again != other.part[np.argsort(other.log.row)]
  assert not (
    moved & (again >= 0) & (other.part[np.argsort(other.log.row)] >= 0)
  ).any()


def test_the_test_may_be_of_marked_events_only():
  rng = np.random.default_rng(1)
  marked = rng.integers(0, 2, 400)
  log = random_log(columns={'is_rand': marked})
  plain = protocols.global_time(log)
  split = protocols.global_time(log, test_on='is_rand')
  mark = log.columns['is_rand'] == 1
  np.testing.assert_array_equal(split.part == 2, (plain.part == 2) & mark)
  for part in (0, 1):
    np.testing.assert_array_equal(
      split.part == part, (plain.part == part) & ~mark
    )
  # What is no target is still known before a later one.
  targets = split.targets('test')
  np.testing.assert_array_equal(
    split.before(targets, 'test', 9), plain.before(targets, 'test', 9)
  )
  assert 'is_rand = 1 test' in split.notes[-1]
  # First events that would be targets are counted, with the mark or without.
  first = log.starts[:-1]
  cut = log.time[plain.part > 0].min()
  lost = int((log.time[first] >= cut).sum())
  assert split.notes[0].startswith(f'{lost} first events of users are no')


def test_random_leaves_its_split_in_another_order():
  log = random_log()
  split = protocols.random(log, seed=4)
  assert len(split.targets('test')) == 80
  assert len(split.targets('validation')) == 20
  other = protocols.random(log.in_order('item'), seed=4)
  assert split.target_hash() == other.target_hash()
  assert split.target_hash() != protocols.random(log, seed=5).target_hash()


@pytest.mark.parametrize('protocol', list(protocols.PROTOCOLS))
def test_histories_are_what_a_loop_collects(protocol):
  log = random_log()
  split = protocols.make(log, protocol)
  for part, allowed in (('train', {0}), ('validation', {0}), ('test', {0, 1})):
    targets = split.targets(part)
    places = split.histories(part, 7)
    lengths = split.history_lengths(targets, part)
    seen = split.seen(targets, part).toarray()
    learnt = split.learnt(part)
    assert set(split.part[learnt]) == allowed
    for row, target in enumerate(targets):
      before = [
        i
        for i in range(target)
        if log.user[i] == log.user[target] and (split.rolling or learnt[i])
      ]
      assert [x for x in places[row] if x >= 0] == before[-7:]
      assert (np.diff(places[row] >= 0) >= 0).all()  # padded on the left
      assert lengths[row] == len(before)
      expected = np.zeros(log.num_items)
      expected[log.item[before]] = 1
      if part == 'test' and split.candidates is not None:
        expected[~split.candidates] = 1
      np.testing.assert_array_equal(seen[row], expected)
    repeats = sum(
      log.item[t] in log.item[:t][log.user[:t] == log.user[t]] for t in targets
    )
    assert split.repeats(part) == repeats


def test_the_hash_is_of_targets_and_nothing_else():
  columns = ([1, 1, 1, 2, 2, 2], [5, 6, 7, 5, 6, 7], [1, 2, 3, 4, 5, 6])
  plain = protocols.leave_one_out(interactions.make(*columns))
  # printf '1\t7\t3\n2\t7\t6' | sha256sum
  assert plain.target_hash() == '7bd66b2053fc'
  text = protocols.leave_one_out(
    interactions.make(*[list(map(str, x)) for x in columns[:2]], columns[2])
  )
  assert text.target_hash() == plain.target_hash()
  assert plain.target_hash('validation') != plain.target_hash('test')
  turned = [x[::-1] for x in columns]  # other places in the file
  again = protocols.leave_one_out(interactions.make(*turned))
  assert again.target_hash() == plain.target_hash()
  assert plain.target_hash() in plain.describe()


@pytest.mark.parametrize(
  'make, message',
  [
    (lambda log: protocols.make(log, 'loo'), "found 'loo'"),
    (lambda log: protocols.global_time(log, test=1.2), 'leave something'),
    (lambda log: protocols.leave_one_out(log).targets('dev'), "found 'dev'"),
    (
      lambda log: protocols.global_time(log, test_on='is_rand'),
      "a column to test on, found 'is_rand'; there are none",
    ),
    (
      lambda log: protocols.leave_one_out(interactions.make([1], [2], [3])),
      'three events or more for leave_one_out, found none',
    ),
    (
      lambda log: protocols.random(interactions.make([1, 1], [2, 3], [3, 4])),
      'expected ratings for the protocol random',
    ),
    (
      lambda log: protocols.global_time(
        interactions.make([1, 2, 1], [1, 2, 3], [5, 5, 5])
      ),
      'expected events in every split of global_time, found none in train',
    ),
  ],
)
def test_bad_splits_are_refused(make, message):
  with pytest.raises(ValueError, match=message):
    make(random_log(20))

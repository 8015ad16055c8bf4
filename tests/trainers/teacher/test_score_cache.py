"""What was scored is found again, bit for bit, or not at all."""

import os
import time
from contextlib import contextmanager
from hashlib import blake2b

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from m3se.trainers.errors import InputError
from m3se.trainers.teacher.score_cache import ABANDONED_SECONDS, HEADER_SIZE, ScoreCache, ShardWriter, pair_keys


FINGERPRINT = "f" * 32


@pytest.fixture
def cache(tmp_path):
    return ScoreCache(tmp_path, FINGERPRINT)


def keys_of(numbers):
    """Sorted keys, one per number; small numbers end in many zero bytes."""
    return np.frombuffer(b"".join(sorted(number.to_bytes(16, "little") for number in numbers)), dtype="S16")


def shards(cache):
    return sorted(cache.folder.glob("*.scores"))


@contextmanager
def largest_file(size):
    """Let no file grow beyond `size` bytes, as on a full disk."""
    import resource  # Windows has no such module

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.sets(st.integers(0, 2**128 - 1) | st.integers(0, 300), max_size=20), max_size=4),
    st.sets(st.integers(0, 300), max_size=20),
    st.data(),
)
def test_a_score_is_found_exactly_when_its_pair_was_added(tmp_path_factory, written, others, data):
    cache = ScoreCache(tmp_path_factory.mktemp("cache"), FINGERPRINT)
    score = {number: np.float32(position / 7) for position, number in enumerate(sorted(set().union(*written)))}
    for numbers in filter(None, written):
        numbers = list(numbers)
        keys = np.concatenate([keys_of([number]) for number in numbers])
        cache.add(keys, np.array([score[number] for number in numbers], dtype=np.float32))
    some = data.draw(st.sets(st.sampled_from(sorted(score))) if score else st.just(set()), label="asked for")
    wanted = sorted(others | some, key=lambda number: number.to_bytes(16, "little"))
    expected = np.array([score.get(number, np.nan) for number in wanted], dtype=np.float32)
    np.testing.assert_array_equal(cache.lookup(keys_of(wanted)), expected)


def test_a_key_is_a_hash_of_teacher_query_and_document():
    expected = [blake2b(b"teacher 3 hot" + document, digest_size=16).digest() for document in (b"tea", b"")]
    keys = pair_keys("teacher", ["hot", "hot"], ["tea", ""])
    assert [key.ljust(16, b"\0") for key in keys.tolist()] == expected


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=3), st.text(max_size=3), st.text(max_size=3)), max_size=30))
def test_different_pairs_have_different_keys_however_the_text_is_cut(triples):
    keys = {pair_keys(teacher, [query], [document])[0] for teacher, query, document in triples if " " not in teacher}
    assert len(keys) == len({triple for triple in triples if " " not in triple[0]})


def test_the_key_of_a_pair_does_not_depend_on_its_neighbours():
    queries, documents = ["a", "a", "b", "a"], ["x", "y", "x", "x"]
    alone = [pair_keys("t", [query], [document])[0] for query, document in zip(queries, documents, strict=True)]
    assert pair_keys("t", queries, documents).tolist() == alone


def test_a_shard_has_the_layout_that_is_documented(cache):
    keys = keys_of([2, 1])[::-1]
    cache.add(keys, np.array([0.5, -3.25], dtype=np.float32))
    body = (1).to_bytes(16, "little") + (2).to_bytes(16, "little") + np.array([-3.25, 0.5], dtype="<f4").tobytes()
    count = (2).to_bytes(8, "little")
    expected = b"M3SCORE1" + count + blake2b(count + body, digest_size=32).digest() + body
    assert [shard.read_bytes() for shard in shards(cache)] == [expected]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_shard_is_named_put_aside_and_costs_only_its_own_scores(tmp_path_factory, caplog, data):
    cache = ScoreCache(tmp_path_factory.mktemp("cache"), FINGERPRINT)
    cache.add(keys_of(range(5)), np.arange(5, dtype=np.float32))
    damaged = shards(cache)[0]
    content = bytearray(damaged.read_bytes())
    if data.draw(st.booleans(), label="truncate"):
        content = content[: data.draw(st.integers(0, len(content) - 1), label="length")]
    else:
        content[data.draw(st.integers(0, len(content) - 1), label="byte")] ^= 1 << data.draw(st.integers(0, 7))
    damaged.write_bytes(content)
    cache.add(keys_of([7]), np.array([7.0], dtype=np.float32))
    caplog.clear()
    np.testing.assert_array_equal(cache.lookup(keys_of([*range(5), 7])), [np.nan] * 5 + [7.0])
    assert str(damaged) in caplog.text
    assert damaged.with_suffix(".damaged").read_bytes() == content
    caplog.clear()
    cache.lookup(keys_of(range(5)))
    assert not caplog.records


def test_a_shard_whose_header_announces_more_than_any_memory_is_damaged(cache, caplog):
    (cache.folder / "huge.scores").write_bytes(b"M3SCORE1" + b"\xff" * 40)
    assert list(cache.shards()) == []
    assert f"{HEADER_SIZE} bytes where its header announces" in caplog.text


def test_teachers_do_not_find_each_others_scores(tmp_path):
    keys = keys_of([1])
    ScoreCache(tmp_path, "a").add(keys, np.ones(1, dtype=np.float32))
    assert np.isnan(ScoreCache(tmp_path, "b").lookup(keys)).all()


def test_two_processes_find_each_others_shards(tmp_path):
    first, second = ScoreCache(tmp_path, FINGERPRINT), ScoreCache(tmp_path, FINGERPRINT)
    first.add(keys_of([1]), np.array([1.0], dtype=np.float32))
    second.add(keys_of([2]), np.array([2.0], dtype=np.float32))
    for cache in (first, second):
        assert cache.lookup(keys_of([1, 2])).tolist() == [1.0, 2.0]


def test_a_shard_that_another_process_puts_aside_is_passed_over(cache):
    for number in range(3):
        cache.add(keys_of([number]), np.ones(1, dtype=np.float32))
    read = cache.shards()
    next(read)
    shards(cache)[1].unlink()
    assert len(list(read)) == 1


def test_a_temporary_file_is_never_read_and_removed_once_its_writer_must_be_gone(tmp_path, cache):
    cache.add(keys_of([1]), np.ones(1, dtype=np.float32))
    fresh, old = cache.folder / ".fresh.tmp", cache.folder / ".old.tmp"
    for path in (fresh, old):
        path.write_bytes(shards(cache)[0].read_bytes())
    long_ago = time.time() - ABANDONED_SECONDS - 10
    os.utime(old, (long_ago, long_ago))
    shards(cache)[0].unlink()
    assert np.isnan(ScoreCache(tmp_path, FINGERPRINT).lookup(keys_of([1]))).all()
    assert fresh.exists() and not old.exists()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_is_not_kept(cache, value):
    with pytest.raises(ValueError, match="finite"):
        cache.add(keys_of([1]), np.array([value], dtype=np.float32))
    assert shards(cache) == []


@pytest.mark.linux
def test_a_full_disk_leaves_the_shards_that_are_complete_and_nothing_else(cache):
    cache.add(keys_of([1]), np.ones(1, dtype=np.float32))
    before = sorted(cache.folder.iterdir())
    with largest_file(100), pytest.raises(InputError, match="could not be written: File too large"):
        cache.add(keys_of(range(100)), np.ones(100, dtype=np.float32))
    assert sorted(cache.folder.iterdir()) == before
    assert cache.lookup(keys_of([1])).tolist() == [1.0]


def test_a_folder_that_cannot_be_made_is_named_before_any_work(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=f"{tmp_path}/file/cache.*cannot be written"):
        ScoreCache(tmp_path / "file" / "cache", FINGERPRINT)


def test_the_writer_writes_a_shard_when_its_time_has_come_and_the_rest_on_leaving(cache):
    one = np.ones(1, dtype=np.float32)
    with pytest.raises(KeyboardInterrupt), ShardWriter(cache, seconds=3600) as writer:
        writer.add(keys_of([1]), one)
        assert len(shards(cache)) == 0
        writer.seconds = 0
        writer.add(keys_of([2]), one)
        assert len(shards(cache)) == 1
        writer.seconds = 3600
        writer.add(keys_of([3]), one)
        raise KeyboardInterrupt
    assert len(shards(cache)) == 2
    assert cache.lookup(keys_of([1, 2, 3])).tolist() == [1.0, 1.0, 1.0]

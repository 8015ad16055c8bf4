import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m3se.trainers.data.readers import spool as module
from m3se.trainers.data.readers.spool import PairSpool


def spooled(pairs, chunk=3):
    spool = PairSpool()
    for start in range(0, len(pairs), chunk):
        columns = list(zip(*pairs[start : start + chunk], strict=True))
        spool.add(*(np.array(column) for column in columns))
    groups = {
        group.query: list(zip(group.documents.tolist(), group.labels.tolist(), group.scores.tolist(), strict=True))
        for group in spool.groups()
    }
    return groups, spool.counts


def test_pairs_come_back_by_query_in_their_first_order():
    groups, _ = spooled([(7, 3, 1, 2.5), (5, 1, 0, 0.5), (7, 1, 0, -1.0), (7, 2, 0, 4.0)])
    assert groups == {5: [(1, 0, 0.5)], 7: [(3, 1, 2.5), (1, 0, -1.0), (2, 0, 4.0)]}


def test_a_repeated_pair_keeps_its_highest_label_and_its_first_known_score():
    nan = math.nan
    groups, counts = spooled([(0, 9, 0, nan), (0, 4, 0, 1.0), (0, 9, 1, 3.0), (0, 4, 0, 1.00001), (0, 9, 0, 2.0)])
    assert groups == {0: [(9, 1, 3.0), (4, 0, 1.0)]}
    assert counts == {"pairs_repeated": 3, "pairs_labelled_in_two_ways": 1, "pairs_scored_differently": 1}


def test_nothing_gives_no_group():
    assert spooled([]) == ({}, {})


def reference(pairs):
    groups = {}
    for query, document, label, score in pairs:
        label_before, score_before = groups.setdefault(query, {}).get(document, (label, score))
        groups[query][document] = (max(label, label_before), score_before)
    return {query: [(d, *values) for d, values in some.items()] for query, some in groups.items()}


small = st.integers(0, 5)
pair_lists = st.lists(st.tuples(st.integers(0, 200), small, st.integers(0, 1), small.map(float)), max_size=60)


@settings(max_examples=50)
@given(pairs=pair_lists, in_memory=st.sampled_from([1, 10, 1000]))
def test_what_goes_through_files_is_what_stays_in_memory(pairs, in_memory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PAIRS_IN_MEMORY", in_memory)
        assert spooled(pairs)[0] == reference(pairs)


def test_the_files_are_gone_when_the_groups_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PAIRS_IN_MEMORY", 0)
    spool = PairSpool(tmp_path)
    spool.add(*(np.array([1, 2]) for _ in range(4)))
    assert len(list(tmp_path.iterdir())) == 1
    assert len(list(spool.groups())) == 2
    assert list(tmp_path.iterdir()) == []

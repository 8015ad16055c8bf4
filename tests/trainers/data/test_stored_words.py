"""Words of documents in memory-mapped files: what was added is counted."""

import numpy as np

from m3se.trainers.data.stored_words import StoredWords, WordWriter, word_hash


def test_words_are_counted_in_the_documents_asked_for_in_their_order(tmp_path):
    with WordWriter(tmp_path) as writer:
        for text in ("a b a", "", "b c", "a"):
            writer.add(text.split())
    assert (writer.documents, writer.words) == (4, 6)
    stored = StoredWords(tmp_path)
    assert stored.mean_length == 1.5
    counts, lengths = stored.counts(["a", "b", "unknown"], np.array([3, 0, 1, 2]))
    assert counts.tolist() == [[1, 2, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0]]
    assert lengths.tolist() == [1, 3, 0, 2]
    counts, lengths = stored.counts([], np.array([1]))
    assert counts.shape == (0, 1) and lengths.tolist() == [0]
    counts, lengths = stored.counts(["a"], np.empty(0, np.int64))
    assert counts.shape == (1, 0) and lengths.shape == (0,)


def test_a_word_has_the_same_number_in_every_process_and_on_every_machine():
    # the first eight bytes of `printf matrix | b2sum -l 64`, the lowest first
    assert word_hash("matrix") == int.from_bytes(bytes.fromhex("1d8c0de61bae15b0"), "little")

from collections import Counter

import pytest

from m3se.trainers.data.pydocs import pydocs
from m3se.trainers.data.pydocs.docstrings import standard_library_files
from m3se.trainers.data.pydocs.pydocs import assign_split, read_pydocs
from m3se.trainers.errors import InputError


@pytest.fixture(scope="module")
def few_packages():
    """The rules on fewer files, to be fast: some of the standard library, bm25s and a package nobody has installed."""
    some = ("asyncio", "email", "logging", "textwrap", "tkinter", "unittest", "xml")
    files = [(name, file) for name, file in standard_library_files() if name.split(".")[0] in some]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pydocs, "standard_library_files", lambda: list(files))
        patch.setattr(pydocs, "PACKAGES", {"bm25s": "bm25s", "no_such_package": "no-such-package"})
        yield


@pytest.fixture(scope="module")
def cache(tmp_path_factory, few_packages):
    folder = tmp_path_factory.mktemp("cache")
    read_pydocs("train", folder)
    return folder


def test_every_query_is_answered_by_the_docstring_it_was_taken_from(cache):
    collection = read_pydocs("train", cache)
    assert collection.queries["q:textwrap.indent"] == "Adds 'prefix' to the beginning of selected lines in 'text'"
    assert collection.qrels["q:textwrap.indent"] == {"textwrap.indent": 1.0}
    (document,) = collection.documents.texts(["textwrap.indent"])
    assert document.startswith("textwrap.indent\nIf 'predicate' is provided")
    for query, judged in collection.qrels.items():
        (document,) = collection.documents.texts(list(judged))
        assert collection.queries[query] not in document


def test_the_splits_share_the_documents_and_no_query(cache):
    splits = {split: read_pydocs(split, cache) for split in ("train", "dev", "test")}
    assert len({collection.documents.fingerprint for collection in splits.values()}) == 1
    queries = [query for collection in splits.values() for query in collection.queries]
    assert len(set(queries)) == len(queries) == len(splits["train"].documents) > 300
    assert len(set(read.lower() for c in splits.values() for read in c.queries.values())) == len(queries)


def test_the_report_accounts_for_every_docstring(cache):
    report = read_pydocs("test", cache).report
    assert report["docstrings"] == report["documents"] + sum(report["dropped"].values())
    assert report["packages_not_installed"] == ["no_such_package"] and "bm25s" in report["packages"]


def test_the_second_call_reuses_the_first_and_says_so(cache, caplog):
    with caplog.at_level("INFO"):
        read_pydocs("dev", cache)
    assert "reusing" in caplog.text
    assert len(list(cache.iterdir())) == 1


def test_the_collection_is_the_same_when_built_again(cache, tmp_path):
    assert read_pydocs("dev", tmp_path).queries == read_pydocs("dev", cache).queries
    assert read_pydocs("dev", tmp_path).documents.fingerprint == read_pydocs("dev", cache).documents.fingerprint


def test_a_name_keeps_its_split_and_splits_have_the_stated_shares():
    splits = [assign_split(f"package.function_{i}") for i in range(20_000)]
    assert splits.count("test") == pytest.approx(500, abs=80)
    assert splits.count("dev") == pytest.approx(500, abs=80)


def test_an_unknown_split_is_refused(tmp_path):
    with pytest.raises(InputError, match="no split 'validation'; expected one of train, dev, test"):
        read_pydocs("validation", tmp_path)


def test_twins_in_name_query_or_document_are_left_out_and_counted():
    pairs = [("a.f", "Sort it", "a.f\none"), ("a.f", "Other", "a.f\ntwo"), ("b.f", "sort IT", "b.f\nthree")]
    pairs += [("c.f", "Third", "c.f\none"), ("d.f", "Fourth", "d.f\nfour")]
    dropped = Counter()
    assert [name for name, _, _ in pydocs._distinct(iter(pairs), dropped)] == ["a.f", "d.f"]
    assert dropped == {"name repeated": 1, "query repeated": 1, "document repeated": 1}

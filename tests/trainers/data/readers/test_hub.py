"""Local folders in the layout of Hub data sets go through the same calls of `datasets` as ids do."""

import math

import datasets
import pytest
from datasets import Dataset

from m3se.trainers.data import read_data, read_documents, teacher_lists
from m3se.trainers.errors import InputError


DOCUMENTS = {"passage_id": ["10", "11", "12", "13"], "passage": ["ten", "eleven", "twelve", "thirteen"]}
QUERIES = {"query_id": ["1", "2"], "query": ["one", "two"]}


pytestmark = pytest.mark.usefixtures("own_datasets_cache")


@pytest.fixture
def repository(tmp_path):
    """Write {config: {split: columns}} as parquet with the README of a data set; returns its path."""

    def write(configs, name="repository", features=""):
        lines = ["---", *features.splitlines(), "configs:"]
        for config, splits in configs.items():
            lines += [f"- config_name: {config}", "  data_files:"]
            for split, columns in splits.items():
                file = f"{config}/{split}.parquet"
                (tmp_path / name / config).mkdir(parents=True, exist_ok=True)
                Dataset.from_dict(columns).to_parquet(tmp_path / name / file)
                lines += [f"  - split: {split}", f"    path: {file}"]
        (tmp_path / name / "README.md").write_text("\n".join([*lines, "---"]))
        return str(tmp_path / name)

    return write


def test_beir_on_the_hub_has_its_judgments_in_a_second_data_set(repository, cache):
    corpus = {"_id": ["10", "11"], "title": ["Ten", ""], "text": ["is even", "eleven"]}
    queries = {"_id": ["1"], "title": [""], "text": ["which is even"]}
    source = repository({"corpus": {"corpus": corpus}, "queries": {"queries": queries}})
    judgments = {"query-id": [1, 1], "corpus-id": [10, 11], "score": [2, 0]}
    repository({"default": {"validation": judgments}}, "repository-qrels")
    collection = read_data(source, "dev", cache)
    assert collection.queries == {"1": "which is even"} and collection.qrels == {"1": {"10": 2.0, "11": 0.0}}
    assert collection.documents.texts(["10", "11"]) == ["Ten is even", "eleven"]
    with pytest.raises(InputError, match="repository-qrels:default has no split 'test'; it has validation"):
        read_data(source, "test", cache)


def test_lists_with_scores_and_no_judgments_have_label_0_unless_judgments_are_given(repository, cache, write, caplog):
    lists = {"query_id": ["1", "2"], "document_ids": [["10", "11"], ["12", "13", "10"]]}
    lists["scores"] = [[0.5, 0.25], [0.125, 1.0, 0.75]]
    documents = {"document_id": DOCUMENTS["passage_id"], "text": DOCUMENTS["passage"]}
    queries = {"query_id": QUERIES["query_id"], "text": QUERIES["query"]}
    configs = {"documents": documents, "queries": queries, "train": lists}
    source = repository({config: {"train": columns} for config, columns in configs.items()})
    collection = read_data(source, "train", cache)
    assert "nothing says which documents are relevant" in caplog.text
    rows = teacher_lists(collection, 2).rows.to_list()
    assert [row["document_ids"] for row in rows] == [["10", "11"], ["13", "10"]] and rows[0]["labels"] == [0, 0]
    judged = read_data(source, "train", cache, qrels=write("qrels.tsv", "2 0 12 1\n"))
    (row,) = teacher_lists(judged, 2).rows.to_list()
    assert row["document_ids"] == ["12", "13"] and row["teacher_scores"] == [0.125, 1.0]


# As lightonai/ms-marco-en-bge describes its lists: sizes are left out, and the type of a list is one level deeper.
LISTS_OF_LIGHTON = """dataset_info:
  - config_name: train
    features:
      - name: query_id
        dtype: string
      - name: document_ids
        sequence:
          value:
            dtype: string
      - name: scores
        sequence:
          value:
            dtype: float32
    splits:
      - name: train
        num_examples: 808728"""


def test_lists_are_read_whatever_the_card_says_of_their_types(repository, cache):
    lists = {"query_id": ["1"], "document_ids": [["10", "11"]], "scores": [[0.5, 0.25]]}
    configs = {"queries": QUERIES, "documents": DOCUMENTS, "train": lists}
    parts = {config: {"train": columns} for config, columns in configs.items()}
    collection = read_data(repository(parts, features=LISTS_OF_LIGHTON), "train", cache)
    expected = {"query_id": "1", "document_ids": ["10", "11"], "teacher_scores": [0.5, 0.25]}
    assert collection.candidates.to_list() == [expected]


def test_lists_take_the_judgments_of_another_configuration(repository, cache):
    configs = {
        "corpus": {"_id": ["10", "11"], "text": ["ten", "eleven"]},
        "queries": {"_id": ["1"], "text": ["one"]},
        "top_ranked": {"query-id": ["1"], "corpus-ids": [["11", "10"]]},
        "qrels": {"query-id": ["1"], "corpus-id": ["10"]},  # without grades, as NanoBEIR's
    }
    collection = read_data(repository({config: {"train": part} for config, part in configs.items()}), "train", cache)
    assert collection.qrels == {"1": {"10": 1.0}}
    assert collection.candidates[0]["document_ids"] == ["11", "10"]


def test_a_pair_with_two_grades_is_refused(repository, cache):
    configs = {"corpus": DOCUMENTS, "queries": QUERIES}
    configs["qrels"] = {"query_id": ["1", "2", "1"], "passage_id": ["10", "10", "10"], "score": [1, 1, 2]}
    source = repository({config: {"train": columns} for config, columns in configs.items()})
    with pytest.raises(InputError, match="repository:qrels, row 3: document '10' of query '1' is graded 2 here and 1"):
        read_data(source, "train", cache)


@pytest.fixture
def msmarco(repository):
    triples = {"query_id": ["1", "1", "1", "2"], "positive_id": ["10", "10", "13", "12"]}
    triples["negative_id"] = ["11", "12", "11", "10"]
    labeled = {"query_id": ["1"], "doc_ids": [["10", "11"]], "labels": [[1, 0]]}
    pairs = {"query_id": ["1", "1", "2"], "passage_id": ["10", "11", "12"], "score": [3.0, 2.0, 1.0]}
    configs = {
        "corpus": DOCUMENTS,
        "queries": QUERIES,
        "triplets": triples,
        "bert-ensemble-margin-mse": triples | {"score": [2.0, 5.0, 9.0, -1.0]},
        "bert-ensemble-mse": pairs,
        "labeled-list": labeled,
    }
    return repository({config: {"train": columns} for config, columns in configs.items()})


def test_several_kinds_of_lists_ask_for_a_choice(msmarco, cache):
    with pytest.raises(
        InputError, match="choose one as .*:CONFIG of triplets, bert-ensemble-margin-mse, bert-ensemble"
    ):
        read_data(msmarco, "train", cache)


def test_an_unknown_configuration_is_named_with_those_there_are(msmarco, cache):
    with pytest.raises(InputError, match="no configuration 'triples'; it has corpus, queries, triplets"):
        read_data(f"{msmarco}:triples", "train", cache)


def test_triples_and_labelled_lists_of_ids_carry_judgments(msmarco, cache):
    collection = read_data(f"{msmarco}:triplets", "train", cache)
    assert collection.qrels == {"1": {"10": 1.0, "13": 1.0}, "2": {"12": 1.0}}
    assert collection.candidates.to_list()[0] == {"query_id": "1", "document_ids": ["10", "11", "12", "13"]}
    collection = read_data(f"{msmarco}:labeled-list", "train", cache)
    assert collection.qrels == {"1": {"10": 1.0}} and collection.queries == {"1": "one"}


def test_margins_become_scores_below_the_first_positive_of_the_query(msmarco, cache):
    collection = read_data(f"{msmarco}:bert-ensemble-margin-mse", "train", cache)
    rows = teacher_lists(collection, None).rows.to_list()
    assert rows[0]["document_ids"] == ["10", "13", "11", "12"]
    assert rows[0]["teacher_scores"][0] == 0 and math.isnan(rows[0]["teacher_scores"][1])
    assert rows[0]["teacher_scores"][2:] == [-2, -5] and rows[1]["teacher_scores"] == [0, 1]


def test_scored_pairs_are_candidates_with_teacher_scores(msmarco, cache):
    collection = read_data(f"{msmarco}:bert-ensemble-mse", "train", cache)
    assert collection.candidates.to_list()[0] == {
        "query_id": "1",
        "document_ids": ["10", "11"],
        "teacher_scores": [3, 2],
    }


def test_columns_of_texts_make_a_collection(repository, cache):
    columns = {"query": ["why", "why", "who"], "positive": ["so", "so", "he"]}
    columns |= {"negative_1": ["no", "not", "so"], "negative_2": ["never", "no", "not"]}
    collection = read_data(repository({"triplet": {"train": columns}}), "train", cache)
    texts = {
        collection.queries[row["query_id"]]: collection.documents.texts(row["document_ids"])
        for row in collection.candidates
    }
    assert texts == {"why": ["so", "no", "never", "not"], "who": ["he", "so", "not"]}


def test_columns_that_say_nothing_are_listed(repository, cache):
    source = repository({"default": {"train": {"sentence1": ["a"], "label": [1]}}})
    with pytest.raises(InputError, match="no configuration with documents .found default: sentence1, label"):
        read_data(source, "train", cache)


def test_a_data_set_that_cannot_be_reached_is_one_line(cache, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="no-such/data-set: cannot be loaded as a Hub data set: ") as error:
        read_data("no-such/data-set", "train", cache)
    assert "\n" not in str(error.value)


def test_teacher_scores_are_no_grades(repository, cache):
    scores = {"query-id": ["q"] * 2, "corpus-id": ["12", "d"], "score": [3.5, -1.25]}
    queries = {"_id": ["q"], "text": ["why"]}
    source = repository({"corpus": {"corpus": DOCUMENTS}, "queries": {"queries": queries}, "all": {"train": scores}})
    with pytest.raises(InputError, match="all, row 1: expected a whole number as the grade score, got 3.5; teacher"):
        read_data(source, "train", cache)


def test_a_configuration_that_is_not_understood_is_named(repository, cache, caplog):
    lists = {"query_id": ["q"], "positive_ids": [["12"]], "negative_ids": [["d"]]}
    texts = {"query": ["a"], "positive": ["b"]}
    read_data(repository({"default": {"train": texts}, "lists": {"train": lists}}), "train", cache)
    assert "lists: not read, its columns are not understood: query_id, positive_ids, negative_ids" in caplog.text


def test_documents_are_read_alone(repository, cache):
    source = repository({"corpus": {"corpus": DOCUMENTS}})
    assert read_documents(source, cache).texts(["12"]) == ["twelve"]
    splits = {"train": {"query": ["a"], "positive": ["b"]}, "test": {"query": ["c"], "positive": ["d"]}}
    texts = repository({"default": splits}, "texts")
    assert read_documents(texts, cache, "test").texts_at([0]) == ["d"]
    with pytest.raises(InputError, match="several splits; name one with --split: train, test"):
        read_documents(texts, cache)

"""The fuzzing of `tests.reliability.programs.fuzz` in short, and by name what it has found."""

import json

import pytest

from m3se.run_scripts.cli.app import parse
from m3se.run_scripts.cli.recipe import expand_recipe
from m3se.run_scripts.distill import make_parser
from m3se.trainers.data import read_data
from m3se.trainers.data.readers.trec import read_qrels
from m3se.trainers.errors import InputError
from m3se.trainers.evaluation.runs import read_run
from tests.reliability.programs.fuzz import BEIR, CASES, DPR, LISTS, fuzz
from tests.reliability.programs.fuzz_files import plain
from tests.reliability.programs.fuzz_models import save, start_training
from tests.reliability.programs.fuzz_sources import HUB, TEXTS, read_hub, read_irds, readme


CASES_EACH = 63
SLOW = {"Hub": 20, "models": 20}  # a tenth of a second to open a folder, or to make a model


@pytest.mark.slow
@pytest.mark.parametrize("kind", CASES)
def test_a_file_that_nobody_should_write_gives_a_correct_result_or_one_clear_error(kind):
    cases = SLOW.get(kind, CASES_EACH)
    outcomes = fuzz(kind, cases)
    assert sum(outcomes.values()) >= cases * 0.9 and min(outcomes["result"], outcomes["error"]) > 0


def beir(folder, **changed):
    for name, rows in BEIR.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(plain(rows))
    for name, content in changed.items():
        (folder / f"{name}.jsonl").write_text(content, encoding="utf-8")
    return folder


def refusal(read):
    with pytest.raises(InputError) as refused:
        read()
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 1000
    return str(refused.value)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"_id": "", "text": "x"}', "the document's id is empty"),
        ('{"_id": {"a": 1}, "text": "x"}', "expected an id and texts"),
        ('{"_id": true, "text": "x"}', "expected an id and texts"),
        ('{"_id": "d9", "text": ["x"]}', "expected an id and texts"),
        ('{"_id": "d9", "text": "\\ud83d"}', "\\ud83d is half a character"),
        ("[" * 100_000, "not JSON"),
        ('{"_id": "d9", "text": "x"', "not JSON"),
        ("\x00", "not JSON"),
        ('{"_id": "d0", "text": "another"}', "on line 1 and 'another' on line 5"),
    ],
    ids=["empty id", "object as id", "truth as id", "list as text", "half a character", "deep", "cut", "NUL", "twice"],
)
def test_a_bad_document_is_refused_with_its_line(tmp_path, line, reason):
    content = plain(BEIR["corpus.jsonl"]).decode() + line + "\n"
    message = refusal(lambda: read_data(str(beir(tmp_path, corpus=content)), "train", tmp_path / "cache"))
    assert "corpus.jsonl" in message and reason in message
    assert "line 5" in message


def test_an_empty_query_id_is_refused_with_its_line(tmp_path):
    content = plain(BEIR["queries.jsonl"]).decode() + '{"_id": "", "text": "x"}\n'
    message = refusal(lambda: read_data(str(beir(tmp_path, queries=content)), "train", tmp_path / "cache"))
    assert "queries.jsonl, line 4: the query's id is empty" in message


@pytest.mark.parametrize(
    "text", ["🙂 👩‍👩‍👧‍👦", "שלום \u202eעולם", "a\x00b", "\u2028\x85\x1c", "", "é e\u0301", '"\\', "| <b> `"]
)
def test_texts_of_every_kind_are_kept_as_they_are(tmp_path, text):
    content = plain(BEIR["corpus.jsonl"]).decode() + json.dumps({"_id": "d/9 \t", "text": f"x{text}x"}) + "\n"
    collection = read_data(str(beir(tmp_path, corpus=content)), "train", tmp_path / "cache")
    assert collection.documents.texts(["d/9 \t"]) == [f"x{text}x"]


def test_a_line_of_ten_megabytes_is_a_document_like_any_other(tmp_path):
    long = "word " * 2_000_000
    content = plain(BEIR["corpus.jsonl"]).decode() + json.dumps({"_id": "d9", "text": long}) + "\n"
    collection = read_data(str(beir(tmp_path, corpus=content)), "train", tmp_path / "cache")
    assert collection.documents.texts(["d9"]) == [long.strip()]
    message = refusal(lambda: read_data(str(beir(tmp_path, corpus=content + long)), "train", tmp_path / "cache"))
    assert "corpus.jsonl, line 6: not JSON" in message


def test_a_run_with_a_byte_order_mark_has_the_ids_behind_it(tmp_path):
    (tmp_path / "run.trec").write_bytes(b"\xef\xbb\xbf" + plain(LISTS["run"]))
    assert list(read_run(tmp_path / "run.trec")) == ["q0"]


@pytest.mark.parametrize("grade", ["1_0", "nan", "inf", "1e39", "-1e39", "", "one"])
def test_a_grade_that_is_no_number_of_float32_is_refused(tmp_path, grade):
    (tmp_path / "qrels.tsv").write_text(f"q\t0\td\t1\nq\t0\te\t{grade}\n", encoding="utf-8")
    assert "qrels.tsv, line 2: expected a grade" in refusal(lambda: read_qrels(tmp_path / "qrels.tsv"))


def test_what_a_message_quotes_is_shortened(tmp_path):
    long = "x" * 100_000
    (tmp_path / "qrels.tsv").write_text(f"q\t0\td\t{long}\n", encoding="utf-8")
    assert "line 1: expected a grade, got 'xxx" in refusal(lambda: read_qrels(tmp_path / "qrels.tsv"))
    (tmp_path / "qrels.tsv").write_text(f"{long} 0 {long} 1\n{long} 0 {long} 2\n", encoding="utf-8")
    assert "is graded 2 here and 1 before" in refusal(lambda: read_qrels(tmp_path / "qrels.tsv"))
    (tmp_path / "run.trec").write_text(f"q Q0 {long} 1 5 tag\n" * 2, encoding="utf-8")
    assert "line 2: document 'xxx" in refusal(lambda: read_run(tmp_path / "run.trec"))
    twice = "".join(json.dumps({"_id": f"{long}\n", "text": text}) + "\n" for text in "ab")
    message = refusal(lambda: read_data(str(beir(tmp_path, corpus=twice)), "train", tmp_path / "cache"))
    assert "is 'a' on line 1 and 'b' on line 2" in message
    content = plain([["query-id", "corpus-id", "score"], ["q0", long, "1"]]).decode()
    (beir(tmp_path) / "qrels" / "train.tsv").write_text(content, encoding="utf-8")
    assert "name 1 documents" in refusal(lambda: read_data(str(tmp_path), "train", tmp_path / "cache"))


def hub(folder, kind, changed, rows):
    """A folder laid out like a Hub data set, in which a configuration has other rows, or other bytes."""
    configs = TEXTS | HUB[kind] | {changed: rows}
    (folder / "data").mkdir()
    for name, content in configs.items():
        content = content if isinstance(content, bytes) else plain(content)
        (folder / "data" / f"{name}.jsonl").write_bytes(content)
    (folder / "README.md").write_bytes(readme({name: f"data/{name}.jsonl" for name in configs}))
    return folder


@pytest.mark.parametrize(
    ("kind", "config", "rows", "reason"),
    [
        ("judgments", "corpus", [{"_id": None, "text": "x"}], "corpus, row 1: expected an id as _id, got 'None'"),
        ("judgments", "corpus", [{"_id": "", "text": "x"}], "line 1: the document's id is empty"),
        ("judgments", "corpus", [{"_id": "d0", "text": ["x"]}], "corpus, row 1: expected a text as text"),
        ("judgments", "corpus", [], "corpus: has no rows"),
        ("judgments", "corpus", b"{", "corpus: cannot be loaded as a Hub data set: "),
        ("judgments", "queries", [{"_id": [1], "text": "x"}], "queries, row 1: expected an id as _id, got '[1]'"),
        (
            "judgments",
            "qrels",
            [{"query-id": "q0", "corpus-id": "d0", "score": None}],
            "qrels, row 1: expected a number",
        ),
        ("judgments", "qrels", [{"query-id": "q0", "corpus-id": None, "score": 1}], "qrels, row 1: expected an id"),
        (
            "lists",
            "train",
            [{"query_id": "q0", "document_ids": None, "scores": [1.0]}],
            "train, row 1: expected a list",
        ),
        ("lists", "train", [{"query_id": "q0", "document_ids": ["d0", "d1"], "scores": [1.0]}], "has 1 numbers for 2"),
        (
            "lists",
            "train",
            [{"query_id": "q0", "document_ids": ["d0"], "scores": [None]}],
            "expected a number as scores",
        ),
        (
            "triples",
            "triplets",
            [{"query_id": "q0", "positive_id": "d0", "negative_id": None, "score": 1.0}],
            "an id as",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_hub_data_set_that_holds_something_else_is_refused_with_its_row(tmp_path, kind, config, rows, reason):
    folder = hub(tmp_path, kind, config, rows)
    assert reason in refusal(lambda: read_hub(folder))


def test_a_description_of_a_hub_data_set_that_is_no_yaml_is_one_line(tmp_path):
    folder = hub(tmp_path, "judgments", "corpus", TEXTS["corpus"])
    (folder / "README.md").write_text("---\nconfigs:\n- config_name: [\n---\n", encoding="utf-8")
    assert "cannot be loaded as a Hub data set: while parsing" in refusal(lambda: read_hub(folder))


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("docs.tsv", "d0\ta\nd1\n", "documents: cannot be read after row 1: expected 2 fields, got 1"),
        ("queries.tsv", "q0\n", "queries: cannot be read after row 0: expected 2 fields, got 1"),
        ("qrels.txt", "q0 0 d0 one\n", "judgments: cannot be read after row 0: invalid literal for int()"),
    ],
)
def test_what_ir_datasets_cannot_read_is_one_line(tmp_path, file, content, reason):
    files = {"docs.tsv": "d0\ta\nd1\tb\n", "queries.tsv": "q0\tx\n", "qrels.txt": "q0 0 d0 1\n"} | {file: content}
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert reason in refusal(lambda: read_irds(tmp_path))


@pytest.mark.parametrize("contexts", [5, "abc", {"text": "x"}, [5], [None], [{"text": 5}]], ids=str)
def test_contexts_that_are_no_passages_are_refused(tmp_path, contexts):
    record = DPR[0] | {"positive_ctxs": contexts}
    (tmp_path / "dpr.json").write_text(json.dumps([DPR[0], record], indent=0), encoding="utf-8")
    assert "dpr.json, line" in refusal(lambda: read_data(str(tmp_path / "dpr.json"), "train", tmp_path / "cache"))


def test_an_array_that_is_nested_too_deeply_is_refused(tmp_path):
    (tmp_path / "dpr.json").write_text("[" * 100_000, encoding="utf-8")
    message = refusal(lambda: read_data(str(tmp_path / "dpr.json"), "train", tmp_path / "cache"))
    assert "dpr.json, line 1: not JSON: too deeply nested" in message


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model_type", {"a": 1}),
        ("architectures", 1.5),
        ("num_labels", ["x"]),
        ("dtype", "x"),
        ("id2label", [{}, "é"]),
        ("pad_token_id", 99),
    ],
    ids=lambda value: str(value),
)
def test_a_config_with_a_field_that_does_not_fit_is_refused_with_the_models_name(tmp_path, field, value):
    save(tmp_path, "bert", "nothing")
    entries = json.loads((tmp_path / "config.json").read_text(encoding="utf-8")) | {field: value}
    (tmp_path / "config.json").write_text(json.dumps(entries), encoding="utf-8")
    assert str(tmp_path) in refusal(lambda: start_training(tmp_path))


def test_weights_that_are_cut_are_refused_with_the_models_name(tmp_path):
    save(tmp_path, "bert", "weights")
    assert str(tmp_path) in refusal(lambda: start_training(tmp_path))


@pytest.mark.parametrize(
    ("recipe", "reason"),
    [
        ("seed: 2001-99-99", "not YAML"),
        ("a: " + "[" * 1_500, "not YAML"),
        ("loss_args: &x {a: *x}", "loss_args: expected numbers"),
        ("loss_args: {a: 2001-01-01}", "loss_args: expected numbers"),
        ("data: !!binary aGk=", "data: expected numbers"),
        ("data: !!set {a, b}", "data: expected numbers"),
        ("data: [[a], b]", "data: expected numbers"),
        ("data: [null]", "data: expected numbers"),
        ('"a\\nb": 1', "expected lines `option: value`"),
        ("--data: x", "expected lines `option: value`"),
        ("!!python/object/apply:os.system [ls]", "not YAML"),
        ("\x00", "not YAML"),
    ],
    ids=[
        "date",
        "deep",
        "itself",
        "date inside",
        "bytes",
        "set",
        "list of lists",
        "null",
        "newline",
        "dashes",
        "python",
        "NUL",
    ],
)
def test_a_recipe_that_no_command_line_can_say_is_refused(tmp_path, recipe, reason):
    (tmp_path / "recipe.yaml").write_text(recipe, encoding="utf-8")
    message = refusal(lambda: expand_recipe(["--recipe", str(tmp_path / "recipe.yaml")]))
    assert "recipe.yaml" in message and reason in message


def test_an_option_that_does_not_exist_is_named_with_the_recipe(tmp_path):
    (tmp_path / "recipe.yaml").write_text("data: x\noutput_dir: y\nlerning_rate: 1\n", encoding="utf-8")
    message = refusal(lambda: parse(make_parser(), ["--recipe", str(tmp_path / "recipe.yaml")]))
    assert "recipe.yaml: unknown option --lerning_rate" in message

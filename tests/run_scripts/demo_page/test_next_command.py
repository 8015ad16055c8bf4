"""The command that make_retriever.py prints at its end."""

import pytest

from m3se.run_scripts.cli.app import parse
from m3se.run_scripts.demo import make_parser
from m3se.run_scripts.retriever.options import RetrieverArguments
from m3se.run_scripts.work.make_retriever import demo_options


@pytest.mark.parametrize(
    ("teachers", "weights", "shown", "shown_weights"),
    [
        (["start", "bm25"], [4.0, 1.0], ["start", "bm25"], [4.0, 1.0]),
        (["train"], [], ["out/teacher"], []),
        (["org/reranker", __file__], [2.0, 1.0], ["org/reranker"], []),  # a file of scores knows no new query
    ],
)
def test_the_page_shows_the_models_and_the_teachers_of_the_run(teachers, weights, shown, shown_weights):
    arguments = RetrieverArguments(data="mine", output="out", teacher=teachers, teacher_weights=weights)
    (parsed,) = parse(make_parser(), demo_options(arguments))
    assert (parsed.model, parsed.start, parsed.run) == (["out/model"], "out/start", ["out"])
    assert (parsed.teacher, parsed.teacher_weights) == (shown, shown_weights)
    assert (parsed.data, parsed.cache_dir) == ("mine", arguments.cache_dir)

import pytest

from run_scripts.card_values import paper_values
from trainers.errors import InputError


def test_a_row_of_the_paper_is_named_by_table_row_and_task():
    found = paper_values("table1:M3SE:MSMARCO re-rank")
    assert found == {
        "source": "Table 1, MSMARCO re-rank",
        "model": "M3SE",
        "measures": {"MRR@10": 0.349, "nDCG@10": 0.406},
    }
    assert paper_values("table4:KL")["measures"] == {"MRR@10": 0.273, "nDCG@10": 0.321}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("table3:M3SE", "no table 'table3'; expected TABLE:ROW:TASK with one of table1, "),
        ("table1:m3se", "table1 has no row 'm3se', only BM25, "),
        ("table1:M3SE", "table1, M3SE has no numbers for ''; its columns are MSMARCO re-rank MRR@10, "),
        ("table1:MSE:MSMARCO retrieval", "no numbers for 'MSMARCO retrieval'"),  # the paper itself doubts its 0.000
    ],
)
def test_what_the_paper_does_not_have_is_refused(text, message):
    with pytest.raises(InputError, match=message):
        paper_values(text)

import pytest

from m3se.hub_cards.paper import TABLES


# Numbers in each table and their sum, added up from the text of the paper. Table 12 with the two retrieval values that
# its section states.
PRINTED = {
    "table1": (62, 27.562),
    "table2": (36, 13.310),
    "table4": (12, 3.473),
    "table5": (12, 3.969),
    "table6": (16, 5.769),
    "table7": (22, 12.673),
    "table8": (12, 4.212),
    "table9": (10, 4.379),
    "table12": (10, 3.247),
}


def test_every_table_of_numbers_is_there():
    assert TABLES.keys() == PRINTED.keys()


@pytest.mark.parametrize("name", PRINTED)
def test_a_table_has_all_numbers_of_the_paper(name):
    values = [value for row in TABLES[name].rows.values() for value in row if value is not None]
    assert (len(values), round(sum(values), 3)) == PRINTED[name]
    assert all(len(row) == len(TABLES[name].columns) for row in TABLES[name].rows.values())


@pytest.mark.parametrize(
    ("table", "row", "column", "value"),
    [
        ("table1", "M3SE", "MSMARCO re-rank MRR@10", 0.349),
        ("table1", "Softmax CE", "TREC DL19 re-rank nDCG@10", 0.726),
        ("table1", "Dual-encoder BERT (6-layer)", "NQ re-rank nDCG@10", 0.601),
        ("table1", "Cross-attention BERT (12-layer)", "MSMARCO retrieval MRR@10", None),
        ("table2", "small-bert-6-768, DE", "train MRR@10", 0.518),
        ("table2", "bert-base, CA", "test MRR@10", 0.368),
        ("table6", "100, M3SE", "nDCG@10", 0.381),
        ("table7", "M3SE", "TREC DL19 re-rank MRR@10", 0.875),
        ("table12", "M3SE + negative mining", "MRR@10", 0.324),
    ],
)
def test_cells_stand_where_the_paper_has_them(table, row, column, value):
    assert TABLES[table].value(row, column) == value


def test_the_noted_contradictions_are_in_the_data():
    assert TABLES["table1"].value("Softmax CE", "MSMARCO re-rank MRR@10") == 0.346
    assert TABLES["table6"].value("20, Softmax CE", "MRR@10") == 0.338
    train = [
        TABLES[name].value(row, "train MRR@10")
        for name, row in (("table2", "small-bert-6-768, DE"), ("table8", "0.0"), ("table9", "Baseline DE"))
    ]
    assert train == [0.518, 0.394, 0.619]


def test_doubtful_cells_are_zero():
    for table in TABLES.values():
        assert all(table.value(*place) == 0 for place in table.doubtful)
    assert len(TABLES["table1"].doubtful) == 8

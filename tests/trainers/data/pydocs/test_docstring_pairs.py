import pytest

from m3se.trainers.data.pydocs.docstring_pairs import make_pair


REST = "Parameters\n----------\nx : the matrix whose eigenvalues are wanted, square, symmetric and with real numbers."


def test_the_first_sentence_asks_and_name_and_rest_answer():
    documentation = f"Return the eigenvalues of a matrix. Uses LAPACK.\n\n{REST}"
    query, document = make_pair("numpy.linalg.eigh", documentation)
    assert query == "Return the eigenvalues of a matrix"
    assert document == f"numpy.linalg.eigh\nUses LAPACK.\n\n{REST}"


def test_a_summary_may_run_over_lines_and_loses_its_mark_up():
    query, document = make_pair(
        "a.b", f"Return **all** :class:`~abc.Node` objects\nof ``tree`` and `its` leaves.\n\n{REST}"
    )
    assert query == "Return all abc.Node objects of tree and its leaves"
    assert document == f"a.b\n{REST}"


def test_a_full_stop_inside_a_name_or_number_ends_no_sentence():
    query, _ = make_pair("a.b", f"Call numpy.linalg.eigh with 2.5 times the input matrix. Then stop.\n\n{REST}")
    assert query == "Call numpy.linalg.eigh with 2.5 times the input matrix"


def test_signatures_and_headings_before_the_summary_are_skipped():
    documentation = f"eigh(a, UPLO='L')\n\nEigenvalues\n===========\n\nReturn the eigenvalues of matrices.\n\n{REST}"
    assert make_pair("a.eigh", documentation) == ("Return the eigenvalues of matrices", f"a.eigh\n{REST}")


@pytest.mark.parametrize(
    ("documentation", "reason"),
    [
        (f"Alias for the function of that name.\n\n{REST}", "stub, alias, deprecation or directive"),
        (f">>> print one and two and three\n\n{REST}", "stub, alias, deprecation or directive"),
        (f"Deprecated since the version before this.\n\n{REST}", "stub, alias, deprecation or directive"),
        (
            f"input_ids (`torch.Tensor` of shape `(1,)`): some words here\n\n{REST}",
            "stub, alias, deprecation or directive",
        ),
        (f"Draw an ellipse.\n\n{REST}", "summary too short"),
        (f"{'very ' * 41}long.\n\n{REST}", "summary too long"),
        (f"atom = [CFWS] 1*atext [CFWS] / obs\n\n{REST}", "summary is mostly code"),
        ("Return the eigenvalues of a matrix.\n\nSee also eig.", "rest too short"),
        ("Return the eigenvalues of a matrix.", "rest too short"),
        ("eigh(a)", "only a signature or a heading"),
        (f"Return the roots of it.\n\nThis will return the roots of it. {REST}", "summary repeated in the rest"),
    ],
)
def test_what_asks_nothing_is_refused_with_the_reason(documentation, reason):
    assert make_pair("a.b", documentation) == reason

"""Files that nobody should write: awkward cells, lines added, dropped and repeated, bytes cut, flipped and put in."""

import json

from hypothesis import strategies as st


AWKWARD = [
    "", " ", "\t", "\x00", "a\x00b", "0", "-1", "1e999", "nan", "inf", "-inf", "1_0", "1e300", "٣", "None", "null",
    "true", "../../d0", "/etc/passwd", "a/b", "a\\b", "🙂", "👩‍👩‍👧‍👦", "שלום עולם",
    "\u202eabc", "\u2028", "\x85", "\x1c", "\xa0", "\ufeff",
    '"', "'", '""', "\\", "{}", "[]", "<script>", "|", "```", "é", "e\u0301", "x" * 3000, "d0", "d1", "q0", "q1",
]  # fmt: skip
CELLS = st.one_of(st.sampled_from(AWKWARD), st.text(st.characters(exclude_categories=["Cs"]), max_size=8))
VALUES = st.recursive(
    st.one_of(CELLS, st.none(), st.booleans(), st.integers(-9, 9), st.floats(), st.just("\ud800")),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(CELLS, inner, max_size=2)),
    max_leaves=3,
)
DOCUMENTS = {f"d{i}": f"text of number {i}" for i in range(4)}
QUERIES = {f"q{i}": f"query {i}" for i in range(3)}
GRADES = [["q0", "d0", "1"], ["q0", "d1", "0"], ["q1", "d1", "1"], ["q2", "d3", "2"]]


def plain(rows: list) -> bytes:
    return "".join((json.dumps(r) if isinstance(r, dict) else "\t".join(r)) + "\n" for r in rows).encode()


@st.composite
def changed_rows(draw, rows: list) -> list:
    """Rows with some cells, columns and lines changed; often none."""
    rows = json.loads(json.dumps(rows))
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(rows) - 1)) if rows else 0
        change = draw(st.sampled_from(["cell", "cell", "cell", "repeat", "drop", "column", "no column"]))
        if not rows:
            continue
        row = rows[place]
        if change == "repeat":
            rows.insert(place, row)
        elif change == "drop":
            del rows[place]
        elif isinstance(row, dict):
            change_record(draw, row, change)
        elif change == "column":
            row.append(draw(CELLS))
        elif change == "no column" and row:
            row.pop()
        elif row:
            row[draw(st.integers(0, len(row) - 1))] = draw(CELLS)
    return rows


def change_record(draw, row: dict, change: str) -> None:
    name = draw(st.sampled_from(sorted(row) or ["text"]))
    if change == "no column":
        row.pop(name, None)
    elif change == "column":
        row[draw(CELLS)] = draw(VALUES)
    else:
        row[name] = draw(VALUES)


@st.composite
def damaged(draw, content: bytes, damage: str | None = None) -> bytes:
    """The content cut short, with a flipped bit, with something put in, or other bytes altogether."""
    damage = damage or draw(st.sampled_from(["none", "none", "cut", "flip", "insert", "bytes"]))
    place = draw(st.integers(0, len(content)))
    if damage == "cut":
        return content[:place]
    if damage == "flip" and content:
        place = min(place, len(content) - 1)
        return content[:place] + bytes([content[place] ^ (1 << draw(st.integers(0, 7)))]) + content[place + 1 :]
    if damage == "insert":
        return content[:place] + draw(st.binary(max_size=6)) + content[place:]
    return draw(st.binary(max_size=60)) if damage == "bytes" else content


@st.composite
def file_of(draw, rows: list, separator: str = "\t") -> tuple[bytes, bool]:
    """The bytes of a file of changed rows, and whether they are left as they are: then it may be parsed simply."""
    rows = draw(changed_rows(rows))
    end = draw(st.sampled_from(["\n", "\n", "\r\n"]))
    texts = [json.dumps(row) if isinstance(row, dict) else separator.join(row) for row in rows]
    content = "".join(text + end for text in texts).encode("utf-8", "surrogatepass")
    damage = draw(st.sampled_from(["none"] * 6 + ["cut", "flip", "insert", "bytes", "mark"]))
    if damage not in ("none", "mark"):
        content = draw(damaged(content, damage))
    if damage == "mark":
        content = b"\xef\xbb\xbf" + content
    return content, damage in ("none", "mark")

"""Markdown of our reports: tables, names and texts from outside, p-values."""

import re


MARKUP = re.compile(r"([\\`*\[\]|])")
NONE = "–"


def escaped(text: str) -> str:
    """Return `text` on one line, without what Markdown or HTML would take for markup: links, tags, table cells."""
    return MARKUP.sub(r"\\\1", " ".join(text.split())).replace("<", "&lt;")


def table(header: list[str], rows: list[list[str]], text_columns: int = 1) -> str:
    """Return a table whose first `text_columns` columns stand on the left and the others on the right.

    Cells are taken as they are; the last line has no line break.
    """
    alignment = ["---"] * text_columns + ["---:"] * (len(header) - text_columns)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [header, alignment, *rows])


def p_value(value: float | None) -> str:
    """Return a p-value with three decimals; a dash for None."""
    if value is None:
        return NONE
    return "< 0.001" if value < 0.001 else f"{value:.3f}"

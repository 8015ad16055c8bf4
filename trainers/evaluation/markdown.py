"""Names and texts from outside in the Markdown that we write."""

import re


MARKUP = re.compile(r"([\\`*\[\]|])")


def escaped(text: str) -> str:
    """`text` on one line, without what Markdown or HTML would take for markup: links, pictures, tags, table cells."""
    return MARKUP.sub(r"\\\1", " ".join(text.split())).replace("<", "&lt;")

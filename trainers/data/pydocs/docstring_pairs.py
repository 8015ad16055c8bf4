"""Pairs of a search query and the document that answers it, made of docstrings, or the reason why one is no use."""

import re


MIN_QUERY_WORDS, MAX_QUERY_WORDS = 4, 40
MIN_DOCUMENT_WORDS = 15

SENTENCE_END = re.compile(r"(?<=[a-z0-9)\]`'\"]{2})[.!?](?=\s+[A-Z`\"'(\[]|\s*$)")
ROLE = re.compile(r":[a-z:]+:`~?([^`<]*?)(?:\s*<[^>`]*>)?`")
MARKUP = re.compile(r"``?([^`]*)``?_*|\*\*([^*]+)\*\*")
LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
SIGNATURE = re.compile(r"^[\w.\[\], *]*\w+\([^)]*\)\s*(->|$|:)|^\w+\s*->|^class \w+\(")
STUB = re.compile(
    r"^(alias (for|of|to)|see |same as|deprecated|\.\. |>>>|@|internal|private|todo|fixme|copyright|helper|"
    r"wrapper (for|around|of)|use `|base class for|not implemented|constructor|this (method|function|class|module) is)"
    r"|deprecated|%\(|\{[a-z_]+\}|^\w+ \([^)]*(tensor|optional|list|dict|str|int|float|bool|callable)\b",
    re.IGNORECASE,
)
UNDERLINE = re.compile(r"^\s*([=~\-*#^+])\1{2,}\s*$", re.MULTILINE)


def make_pair(name: str, documentation: str) -> tuple[str, str] | str:
    """Return (query, document) of a dedented docstring, or a string with the reason why there is none.

    The document repeats nothing of the query: it begins after it.
    """
    paragraph, _, rest = documentation.strip().partition("\n\n")
    while SIGNATURE.search(paragraph.split("\n")[0]) or _is_heading(paragraph):
        if not rest:
            return "only a signature or a heading"
        paragraph, _, rest = rest.strip().partition("\n\n")
    sentence, remainder = _first_sentence(paragraph)
    query = plain(sentence)
    if reason := _unusable(query):
        return reason
    body = f"{remainder}\n\n{rest}".strip()
    if len(body.split()) < MIN_DOCUMENT_WORDS:
        return "rest too short"
    if query.lower() in plain(body).lower():
        return "summary repeated in the rest"
    return query, f"{name}\n{body}"


def plain(text: str) -> str:
    """Return `text` on one line without reStructuredText and Markdown mark-up."""
    text = LINK.sub(r"\1", ROLE.sub(r"\1", text))
    text = MARKUP.sub(lambda match: match[1] or match[2] or "", text)
    return " ".join(text.split())


def _first_sentence(paragraph: str) -> tuple[str, str]:
    flat = " ".join(paragraph.split())
    end = SENTENCE_END.search(flat)
    return (flat[: end.start()], flat[end.end() :].strip()) if end else (flat.rstrip(".:; "), "")


def _is_heading(paragraph: str) -> bool:
    return bool(UNDERLINE.search(paragraph))


def _unusable(query: str) -> str | None:
    words = query.split()
    if STUB.search(query):
        return "stub, alias, deprecation or directive"
    if len(words) < MIN_QUERY_WORDS:
        return "summary too short"
    if len(words) > MAX_QUERY_WORDS:
        return "summary too long"
    if sum(word.strip("(),'\"-").isalpha() for word in words) < max(MIN_QUERY_WORDS - 1, 0.6 * len(words)):
        return "summary is mostly code"
    return None

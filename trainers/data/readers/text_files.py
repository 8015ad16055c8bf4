"""Text files as the field has them: plain, .gz or .zst, with or without a byte order mark, CRLF or LF.

Lines are numbered from 1 as an editor numbers them; blank ones are left out. Quotes are text like any other: tables
are split at tabs, nothing else. A line that cannot be read is an InputError with file, line and reason. A progress
bar appears when a file takes longer than three seconds.
"""

import codecs
import gzip
import json
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BufferedReader
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
from tqdm import tqdm

from m3se.trainers.errors import InputError, shorten


BLOCK = 1 << 20
LINES_PER_UPDATE = 10_000
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
BEFORE_ELEMENTS = re.compile(r"\s*\[?\s*")
HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")
BETWEEN_ELEMENTS = re.compile(r"\s*,?\s*")


def plain_name(file: Path) -> str:
    """Return the file's name without .gz or .zst."""
    return file.stem if file.suffix in (".gz", ".zst") else file.name


def find(folder: Path, *names: str) -> Path | None:
    """Find the first of `names` that `folder` has, plain or compressed."""
    for name in names:
        for suffix in ("", ".gz", ".zst"):
            if (file := folder / f"{name}{suffix}").is_file():
                return file
    return None


def read_lines(file: Path) -> Iterator[tuple[int, str]]:
    """Yield (number, line without its end) of every line that is not blank."""
    for number, line in enumerate(_raw_lines(file), start=1):
        if number == 1:
            line = line.removeprefix(BYTE_ORDER_MARK)
        line = line.rstrip(b"\r\n")
        if not line.strip():
            continue
        try:
            yield number, line.decode()
        except UnicodeDecodeError as error:
            reason = f"byte 0x{line[error.start]:02x} at column {error.start + 1} is not UTF-8"
            raise InputError(f"{file}, line {number}: {reason}") from None


def read_columns(file: Path, names: Sequence[str], separator: str | None = "\t") -> Iterator[tuple[int, list[str]]]:
    """Yield (number, values) of every line of a table with these columns; without separator, split at white space."""
    for number, line in read_lines(file):
        values = line.split(separator)
        if len(values) != len(names):
            raise InputError(wrong_columns(file, number, line, names))
        yield number, values


def wrong_columns(file: Path, number: int, line: str, names: Sequence[str]) -> str:
    """Return the message for a line that lacks these columns."""
    return f"{file}, line {number}: expected {len(names)} columns ({', '.join(names)}), got {shorten(line)}"


def read_records(file: Path) -> Iterator[tuple[int, dict]]:
    """Yield (number, object) of every line of a JSON-lines file."""
    for number, line in read_lines(file):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{file}, line {number}: not JSON: {error}") from None
        if not isinstance(record, dict):
            raise InputError(f"{file}, line {number}: expected a JSON object, got {shorten(line)}")
        refuse_half_characters(line, record, file, number)
        yield number, record


def refuse_half_characters(text: str, value: object, file: Path, number: int) -> None:
    """Raise InputError when JSON that was read from `text` holds half of a surrogate pair, which no UTF-8 can hold."""
    if HALF_CHARACTER.search(text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            half = f"\\u{ord(error.object[error.start]):04x}"
            raise InputError(f"{file}, line {number}: {half} is half a character") from None


def read_json_array(file: Path) -> Iterator[tuple[int, Any]]:
    """Yield (number of its first line, element) of a file that is one JSON array, an element in memory at a time.

    ijson is as fast, but it reads half a surrogate pair as a question mark without a word, and deep nesting takes all
    memory; both are refused here, with the line.
    """
    decoder = json.JSONDecoder()
    text, number, skipped = "", 1, BEFORE_ELEMENTS
    for block in _text_blocks(file):
        text += block
        position = 0
        while (start := skipped.match(text, position).end()) < len(text) and text[start] != "]":
            try:
                element, end = decoder.raw_decode(text, start)
            except ValueError:
                break  # not complete yet
            except RecursionError:
                raise InputError(f"{file}, line {number}: not JSON: too deeply nested") from None
            number += text.count("\n", position, start)
            refuse_half_characters(text[start:end], element, file, number)
            yield number, element
            number += text.count("\n", start, end)
            position, skipped = end, BETWEEN_ELEMENTS
        text = text[position:]
    if skipped.sub("", text, count=1).rstrip() != "]":
        number += text.count("\n", 0, skipped.match(text).end())
        raise InputError(f"{file}, line {number}: the JSON array breaks off or is not valid here: {shorten(text)}")


def starts_with(file: Path) -> str:
    """Return the first character of a file after white space and a byte order mark; empty when there is none."""
    return "".join(first_lines(file, 1)).lstrip()[:1]


def first_lines(file: Path, count: int) -> list[str]:
    """Return up to `count` first lines that are not blank."""
    return [line for _, line in islice(read_lines(file), count)]


def _raw_lines(file: Path) -> Iterator[bytes]:
    with _opened(file) as (stream, raw, bar):
        for number, line in enumerate(stream):
            yield line
            if number % LINES_PER_UPDATE == 0:
                bar.update(raw.tell() - bar.n)


def _text_blocks(file: Path) -> Iterator[str]:
    with _opened(file) as (stream, raw, bar):
        decoder = codecs.getincrementaldecoder("utf-8-sig")()
        while block := stream.read(BLOCK):
            try:
                yield decoder.decode(block)
            except UnicodeDecodeError as error:
                raise InputError(f"{file}: byte 0x{error.object[error.start]:02x} is not UTF-8") from None
            bar.update(raw.tell() - bar.n)


@contextmanager
def _opened(file: Path) -> Iterator[tuple[BinaryIO, BinaryIO, tqdm]]:
    """Open the stream of the content, the file beneath it, and a bar that counts the latter's bytes."""
    try:
        with (
            open(file, "rb") as raw,
            tqdm(total=os.path.getsize(file), unit="B", unit_scale=True, desc=file.name, delay=3) as bar,
        ):
            yield _decompressed(raw, file.suffix), raw, bar
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{file}: the compressed file is damaged: {error}") from None
    except OSError as error:  # the system's own errors (not found, a folder) have an errno, Arrow's have none
        reason = error.strerror if error.errno else f"the compressed file is damaged: {error}"
        raise InputError(f"{file}: {reason}") from None


def _decompressed(raw: BinaryIO, suffix: str) -> BinaryIO:
    """Decompress by suffix. fsspec takes half as long again for lines of .gz, and .zst needs a package more there."""
    if suffix == ".gz":
        return BufferedReader(gzip.GzipFile(fileobj=raw), BLOCK)
    if suffix == ".zst":
        return BufferedReader(pa.CompressedInputStream(pa.PythonFile(raw, "r"), "zstd"), BLOCK)
    return raw

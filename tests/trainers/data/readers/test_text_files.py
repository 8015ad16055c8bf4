import gzip
import json

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m3se.trainers.data.readers import text_files as files
from m3se.trainers.data.readers.text_files import (
    find,
    plain_name,
    read_columns,
    read_json_array,
    read_lines,
    read_records,
    starts_with,
)
from m3se.trainers.errors import InputError


TEXT = '1\tsaid "so\r\n\r\n2\tein „Satz"\n  \n03\tlast, no end'
LINES = [(1, '1\tsaid "so'), (3, '2\tein „Satz"'), (5, "03\tlast, no end")]


def zstd(data):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_lines_are_the_same_however_the_file_was_written(tmp_path, suffix, mark):
    data = mark + TEXT.encode()
    compress = {"": bytes, ".gz": gzip.compress, ".zst": zstd}[suffix]
    file = tmp_path / f"a.tsv{suffix}"
    file.write_bytes(compress(data))
    assert list(read_lines(file)) == LINES
    assert plain_name(file) == "a.tsv" and find(tmp_path, "b.tsv", "a.tsv") == file
    assert starts_with(file) == "1"


def test_files_compressed_in_parts_are_read_to_the_end(tmp_path):
    for name, compress in (("a.gz", gzip.compress), ("a.zst", zstd)):
        (tmp_path / name).write_bytes(compress(b"one\n") + compress(b"two\n"))
        assert [line for _, line in read_lines(tmp_path / name)] == ["one", "two"]


@pytest.mark.parametrize(("suffix", "compress"), [(".gz", gzip.compress), (".zst", zstd)])
def test_a_damaged_compressed_file_is_named(tmp_path, suffix, compress):
    file = tmp_path / f"a{suffix}"
    for damaged in (compress(TEXT.encode() * 100)[:-10], b"not compressed at all"):
        file.write_bytes(damaged)
        with pytest.raises(InputError, match=rf"a{suffix}: the compressed file is damaged"):
            list(read_lines(file))


def test_a_byte_that_is_not_utf8_is_located(tmp_path):
    (tmp_path / "a").write_bytes("gut\nschön".encode("latin-1"))
    with pytest.raises(InputError, match="line 2: byte 0xf6 at column 4 is not UTF-8"):
        list(read_lines(tmp_path / "a"))


def test_a_missing_file_and_a_folder_are_input_errors(tmp_path):
    with pytest.raises(InputError, match="nowhere: No such file"):
        list(read_lines(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="Is a directory"):
        list(read_lines(tmp_path))


def test_a_line_with_other_columns_is_shown(tmp_path):
    (tmp_path / "a").write_text("1\tone\n2\ttwo\tthree\n")
    with pytest.raises(InputError, match=r"a, line 2: expected 2 columns \(id, text\), got '2\\ttwo\\tthree'"):
        list(read_columns(tmp_path / "a", ["id", "text"]))


def test_columns_may_be_split_at_any_white_space(tmp_path):
    (tmp_path / "a").write_text("1  0\td 1\n")
    assert list(read_columns(tmp_path / "a", "abcd", separator=None)) == [(1, ["1", "0", "d", "1"])]


def test_records_are_objects(tmp_path):
    (tmp_path / "a").write_text('{"a": 1}\n\n[1]\n')
    with pytest.raises(InputError, match=r"a, line 3: expected a JSON object, got '\[1\]'"):
        list(read_records(tmp_path / "a"))
    (tmp_path / "a").write_text('{"a": 1}\n{"a":\n')
    with pytest.raises(InputError, match="a, line 2: not JSON"):
        list(read_records(tmp_path / "a"))


leaves = st.none() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
elements_of_arrays = st.lists(
    st.dictionaries(st.text(max_size=3), leaves | st.lists(leaves, max_size=2), max_size=3), max_size=3
)


@settings(max_examples=50)
@given(elements=elements_of_arrays, indent=st.none() | st.integers(0, 2))
def test_an_array_is_read_element_by_element_whatever_the_block_size(tmp_path_factory, elements, indent):
    file = tmp_path_factory.mktemp("array") / "a.json"
    text = json.dumps(elements, indent=indent, ensure_ascii=False)
    file.write_bytes(b"\n\n" + text.encode())
    for block in (2, 1 << 20):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(files, "BLOCK", block)
            assert [element for _, element in read_json_array(file)] == elements


def test_array_elements_know_their_line(tmp_path):
    (tmp_path / "a").write_text('[\n{"a":\n 1},\n\n{"a": 2}, {"a": 3}\n]\n')
    assert list(read_json_array(tmp_path / "a")) == [(2, {"a": 1}), (5, {"a": 2}), (5, {"a": 3})]


@pytest.mark.parametrize("text", ['[{"a": 1},\n{"a": 2', '[{"a": 1}\n', '[{"a": 1},\n{"a" 2}]', '[{"a": 1}]\nmore'])
def test_an_array_that_breaks_off_is_an_input_error_with_its_line(tmp_path, text):
    (tmp_path / "a").write_text(text)
    with pytest.raises(InputError, match=r"a, line [12]: the JSON array breaks off or is not valid here"):
        list(read_json_array(tmp_path / "a"))

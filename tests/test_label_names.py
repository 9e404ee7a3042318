"""Names and numbers of labels in files and data sets: damaged, hostile, and many."""

import codecs
import json
import time

import pytest
from datasets import Dataset

from flux_hf.data import load_video_dataset, read_label_names


@pytest.mark.parametrize("count", [30_000, 60_000])
def test_many_names_take_no_time(tmp_path, count):
    """Every name was compared with every other: 65 s for 50,000."""
    names = [f"label {number}" for number in range(count)]
    (tmp_path / "names.txt").write_text("\n".join(names))
    (tmp_path / "names.json").write_text(json.dumps({name: str(number) for number, name in enumerate(names)}))
    started = time.process_time()
    assert read_label_names(tmp_path / "names.txt") == read_label_names(tmp_path / "names.json") == names
    assert time.process_time() - started < 2


def test_byte_order_marks_and_line_ends(tmp_path):
    (tmp_path / "a.txt").write_bytes(codecs.BOM_UTF8 + "größe\r\nklein\r\n\r\n".encode())
    assert read_label_names(tmp_path / "a.txt") == ["größe", "klein"]
    (tmp_path / "a.json").write_bytes(codecs.BOM_UTF8 + b'["a ", "b\\u2028c"]')
    assert read_label_names(tmp_path / "a.json") == ["a", "b\u2028c"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "a\nb\nä".encode("latin-1"), r"a\.txt, line 3: byte 0xe4"),
        ("a.txt", "a\nb".encode("utf-16"), r"a\.txt, line 1.*UTF-8"),
        ("a.txt", b"a\nb\0c\n", r"a\.txt, line 2: byte 0x00"),
        ("a.txt", b"", r"a\.txt: there must be 1 to \d+ names, got 0"),
        ("a.txt", b"a\n\nb", "label 1 is ''"),
        ("a.txt", b"x\n" * 70_000, "got 70000"),
        ("a.json", b"[" * 100_000, r"a\.json"),
        ("a.json", b'{"a": 0, "a": 1}', r"a\.json.*'a' is there twice"),
        ("a.json", b'{"a": 0, "b": 0}', r"a\.json: 'a' and 'b' have the same number 0"),
        ("a.json", b'{"a": 0, "b": 1000000000}', r"a\.json.*0 to 1, each once; that of 'b' is 1000000000"),
        ("a.json", b'{"a": 0.5}', r"a\.json.*that of 'a' is 0\.5"),
        ("a.json", b'{"a": -1}', r"a\.json.*that of 'a' is -1"),
        ("a.json", b'{"a": true}', r"a\.json.*that of 'a' is True"),
        ("a.json", b'{"a": [0]}', r"a\.json.*that of 'a' is \[0\]"),
        ("a.json", b'{"a": "zero"}', r"a\.json.*that of 'a' is 'zero'"),
        ("a.json", b'["a", 5]', r"a\.json.*label 1 is 5"),
        ("a.json", b"7", r"a\.json must hold a list of names"),
    ],
)
def test_files_that_are_no_names(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_label_names(tmp_path / name)


@pytest.mark.parametrize("number", ["65536", "1000000000", "9" * 30, "9" * 5000])
def test_a_list_with_a_label_that_no_model_has(tmp_path, number):
    """Every number up to the largest is a class: 10**9 of them were a MemoryError."""
    (tmp_path / "train.csv").write_text(f"a.mp4 0\nb.mp4 {number}\n")
    with pytest.raises(ValueError, match=r"train\.csv, line 2.*accepted are 0 to 65535"):
        load_video_dataset(tmp_path, "train")
    with pytest.raises(ValueError, match=r"train\.csv, line 2.*only 2 label_names"):
        load_video_dataset(tmp_path, "train", label_names=["p", "q"])


def test_lists_in_other_encodings(tmp_path, make_video):
    make_video("grün.mp4", frames=2)
    (tmp_path / "train.csv").write_bytes("grün.mp4 0\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"train\.csv, line 1: byte 0xfc"):
        load_video_dataset(tmp_path, "train")
    (tmp_path / "train.csv").write_bytes(codecs.BOM_UTF8 + "grün.mp4 0\r\n".encode())
    assert load_video_dataset(tmp_path, "train")[0]["video"]["path"] == str(tmp_path / "grün.mp4")
    (tmp_path / "train.csv").write_bytes(b"a.mp4 0\nb\0.mp4 0\n")
    with pytest.raises(ValueError, match=r"train\.csv, line 2"):
        load_video_dataset(tmp_path, "train")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 10**9], r"row 1: the label 1000000000 is out of bounds, accepted are 0 to 65535"),
        ([0, -1], r"row 1: the label -1 is out of bounds"),
        ([None, 0], "row 0 has no label"),
        (["a", None], "row 1 has no label"),
        ([0.0, 1.5], "names or whole numbers"),
        ([[0], [1]], "names or whole numbers"),
    ],
)
def test_labels_of_a_data_set_that_are_none(tmp_path, labels, message):
    videos = [{"bytes": b"", "path": f"{row}.mp4"} for row in range(2)]
    Dataset.from_dict({"video": videos, "label": labels}).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(ValueError, match=message):
        load_video_dataset(tmp_path, "train")

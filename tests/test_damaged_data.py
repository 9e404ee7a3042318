"""Damaged lists, shards and results: one error, with the name of the file."""

import re

import pytest

from flux_hf.cli import run_command
from flux_hf.data import load_video_dataset
from flux_hf.evaluation.records import RecordFolder, load_records
from flux_hf.pretraining.teacher_cache import TeacherCache
from tests import tiny_training, video_datasets


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("layout", ["webdataset", "parquet"])
@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"no archive" * 200], ids=["cut", "other"])
def test_a_damaged_shard_is_named(tmp_path, layout, damage, streaming):
    folder = getattr(video_datasets, layout)(tmp_path / "set", {"train": 4})
    shard = sorted(folder.iterdir())[-1]
    shard.write_bytes(damage(shard.read_bytes()))
    with pytest.raises(ValueError, match=rf"{shard} is damaged: "):
        clips = load_video_dataset(folder, "train", streaming=streaming, label_names=video_datasets.CLASSES)
        tiny_training.trainer(tmp_path / "run", train=clips, max_steps=4, shuffle_buffer=1).train()


@pytest.mark.parametrize(("name", "content"), [("metadata.jsonl", '{"file_name": '), ("metadata.csv", 'a,b\n"c')])
def test_a_damaged_metadata_file_is_named(tmp_path, name, content):
    video_datasets.write_video(tmp_path / "train" / "a.mp4", 0)
    (tmp_path / "train" / name).write_text(content)
    with pytest.raises(ValueError, match=rf"{re.escape(name)} is damaged"):
        load_video_dataset(tmp_path, "train")


LISTS = {
    "train.csv": (video_datasets.kinetics, [b"\xff\xfe\0a 0", b"", b"a.mp4"]),
    "something-something-v2-train.json": (
        video_datasets.ssv2,
        [b"", b"\xff\xfe\0[", b"[1]", b"[null]", b"{}", b"null", b'[{"id": 1}]', b'[{"id": 1, "template": null}]'],
    ),
    "COIN.json": (
        video_datasets.coin,
        [
            b"", b"\xff\xfe\0{", b"[]", b"{}", b"null", b'{"database": [1]}', b'{"database": {"a": null}}',
            b'{"database": {"a": {"class": "x", "subset": "training"}}}',
            b'{"database": {"a": {"class": "x", "subset": "training", "start": "z", "end": 1}}}',
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LISTS)
def test_a_damaged_list_is_named(tmp_path, name):
    make, damages = LISTS[name]
    folder = make(tmp_path, {"train": 1})
    whole = (folder / name).read_bytes()
    cut = [whole[: len(whole) // 2]] * (name != "train.csv")  # where a line of csv ends nothing can be told
    for damaged in (*damages, *cut):
        (folder / name).write_bytes(damaged)
        with pytest.raises(ValueError, match=re.escape(name)):
            load_video_dataset(folder, "train")


@pytest.mark.parametrize("line", [b"{", b"\xff", b"3", b"{}", b'{"row": 1}', b""])
def test_a_damaged_record_is_named_with_its_line(tmp_path, line):
    records = RecordFolder(tmp_path, {})
    for row in (0, 1):
        records.append({"row": row, "reason": ""})
    file = tmp_path / "videos.0.jsonl"
    assert [record["row"] for record in load_records(tmp_path)] == [0, 1]
    file.write_bytes(line + b"\n" + file.read_bytes())
    with pytest.raises(ValueError, match=r"videos\.0\.jsonl, line 1 is damaged"):
        load_records(tmp_path)


def test_a_damaged_output_of_the_teacher_is_named(tmp_path, monkeypatch):
    cache = TeacherCache.__new__(TeacherCache)
    cache.folder = tmp_path
    (tmp_path / "a.safetensors").write_bytes(b"\x10")
    with pytest.raises(ValueError, match=r"a\.safetensors is damaged.*; delete it"):
        cache.get(["a"], "cpu")


def test_an_error_in_a_loading_worker_is_one_line_too():
    def fail(_):
        trace = "Original Traceback (most recent call last):\n  File\nValueError: a.tar is damaged: it\nends"
        raise ValueError(f"Caught ValueError in DataLoader worker process 0.\n{trace}")

    with pytest.raises(SystemExit, match="^flux-hf x: error: a.tar is damaged: it ends$"):
        run_command("flux-hf x", fail, [])

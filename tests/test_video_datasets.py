"""Loading data sets in every layout, and reading the right frames of their rows."""

import json
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from datasets import ClassLabel, Dataset

from flux_hf import VideoDecodeError
from flux_hf.data import MissingSplitError, VideoRows, cache_clips, clip_cache, load_video_dataset, read_label_names
from flux_hf.data.reading import read_clip, row_name
from flux_hf.provenance import video_names
from tests import video_datasets
from tests.full_disk import files_of_at_most
from tests.test_url_ranges import Server, serving
from tests.video_files import read_numbers

SSV2_LABELS = ["Holding something", "Moving something and something closer to each other", "Pushing something"]
LAYOUTS = {
    "videofolder": (video_datasets.videofolder, {}),
    "parquet": (video_datasets.parquet, {}),
    "kinetics": (video_datasets.kinetics, {"label_names": "labels.txt"}),
    "ssv2": (video_datasets.ssv2, {}),
    "coin": (video_datasets.coin, {}),
    "webdataset cls": (video_datasets.webdataset, {"label_names": video_datasets.CLASSES}),
    "webdataset txt": (lambda *a: video_datasets.webdataset(*a, label="txt"), {"label_names": video_datasets.CLASSES}),
    "webdataset json webm": (
        lambda *a: video_datasets.webdataset(*a, label="json", suffix="webm"),
        {"label_names": video_datasets.CLASSES},
    ),
}


def first_number(row: dict) -> int:
    return read_numbers(read_clip(row, lambda total: [0]))[0]


@pytest.mark.long
@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout(tmp_path, layout, streaming):
    make, options = LAYOUTS[layout]
    folder = make(tmp_path / "set", {"train": 5, "test": 2})
    if options.get("label_names") == "labels.txt":
        options = {"label_names": folder / "labels.txt"}
    dataset = load_video_dataset(folder, "train", streaming=streaming, **options)
    names = dataset.features["label"].names
    assert isinstance(dataset.features["label"], ClassLabel)
    assert names == (SSV2_LABELS if layout == "ssv2" else video_datasets.CLASSES)
    offset = 10 if layout == "coin" else 0
    labels = {first_number(row) // 100: row["label"] for row in dataset}
    assert labels == {0: 0, 1: 1, 2: 2, 3: 0, 4: 1}
    assert {first_number(row) % 100 for row in dataset} == {offset}
    assert len(list(load_video_dataset(folder, "test", streaming=streaming, **options))) == 2


def test_rows_that_are_elsewhere(tmp_path):
    """Addresses in a list file and in parquet, and what `datasets` gives for a zip file that is streamed."""
    folder = video_datasets.kinetics(tmp_path / "set", {"train": 3})
    clips = sorted((folder / "train").iterdir())
    with zipfile.ZipFile(tmp_path / "set" / "v.zip", "w") as archive:
        archive.write(clips[1], "train/running/b.mp4")
    server = Server(clips[2].read_bytes())
    with serving(server) as address:
        url = f"{address.replace('://', '://me:s3cret@')}/c.mp4?key=s3cret"
        zipped = f"zip://train/running/b.mp4::{folder}/v.zip"
        (folder / "train.csv").write_text(f"{zipped} 1\n{url} 2\ntrain/{clips[0].name} 0\n")
        rows = load_video_dataset(folder, "train")
        assert [first_number(row) // 100 for row in rows] == [1, 2, 0]
        assert [row_name(row, 0) for row in rows] == [zipped, f"{address}/c.mp4", str(clips[0])]
        assert not any("s3cret" in name for name in video_names(rows))

        (tmp_path / "parquet").mkdir()
        Dataset.from_dict({"video": [zipped, url], "label": [1, 2]}).to_parquet(tmp_path / "parquet" / "train.parquet")
        for streaming in (False, True):
            rows = load_video_dataset(tmp_path / "parquet", "train", streaming=streaming, label_names=["a", "b", "c"])
            assert [first_number(row) // 100 for row in rows] == [1, 2]

    (tmp_path / "zipped").mkdir()
    (folder / "v.zip").rename(tmp_path / "zipped" / "v.zip")
    (row,) = load_video_dataset(tmp_path / "zipped", "train", streaming=True, labelled=False)
    assert row["video"]["path"].startswith("zip://") and first_number(row) // 100 == 1


def test_start_and_end_times_limit_the_frames(tmp_path):
    rows = VideoRows(load_video_dataset(video_datasets.coin(tmp_path, {"train": 2}), "train"))
    assert read_numbers(rows.read(1, np.arange)) == list(range(110, 120))


@pytest.mark.parametrize(
    ("start", "end", "numbers"), [(None, 0.2, range(5)), (1.1, None, range(27, 30)), (0.99, 9, None)]
)
def test_one_time_alone_and_times_beyond_the_end(tmp_path, start, end, numbers):
    path = video_datasets.write_video(tmp_path / "a.mp4", 0)
    row = {"video": {"path": str(path), "bytes": None}, "start": start, "end": end}
    expected = list(range(24, 30)) if numbers is None else list(numbers)
    assert read_numbers(read_clip(row, np.arange)) == expected


def test_key_frames_count_from_the_start_time(tmp_path):
    path = video_datasets.write_video(tmp_path / "a.mp4", 0, options={"g": "7", "sc_threshold": "0"})
    row = {"video": {"path": str(path), "bytes": None}, "start": 0.2, "end": 1.0}
    seen = []

    def choose(total: int) -> list[int]:
        seen.append(total)
        return [1, 9, 19]

    frames = read_clip(row, choose, snap_to_keyframes=True)
    # 20 frames from number 5 on in three segments, 5 to 10, 11 to 17, 18 to 24; key frames at 7, 14 and 21
    assert set(seen) == {20} and read_numbers(frames) == [7, 14, 21]
    assert read_numbers(read_clip(row, choose)) == [6, 14, 24]


@pytest.mark.parametrize(("start", "end"), [(5.0, 6.0), (0.8, 0.4), (-1.0, 0.5)])
def test_times_without_a_frame(tmp_path, start, end):
    path = video_datasets.write_video(tmp_path / "a.mp4", 0)
    with pytest.raises(VideoDecodeError, match=r"a\.mp4.*no frame between"):
        read_clip({"video": {"path": str(path), "bytes": None}, "start": start, "end": end}, np.arange)


def test_cached_clips_keep_to_the_times(tmp_path):
    dataset = load_video_dataset(video_datasets.coin(tmp_path / "coin", {"train": 3}), "train")
    cached = cache_clips(dataset, tmp_path / "cache", num_frames=10, size=48, num_workers=1)
    assert cached.clips.shape == (3, 10, 48, 48, 3)
    assert cached.name(2).endswith("train002.mp4")
    alone = read_clip(dataset[2], np.arange, short_side=48)[:, :, 8:56]
    np.testing.assert_array_equal(cached.read(2, np.arange), alone)

    path = dataset[0]["video"]["path"]
    (tmp_path / "addresses").mkdir()
    (tmp_path / "addresses" / "train.csv").write_text(f"file://{path} 0\n")
    elsewhere = load_video_dataset(tmp_path / "addresses", "train")
    cached = cache_clips(elsewhere, tmp_path / "cache", num_frames=30, size=48, num_workers=1)
    assert read_numbers(cached.read(0, np.arange)) == list(range(30))


def test_a_damaged_cache_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(clip_cache, "worker_processes", ThreadPoolExecutor)  # which is there at once
    dataset = load_video_dataset(video_datasets.kinetics(tmp_path / "set", {"train": 1}), "train")
    options = {"directory": tmp_path / "cache", "num_frames": 2, "size": 16, "num_workers": 1}
    cache_clips(dataset, **options)
    (path,) = (tmp_path / "cache").iterdir()
    content = path.read_bytes()
    shape = content.replace(b"(1, 2, 16", b"(1, 2, 12")
    for damaged in (b"", content[:40], content[:-1], b"\0" * len(content), shape):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=rf"{path} is damaged, delete it"):
            cache_clips(dataset, **options)


def test_a_cache_that_the_disk_has_no_room_for_is_refused_before_decoding(tmp_path, monkeypatch):
    dataset = load_video_dataset(video_datasets.kinetics(tmp_path / "set", {"train": 1}), "train")
    monkeypatch.setattr(clip_cache, "worker_processes", lambda _: pytest.fail("decoding began"))
    with files_of_at_most(1000), pytest.raises(OSError, match=r"clips_.*\.npy cannot be written: .*clips take 0\.1 MB"):
        cache_clips(dataset, tmp_path / "cache", num_frames=20, size=40)
    assert not list((tmp_path / "cache").iterdir())


@pytest.mark.parametrize("separator", [" ", ",", "\t", ", "])
def test_separators_of_list_files(tmp_path, separator):
    video_datasets.write_video(tmp_path / "v" / "a b.mp4", 0)
    (tmp_path / "train.csv").write_text(f"v/a b.mp4{separator}2\n\n")
    dataset = load_video_dataset(tmp_path, "train")
    assert dataset[0]["label"] == 2
    assert dataset.features["label"].names == ["0", "1", "2"]
    assert first_number(dataset[0]) == 0


def test_videos_of_a_list_somewhere_else(tmp_path):
    video_datasets.write_video(tmp_path / "videos" / "a.mp4", 3)
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "val.csv").write_text("a.mp4 0\n")
    assert first_number(load_video_dataset(tmp_path / "lists", "val", video_root=tmp_path / "videos")[0]) == 300
    with pytest.raises(FileNotFoundError, match="video_root"):
        load_video_dataset(tmp_path / "lists", "val")


@pytest.mark.parametrize(
    ("text", "message"),
    [("a.mp4 0\nb.mp4\n", r"train\.csv, line 2"), ("a.mp4 x\n", "line 1"), ("", "no video"), ("a.mp4 7\n", "label 7")],
)
def test_list_files_that_make_no_sense(tmp_path, text, message):
    video_datasets.write_video(tmp_path / "a.mp4", 0)
    (tmp_path / "train.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_video_dataset(tmp_path, "train", label_names=["p", "q"])


def test_ssv2_template_that_has_no_label(tmp_path):
    folder = video_datasets.ssv2(tmp_path, {"train": 1})
    (folder / "something-something-v2-test.json").write_text(json.dumps([{"id": "1000"}]))
    with pytest.raises(ValueError, match=r"v2-test\.json, entry 1000"):
        load_video_dataset(folder, "test")


def test_a_missing_coin_video_stays_in_the_set(tmp_path):
    folder = video_datasets.coin(tmp_path, {"train": 3})
    (folder / "videos" / "1" / "train001.mp4").unlink()
    dataset = load_video_dataset(folder, "train")
    assert len(dataset) == 3
    with pytest.raises(VideoDecodeError, match=r"train001\.mp4"):
        read_clip(dataset[1], np.arange)


def test_files_that_would_be_left_out_are_named(tmp_path):
    video_datasets.write_video(tmp_path / "train" / "running" / "a.mp4", 0)
    video_datasets.write_video(tmp_path / "train" / "running" / "b.webm", 0)
    with pytest.raises(ValueError, match=r"\.webm"):
        load_video_dataset(tmp_path, "train")


def test_streamed_labels_need_names(tmp_path):
    folder = video_datasets.webdataset(tmp_path, {"train": 2})
    with pytest.raises(ValueError, match="label_names"):
        load_video_dataset(folder, "train", streaming=True)
    assert load_video_dataset(folder, "train").features["label"].names == ["0", "1"]


@pytest.mark.parametrize("streaming", [False, True])
def test_a_label_without_a_name(tmp_path, streaming):
    folder = video_datasets.webdataset(tmp_path, {"train": 3}, label="txt")
    with pytest.raises(ValueError, match="playing a flute"):
        list(load_video_dataset(folder, "train", streaming=streaming, label_names=["jumping", "running"]))


def test_label_files(tmp_path):
    (tmp_path / "a.json").write_text('{"second": "1", "first": "0"}')
    assert read_label_names(tmp_path / "a.json") == ["first", "second"]
    (tmp_path / "b.json").write_text('{"second": "2", "first": "0"}')
    with pytest.raises(ValueError, match=r"b\.json"):
        read_label_names(tmp_path / "b.json")
    with pytest.raises(ValueError, match="twice: x"):
        read_label_names(["x", "y", "x"])


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("layout", ["videofolder", "parquet", "kinetics", "ssv2", "coin"])
def test_a_split_that_is_not_there(tmp_path, layout, streaming):
    folder = LAYOUTS[layout][0](tmp_path / "set", {"train": 2, "test": 1})
    there = "train, training, validation, val, test, testing" if layout == "coin" else "train, test"
    with pytest.raises(MissingSplitError, match=f"set.* has no split 'dev', it has {there}$"):
        load_video_dataset(folder, "dev", streaming=streaming)


def test_a_part_of_a_split(tmp_path):
    folder = video_datasets.videofolder(tmp_path, {"train": 4})
    assert len(load_video_dataset(folder, "train[:50%]")) == 2
    with pytest.raises(MissingSplitError, match="it has train"):
        load_video_dataset(folder, "test[:50%]")

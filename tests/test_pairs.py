"""Where pairs of videos and captions come from, and what is said of those that are none."""

import json
import shutil

import numpy as np
import pytest
from datasets import Dataset, IterableDataset

from flux_hf.data import MissingSplitError
from flux_hf.text.pairs import PairRows, draw_caption, is_pairs, load_pairs
from tests import tiny_aligning, video_datasets
from tests.video_files import read_numbers


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for number in range(3):
        video_datasets.write_video(folder / f"{number}.mp4", number)
    return folder


@pytest.fixture
def folder(videos, tmp_path):
    shutil.copytree(videos, tmp_path / "set")
    return tmp_path / "set"


def captions(dataset) -> list[list[str]]:
    return [row["captions"] for row in dataset]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("pairs.csv", 'video,caption\n0.mp4,"one, two"\n1.mp4,null\n1.mp4,123\n'),
        ("pairs.tsv", "caption\tvideo_path\none, two\t0.mp4\nnull\t1.mp4\n123\t1.mp4\n"),
        ("pairs.jsonl", '{"video": "0.mp4", "text": "one, two"}\n\n{"video": "1.mp4", "text": ["null", "123"]}\n'),
        ("pairs.json", '[{"path": "0.mp4", "sentences": "one, two"}, {"path": "1.mp4", "sentences": ["null", "123"]}]'),
        ("pairs.csv", 'video, caption\n0.mp4, "one, two"\n1.mp4, null\n1.mp4, 123\n'),
        ("pairs.csv", "video_id,sentence\n0,\"one, two\"\n1,null\n1,123\n"),
    ],
)  # fmt: skip
def test_list_files(folder, name, content):
    """Several rows of one video are its captions; what looks like a number or like nothing is text."""
    (folder / name).write_text(content)
    dataset = load_pairs(folder / name)
    assert captions(dataset) == [["one, two"], ["null", "123"]]
    assert read_numbers(PairRows(dataset).read(1, lambda total: np.array([2])))[0] == 102


def test_a_list_with_times_and_another_root(videos, tmp_path):
    (tmp_path / "list.csv").write_text("video,start_time,end_time,caption\n2.mp4,0.4,0.8,later\n2.mp4,,,whole\n")
    dataset = load_pairs(tmp_path / "list.csv", video_root=videos)
    assert captions(dataset) == [["later"], ["whole"]]
    totals = []
    for row in range(2):
        PairRows(dataset).read(row, lambda total: totals.append(total) or np.array([0]))
    assert totals[0] < totals[1] == 30


def test_captions_of_several_lines_and_odd_characters(folder):
    (folder / "pairs.csv").write_bytes('\ufeffvideo,caption\r\n0.mp4,"one\r\ntwo"\r\n1.mp4,a\u2028b \r\n'.encode())
    assert captions(load_pairs(folder / "pairs.csv")) == [["one\r\ntwo"], ["a\u2028b"]]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("layout", ["split", "top", "list"])
def test_folders(folder, layout, streaming):
    rows = [{"file_name": f"{number}.mp4", "caption": [f"clip {number}", "again"]} for number in range(3)]
    (folder / "test").mkdir()
    if layout == "split":
        for path in folder.glob("*.mp4"):
            path.rename(folder / "test" / path.name)
        (folder / "test" / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif layout == "top":
        (folder / "0.mp4").rename(folder / "test" / "0.mp4")
        rows[0]["file_name"] = "test/0.mp4"
        (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    dataset = load_pairs(folder, "test", streaming=streaming)
    assert is_pairs(dataset) and isinstance(dataset, IterableDataset) == streaming
    assert captions(dataset) == [[f"clip {number}", "again"] for number in range(1 if layout == "top" else 3)]


@pytest.mark.parametrize("streaming", [False, True])
def test_embedded_videos_with_a_text_each(folder, tmp_path, streaming):
    """As webdataset shards name captions, and as a Hub set comes; videos without a path are never taken for one."""
    rows = {"video": [{"bytes": path.read_bytes(), "path": None} for path in sorted(folder.glob("*.mp4"))]}
    Dataset.from_dict(rows | {"txt": ["a", "b", "c"]}).to_parquet(tmp_path / "parquet" / "train-0.parquet")
    dataset = load_pairs(tmp_path / "parquet", streaming=streaming)
    assert captions(dataset) == [["a"], ["b"], ["c"]]
    assert set(next(iter(dataset))) == {"video", "captions"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("video,words\n0.mp4,x\n", r"pairs.csv has no column of captions: it has video, words; accepted is caption or"),
        ("clip,caption\n0.mp4,x\n", r"pairs.csv has no column of videos: it has clip, caption"),
        ("video,caption\n0.mp4,x\n1.mp4,  \n", r"pairs.csv, line 3: caption holds an empty caption"),
        ("video,caption\n0.mp4,x\n1.mp4\n", r"pairs.csv, line 3: caption must hold a caption .* got null"),
        ("video,caption\n0.mp4,one, two\n", r"pairs.csv, line 2: more values than the header has columns; quote them"),
        ("video,caption\n,x\n", r"pairs.csv, line 2: video must name a video"),
        ("video,caption,start\n0.mp4,x,soon\n", r"pairs.csv, line 2: start must be seconds, got .soon"),
        ("video,caption\n", r"pairs.csv lists no video"),
        ("video,caption\n0.mp4," + "x" * 200_000 + "\n", r"pairs.csv, line \d: field larger than field limit"),
    ],
)  # fmt: skip
def test_lists_that_are_none(folder, content, message):
    (folder / "pairs.csv").write_text(content)
    with pytest.raises(ValueError, match=message):
        load_pairs(folder / "pairs.csv")


def test_other_mistakes(folder, tmp_path):
    (folder / "pairs.csv").write_text("video,caption\nmissing.mp4,x\n")
    with pytest.raises(FileNotFoundError, match=r"missing.mp4, the first video of .*pairs.csv, does not exist"):
        load_pairs(folder / "pairs.csv")
    (folder / "pairs.jsonl").write_text('{"video": "0.mp4", "caption": "x"}\n{"video": ')
    with pytest.raises(ValueError, match=r"pairs.jsonl, line 2 is damaged or no JSON"):
        load_pairs(folder / "pairs.jsonl")
    with pytest.raises(ValueError, match=r"has no column of captions: it has video, caption; accepted is other"):
        load_pairs(folder / "pairs.csv", caption_column="other")
    with pytest.raises(ValueError, match=r"0.mp4 is no list of pairs; accepted are .csv"):
        load_pairs(folder / "0.mp4")
    unlabelled = video_datasets.videofolder(tmp_path / "plain", {"train": 2})
    with pytest.raises(ValueError, match=r"plain \(train\) has no column of captions: it has video"):
        load_pairs(unlabelled)
    (folder / "train.jsonl").write_text('{"video": "0.mp4", "caption": "x"}')
    with pytest.raises(MissingSplitError, match=r"no split 'validation', it has train"):
        load_pairs(folder, "validation")
    with pytest.raises(MissingSplitError, match=r"no split 'test', it has train"):
        load_pairs(tiny_aligning.captioned_folder(tmp_path / "captioned", {"train": 2}), "test")


def test_a_caption_is_drawn_for_every_epoch():
    texts = ["a", "b", "c"]
    drawn = [draw_caption(texts, (0, epoch, 5, 0)) for epoch in range(60)]
    assert drawn == [draw_caption(texts, (0, epoch, 5, 0)) for epoch in range(60)]
    assert min(drawn.count(text) for text in texts) > 8
    assert drawn != [draw_caption(texts, (1, epoch, 5, 0)) for epoch in range(60)]

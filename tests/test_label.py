"""`flux-hf label` and `VideoLabeler` on real files, undamaged and damaged."""

import csv
import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset

from flux_hf import FluxVideoClassificationPipeline
from flux_hf.batch import VideoLabeler
from flux_hf.batch import decoding as label_decoding
from flux_hf.batch.output import LabelOutput
from flux_hf.batch.windows import window_times
from flux_hf.plugin import load_video_classifier, load_video_processor
from flux_hf.scripts.label import main as label
from flux_hf.text.videos import load_videos
from tests.damaged_videos import KINDS, damaged
from tests.video_files import encode_video

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Files of several encoders in two folders, one of them cut off and one that is no video."""
    folder = tmp_path_factory.mktemp("films")
    (folder / "deeper").mkdir()
    for number, kind in enumerate(("mp4, several slices", "avi, mpeg4, B-frames", "mpeg-ts")):
        container = KINDS[kind].get("container", "mp4").replace("mpegts", "ts")
        content = encode_video(60 + 10 * number, **KINDS[kind])
        (folder / "deeper" / f"{number}.{container}").write_bytes(content)
    (folder / "a.mp4").write_bytes(encode_video(30, height=120, width=90))
    (folder / "cut off.mp4").write_bytes(encode_video(30)[:900])
    (folder / "nothing.mp4").write_bytes(b"nothing to see")
    shutil.copy(FIXTURES / "packed_b_frames.avi", folder)
    return folder


@pytest.fixture(scope="module")
def pipe(tiny_checkpoint):
    model = load_video_classifier(tiny_checkpoint).eval()
    return FluxVideoClassificationPipeline(
        model=model, video_processor=load_video_processor(tiny_checkpoint, model), device="cpu"
    )


def command(videos, checkpoint, output, *more) -> list[str]:
    words = [str(videos), "--checkpoint", str(checkpoint), "--output", str(output)]
    return [*words, "--dtype", "float32", "--num_workers", "0", *more]


def read(path: Path) -> list[dict]:
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row |= {name: json.loads(row[name]) for name in ("labels", "scores")}
        row |= {name: row[name] or None for name in ("label", "error")}
    return rows


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_answers_are_those_of_the_pipeline(videos, tiny_checkpoint, pipe, tmp_path, suffix, capsys):
    output = tmp_path / f"labels{suffix}"
    label(command(videos, tiny_checkpoint, output, "--batch_size", "3", "--token_budget", "96", "--top_k", "3"))
    rows = read(output)
    paths = sorted(str(path) for path in videos.rglob("*") if path.is_file())
    assert [row["path"] for row in rows] == paths
    for row in rows:
        if Path(row["path"]).stem in ("cut off", "nothing"):
            assert row["path"] in row["error"] and row["label"] is None and row["labels"] == row["scores"] == []
            continue
        expected = pipe(row["path"], token_budget=96, top_k=3)
        assert row["error"] is None and int(row["token_budget"]) == 96 and float(row["milliseconds"]) > 0
        assert row["labels"] == [answer["label"] for answer in expected] and row["label"] == row["labels"][0]
        assert row["scores"] == pytest.approx([answer["score"] for answer in expected], abs=2e-6)
    assert "7 videos, 2 unreadable" in capsys.readouterr().out


def test_it_goes_on_and_finds_new_files(videos, tiny_checkpoint, tmp_path, monkeypatch, capsys):
    folder, output = tmp_path / "films", tmp_path / "out.jsonl"
    shutil.copytree(videos, folder)
    label(command(folder, tiny_checkpoint, output))
    whole = read(output)
    records = tmp_path / "out.jsonl.videos" / "videos.0.jsonl"
    lines = records.read_bytes().splitlines(keepends=True)
    records.write_bytes(b"".join(lines[:4]) + lines[4][:50])  # what a kill in the midst of a line leaves
    read_files, decode = [], label_decoding.Decoder.__call__

    def noted(self, video, *more):
        read_files.append(video["path"])
        return decode(self, video, *more)

    monkeypatch.setattr(label_decoding.Decoder, "__call__", noted)
    monkeypatch.chdir(tmp_path)  # the same folder by another name
    label(command("films", tiny_checkpoint, output))
    strip = lambda rows: [(Path(row["path"]).name, row["label"], row["scores"]) for row in rows]  # noqa: E731
    assert strip(read(output)) == strip(whole) and len(read_files) == 3
    (folder / "z.mp4").write_bytes((folder / "a.mp4").read_bytes())
    label(command("films", tiny_checkpoint, output))
    assert [Path(row["path"]).name for row in read(output)] == [*(name for name, *_ in strip(whole)), "z.mp4"]
    (folder / "0.mp4").write_bytes((folder / "a.mp4").read_bytes())
    label(command("films", tiny_checkpoint, output))
    assert [Path(row["path"]).name for row in read(output)] == ["0.mp4", *(name for name, *_ in strip(whole)), "z.mp4"]
    assert len(read_files) == 5 and "7 of them before" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--top_k", "2"], "top_k: 5 there, 2 now"),
        (["--decoding", "exact"], 'decoding: "fast" there, "exact" now'),
        (["--dtype", "bfloat16"], "dtype"),
        (["--window", "1"], "window: null there, 1.0 now"),
    ],
)
def test_other_options_are_not_mixed(videos, tiny_checkpoint, tmp_path_factory, more, message, labelled):
    before = labelled.read_bytes()
    with pytest.raises(ValueError, match=f"holds results of other options.*{message}"):
        label(command(videos, tiny_checkpoint, labelled) + more)
    assert labelled.read_bytes() == before


def test_other_sources_and_tables_are_not_mixed(videos, tiny_checkpoint, tmp_path, labelled):
    with pytest.raises(ValueError, match="source: .*there, .*deeper.* now"):
        label(command(videos / "deeper", tiny_checkpoint, labelled))
    (tmp_path / "mine.csv").write_text("my,own,table\n")
    with pytest.raises(ValueError, match=r"mine.csv is there, but no .*mine.csv.videos"):
        label(command(videos, tiny_checkpoint, tmp_path / "mine.csv"))
    assert (tmp_path / "mine.csv").read_text() == "my,own,table\n"


@pytest.fixture(scope="module")
def labelled(videos, tiny_checkpoint, tmp_path_factory):
    output = tmp_path_factory.mktemp("labelled") / "out.csv"
    label(command(videos, tiny_checkpoint, output))
    return output


def test_lists_and_times(videos, tiny_checkpoint, tmp_path):
    names = ["a.mp4", "deeper/0.mp4", "a.mp4", "no such file.mp4"]
    (tmp_path / "list.txt").write_text("".join(f"{name}\n" for name in names))
    label(command(tmp_path / "list.txt", tiny_checkpoint, tmp_path / "o.jsonl", "--video_root", str(videos)))
    rows = read(tmp_path / "o.jsonl")
    assert [row["path"] for row in rows] == [str(videos / name) for name in names]
    assert rows[0]["scores"] == rows[2]["scores"] and "no such file" in rows[3]["error"]
    assert [row["error"] is None for row in rows] == [True, True, True, False]


def test_standard_input(videos, tiny_checkpoint, tmp_path, monkeypatch):
    lines = tmp_path / "lines"
    lines.write_text(f"{videos / 'a.mp4'}\n\n{videos / 'nothing.mp4'}\n")
    monkeypatch.setattr("sys.stdin", open(lines))  # noqa: SIM115
    label(command("-", tiny_checkpoint, tmp_path / "o.jsonl"))
    assert [row["error"] is None for row in read(tmp_path / "o.jsonl")] == [True, False]


def test_names_that_are_no_text(tiny_checkpoint, tmp_path, monkeypatch):
    """A name that is not in UTF-8 is answered like others, and a link to nothing has its reason."""
    folder = tmp_path / "films"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(encode_video(12, height=48, width=64))
    odd = os.fsencode(folder) + b"/\xff.mp4"
    shutil.copy(os.fsencode(folder / "a.mp4"), odd)
    (folder / "z.mp4").symlink_to("nowhere.mp4")
    for suffix in (".jsonl", ".csv", ".parquet"):
        label(command(folder, tiny_checkpoint, tmp_path / f"o{suffix}"))
        rows = read(tmp_path / f"o{suffix}")
        assert [row["path"] for row in rows] == [f"{folder}/{name}" for name in ("a.mp4", "z.mp4", "\\udcff.mp4")]
        assert rows[0]["scores"] == rows[2]["scores"] and "no such file" in rows[1]["error"]
    (tmp_path / "lines").write_bytes(odd + b"\r\n" + os.fsencode(folder) + b"/\xfe.mp4\n")
    monkeypatch.setattr("sys.stdin", open(tmp_path / "lines"))  # noqa: SIM115
    label(command("-", tiny_checkpoint, tmp_path / "lines.jsonl"))
    there, missing = read(tmp_path / "lines.jsonl")
    assert there["scores"] == rows[0]["scores"] and "\\udcfe.mp4: no such file" in missing["error"]
    with pytest.raises(ValueError, match=r"udcff.mp4' is not in UTF-8, which is accepted; rename the file"):
        load_videos(folder)


def test_auto_dtype_stays_when_a_run_goes_on(videos, tiny_checkpoint, tmp_path, monkeypatch):
    words = [str(videos / "deeper"), "--checkpoint", str(tiny_checkpoint), "--output", str(tmp_path / "o.jsonl")]
    for found in (torch.bfloat16, torch.float32):  # what is faster depends on what else the machine does
        monkeypatch.setattr("flux_hf.runtime.dtype._seconds", lambda *_, found=found: [1, 0.1 + (found.itemsize > 2)])
        label([*words, "--num_workers", "0"])
    assert json.loads((tmp_path / "o.jsonl.videos" / "settings.json").read_text())["dtype"] == "bfloat16"


def test_two_runs_do_not_write_to_one_output(videos, tiny_checkpoint, tmp_path):
    other = LabelOutput(tmp_path / "o.jsonl", {}, ["path"])
    with pytest.raises(ValueError, match=r"another run writes to .*o\.jsonl now"):
        LabelOutput(tmp_path / "o.jsonl", {}, ["path"])
    del other
    LabelOutput(tmp_path / "o.jsonl", {}, ["path"])


def test_window_times():
    assert window_times(10, 4, 3) == [(0, 4), (3, 7), (6, 10)]
    assert window_times(11, 4, 3) == [(0, 4), (3, 7), (6, 10), (9, 11)]
    assert window_times(3, 4, 1) == [(0, 3)]
    assert window_times(10, 2, 6) == [(0, 2), (6, 8)] and window_times(6, 2, 6) == [(0, 2)]
    assert window_times(0.3, 0.1, 0.1)[-1] == pytest.approx((0.2, 0.3)) and len(window_times(0.3, 0.1, 0.1)) == 3


@pytest.mark.parametrize("most_bytes", [2**26, 1])
def test_windows_are_parts_of_the_film(videos, tiny_checkpoint, tmp_path, monkeypatch, most_bytes):
    """Each says what its part alone says, whatever parts a film is read in; every frame is taken once."""
    monkeypatch.setattr(label_decoding, "MOST_BYTES", most_bytes)
    options = {"dtype": "float32", "embeddings": True}
    paths = [str(videos / "deeper" / "2.ts"), str(videos / "nothing.mp4"), str(videos / "a.mp4")]
    found = VideoLabeler(str(tiny_checkpoint), window=1.0, stride=0.5, **options)({"path": paths, "id": [7, 8, 9]})
    spans = [(0, 1), (0.5, 1.5), (1, 2), (1.5, 2.5), (2, 3), (2.5, 3.2)]
    assert found["path"] == [paths[0]] * 6 + [paths[1]] + [paths[2]] * 2 and found["id"] == [7] * 6 + [8] + [9] * 2
    assert list(zip(found["start"], found["end"], strict=True))[:6] == [pytest.approx(span) for span in spans]
    assert found["start"][6] is None and "nothing" in found["error"][6]
    alone = VideoLabeler(str(tiny_checkpoint), **options)(
        {"path": found["path"], "start": np.array(found["start"], float), "end": np.array(found["end"], float)}
    )
    assert alone["labels"] == found["labels"]
    for name in ("scores", "embedding"):
        for one, other in zip(alone[name], found[name], strict=True):
            assert one is other is None or np.allclose(one, other, atol=1e-5)
    assert len({tuple(scores) for scores in found["scores"][:6]}) > 1


def test_frames_of_overlapping_windows_are_taken_once(videos, tiny_processor):
    decoder = label_decoding.Decoder(tiny_processor, 48, 1.0, 0.1)
    (clips,) = decoder({"path": str(videos / "deeper" / "0.mp4")}).clips
    assert clips.frames.shape[1:] == (56, 56, 3) and clips.frames.dtype == np.uint8
    assert len(clips.frames) < 60 < sum(len(places) for _, _, places in clips.windows)


def test_columns_of_engines(videos, tiny_checkpoint):
    """Arrays of numpy as Ray has them, lists and bytes as datasets has them, from a copy that was sent elsewhere."""
    labeler = pickle.loads(pickle.dumps(VideoLabeler(str(tiny_checkpoint), dtype="float32", top_k=2)))
    paths = [str(videos / "a.mp4"), str(videos / "deeper" / "1.avi")]
    lists = labeler({"path": paths})
    arrays = labeler({"path": np.array(paths), "start": np.array([np.nan, np.nan]), "end": np.array([np.nan, np.nan])})
    content = labeler({"bytes": [Path(path).read_bytes() for path in paths]})
    for other in (arrays, content):
        assert other["labels"] == lists["labels"] and other["scores"] == lists["scores"]
    rows = Dataset.from_dict({"path": paths, "take": [1, 2]}).map(labeler, batched=True, batch_size=2)
    assert rows["label"][:] == lists["label"] and rows["take"][:] == [1, 2] and "start" not in rows.column_names
    with pytest.raises(ValueError, match="columns label would be overwritten"):
        labeler({"path": paths, "label": [0, 1]})
    with pytest.raises(ValueError, match="needs the column path or bytes, got video"):
        labeler({"video": paths})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stride": 2.0}, "stride=2.0 is the distance of windows: give window, too"),
        ({"window": 0}, "window must be a number of seconds > 0, got 0"),
        ({"top_k": 0}, "top_k must be an integer >= 1, got 0"),
        ({"runtime": "tensor"}, "runtime must be torch or onnx, got 'tensor'"),
        ({"runtime": "onnx", "embeddings": True}, "an exported file gives logits alone"),
        ({"runtime": "onnx", "dtype": "bfloat16"}, "onnx computes in float32 on the CPU, got dtype bfloat16"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        VideoLabeler(**options)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--output", "x.txt"], "--output must end in .parquet, .csv, .jsonl, got x.txt"),
        (["--token_budget", "many"], "--token_budget must be a number of tokens >= 1, or auto, got many"),
        (["--actors", "2"], "--actors is of --engine ray"),
        (["--token_budget", "auto"], "not calibrated"),
        (["--video_root", "."], "--video_root is for the paths of a list file or data set"),
    ],
)
def test_bad_options(videos, tiny_checkpoint, tmp_path, more, message):
    with pytest.raises(ValueError, match=message):
        label(command(videos, tiny_checkpoint, tmp_path / "o.csv") + more)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", ["a block of noise", "the end lost"])
def test_damage_is_an_answer_or_a_reason(tiny_checkpoint, tmp_path, damage):
    for seed in range(6):
        content = damaged(encode_video(30, **KINDS["mp4, several slices"]), damage, seed)
        (tmp_path / f"{seed}.mp4").write_bytes(content)
    label(command(tmp_path, tiny_checkpoint, tmp_path / "o.jsonl"))
    rows = read(tmp_path / "o.jsonl")
    assert len(rows) == 6
    assert all((row["label"] is None) == (row["error"] is not None) for row in rows)


def test_auto(videos, tiny_checkpoint, tmp_path):
    """Each video has the answer of the budget that answers it alone; both budgets do answer some."""
    model = load_video_classifier(tiny_checkpoint).eval()
    paths = [str(path) for path in sorted(videos.rglob("*")) if path.is_file()]
    processor = load_video_processor(tiny_checkpoint, model)
    readable = [path for path in paths if Path(path).stem not in ("cut off", "nothing")]
    inputs = {path: processor(path, token_budget="auto", return_tensors="pt") for path in readable}
    with torch.no_grad():
        sure = [
            model(values["pixel_values_videos"], token_budget=48).logits.softmax(-1).max() for values in inputs.values()
        ]
        model.config.adaptive_budget = {"token_budgets": [48, 96], "confidences": [float(torch.stack(sure).median())]}
        expected = {path: model(**values) for path, values in inputs.items()}
    for saved in (model, processor):
        saved.save_pretrained(tmp_path / "auto")
    found = VideoLabeler(str(tmp_path / "auto"), token_budget="auto", dtype="float32")({"path": paths})
    assert set(found["token_budget"]) == {48, 96, None}
    for path, budget, scores in zip(found["path"], found["token_budget"], found["scores"], strict=True):
        if path in expected:
            assert budget == expected[path].answered_budgets.item()
            alone = expected[path].logits.softmax(-1).sort(descending=True).values[0].tolist()
            assert scores == pytest.approx(alone, abs=1e-5)
    with pytest.raises(ValueError, match="optimize-tokens --objective adaptive"):
        VideoLabeler(str(tiny_checkpoint), token_budget="auto", dtype="float32")({"path": readable[:1]})

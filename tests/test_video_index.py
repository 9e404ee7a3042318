import base64
import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from flux_hf.scripts.embed import main as embed
from flux_hf.scripts.search import main as search_command
from flux_hf.text import index
from flux_hf.text.embedding import embed_texts
from flux_hf.text.index import IndexOrigin, search_index, weights_hash, write_index
from flux_hf.text.loading import load_clip, load_text_tower
from flux_hf.text.searching import search
from flux_hf.text.videos import load_videos, videos_at
from tests import video_datasets
from tests.tiny_search import captioned_videos, save_searching, write_noise


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_searching(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Four videos in two folders, and one that cannot be read."""
    folder = tmp_path_factory.mktemp("videos")
    for number in range(4):
        write_noise(folder / "ab"[number % 2] / f"{number}.mp4", number)
    (folder / "a" / "broken.mp4").write_bytes(b"nothing to see")
    (folder / "a" / "notes.txt").write_text("no video")
    return folder


@pytest.fixture(scope="module")
def made(checkpoint, videos, tmp_path_factory):
    path = tmp_path_factory.mktemp("index") / "videos.parquet"
    embed([str(videos), "--checkpoint", str(checkpoint), "--output", str(path), "--token_budgets", "64", "16"])
    return path


def test_the_file_holds_what_the_model_says(checkpoint, videos, made):
    rows = pq.read_table(made).to_pylist()
    assert [(row["path"], row["token_budget"]) for row in rows] == [
        (str(path), budget) for path in sorted(videos.rglob("*.mp4")) for budget in (64, 16)
    ]
    model, processor = load_clip(checkpoint)
    for row in rows:
        if row["path"].endswith("broken.mp4"):
            assert row["embedding"] is None and "broken.mp4" in row["error"]
            continue
        inputs = processor(videos=row["path"], token_budget=row["token_budget"], return_tensors="pt")
        with torch.no_grad():
            expected = model.get_video_features(**inputs).pooler_output[0]
        np.testing.assert_allclose(row["embedding"], expected, atol=1e-5)
        assert row["error"] is row["start"] is row["end"] is None
    origin = json.loads(pq.read_schema(made).metadata[b"flux_hf"])
    assert origin["checkpoint"] == str(checkpoint) and origin["token_budgets"] == [64, 16]
    assert [path.name for path in made.parent.iterdir()] == [made.name]


@pytest.mark.parametrize("budget", [None, 16])
def test_search_finds_what_is_nearest(checkpoint, made, budget, capsys):
    sentence = "a dark square moves left"
    command = [sentence, "--index", str(made), "--top_k", "3", *(["--token_budget", str(budget)] if budget else [])]
    search_command(command)
    said = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    model, processor = load_clip(checkpoint)
    (query,) = embed_texts(model, processor, [sentence])
    rows = [row for row in pq.read_table(made).to_pylist() if row["token_budget"] == (budget or 64)]
    scores = {row["path"]: float(np.dot(row["embedding"], query)) for row in rows if row["embedding"]}
    best = sorted(scores, key=scores.get, reverse=True)[:3]
    assert [path for _, path in said] == best
    assert [float(score) for score, _ in said] == pytest.approx([scores[path] for path in best], abs=6e-4)


def test_search_with_a_video_finds_itself_first(videos, made, capsys):
    search_command(["--video", str(videos / "b" / "3.mp4"), "--index", str(made), "--top_k", "2"])
    first = capsys.readouterr().out.splitlines()[0].split()
    assert first == ["1.000", str(videos / "b" / "3.mp4")]
    with pytest.raises(ValueError, match="broken.mp4"):
        search(made, video=str(videos / "a" / "broken.mp4"))


def test_a_sentence_needs_the_text_tower_alone(checkpoint):
    tower = load_text_tower(checkpoint)
    names = {name.partition(".")[0] for name, _ in tower.named_parameters()}
    assert names == {"text_model", "text_projection", "logit_scale"}
    whole, processor = load_clip(checkpoint)
    for text in ("a square", "noise moves"):
        assert (embed_texts(tower, processor, [text]) == embed_texts(whole, processor, [text])).all()


def test_another_checkpoint_is_refused(checkpoint, made, tmp_path):
    other = save_searching(tmp_path / "other", seed=1)
    with pytest.raises(ValueError, match=r"^\S*other: its weights are not those of .* that made .*parquet"):
        search_command(["a square", "--index", str(made), "--checkpoint", str(other)])
    moved = shutil.copytree(checkpoint, tmp_path / "moved")
    assert search(made, sentence="a square", checkpoint=moved) == search(made, sentence="a square")
    assert weights_hash(moved) == weights_hash(checkpoint) != weights_hash(other)


def test_an_interrupted_run_goes_on(checkpoint, videos, tmp_path, monkeypatch):
    path = tmp_path / "videos.parquet"
    command = [str(videos), "--checkpoint", str(checkpoint), "--output", str(path), "--batch_size", "1"]

    def full(*args):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(index, "write_index", full)
        with pytest.raises(OSError, match="no space left"):
            embed(command)
    records = tmp_path / "videos.videos" / "videos.0.jsonl"
    lines = records.read_bytes().splitlines(keepends=True)
    assert len(lines) == 5 and not path.exists()
    records.write_bytes(b"".join(lines[:2]))
    with pytest.raises(ValueError, match="holds results of other options.*token_budgets"):
        embed([*command, "--token_budgets", "16"])
    embed(command)
    assert pq.read_table(path).num_rows == 5 and [file.name for file in tmp_path.iterdir()] == [path.name]


def test_lists_and_data_sets(videos, tmp_path):
    (tmp_path / "list.txt").write_text("a/0.mp4\n\nhttp://127.0.0.1/b.mp4\n")
    paths = [row["video"]["path"] for row in load_videos(tmp_path / "list.txt", video_root=videos)]
    assert paths == [str(videos / "a" / "0.mp4"), "http://127.0.0.1/b.mp4"]
    pairs = captioned_videos(tmp_path / "pairs", [["a square"], ["noise"]])
    assert len(load_videos(pairs / "test.json")) == 2
    coin = video_datasets.coin(tmp_path / "coin", {"test": 2})
    assert load_videos(coin, "test")["end"][:] == [0.8, 0.8]


def test_times_and_parts_of_the_index(tmp_path, monkeypatch):
    """More rows than are read at once, of videos with times; what is equally near stands in the order of the file."""
    monkeypatch.setattr(index, "ROWS", 4)
    draw = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    draw[7] = draw[2]
    dataset = videos_at([f"{row}.mp4" for row in range(9)])
    dataset = dataset.add_column("start", [float(row) for row in range(9)]).add_column("end", [None] * 8 + [20.0])
    records = [{"row": row, "arms": [{"embedding": _text(vector)}]} for row, vector in enumerate(draw)]
    path = tmp_path / "i.parquet"
    write_index(path, dataset, records, IndexOrigin("x", "hash", 3, [8], "fast"))
    query = draw[2] / np.linalg.norm(draw[2])
    found = search_index(path, query, 8, 5)
    order = np.argsort(-(draw @ query), kind="stable")[:5]
    assert [video.path for video in found] == [f"{row}.mp4" for row in order]
    assert [video.start for video in found] == [float(row) for row in order]
    with pytest.raises(ValueError, match="has no embeddings of 9 tokens, it has 8"):
        search_index(path, query, 9, 5)


def _text(vector):
    return base64.b64encode(vector.tobytes()).decode()


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"no parquet", "is damaged or no Parquet file"), (None, "is no index that flux-hf embed wrote")],
)
def test_files_that_are_no_index(tmp_path, content, message):
    path = tmp_path / "x.parquet"
    if content is None:
        pq.write_table(pa.table({"path": ["a"]}), path)
    else:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=f"x.parquet {message}"):
        search_command(["a square", "--index", str(path)])


def test_a_truncated_index(made, tmp_path):
    path = tmp_path / "cut.parquet"
    content = bytearray(made.read_bytes())
    content[4:200] = bytes(196)
    path.write_bytes(content)
    with pytest.raises(ValueError, match="cut.parquet is damaged"):
        search(path, sentence="a square")


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        (search_command, ["--index", "MADE"], "give a SENTENCE, in quotes, or --video FILE"),
        (search_command, ["a", "--video", "b.mp4", "--index", "MADE"], "give a SENTENCE, in quotes, or --video FILE"),
        (search_command, ["a", "--index", "none.parquet"], "^--index none.parquet: there is no such file"),
        (
            embed,
            ["VIDEOS", "--checkpoint", "default", "--output", "x.parquet"],
            "it is a fluxvit, which knows no words",
        ),
        (search_command, ["a", "--index", "MADE", "--top_k", "0"], "^--top_k must be at least 1"),
        (embed, ["VIDEOS", "--checkpoint", "CHECKPOINT", "--output", "x.csv"], "^--output must end in .parquet"),
        (embed, ["./none", "--checkpoint", "CHECKPOINT", "--output", "x.parquet"], "there is no folder or list none"),
        (embed, ["CHECKPOINT", "--checkpoint", "CHECKPOINT", "--output", "x.parquet"], "holds no video file"),
    ],
)
def test_bad_options(made, checkpoint, videos, command, arguments, message):
    known = {"MADE": str(made), "CHECKPOINT": str(checkpoint), "VIDEOS": str(videos)}
    with pytest.raises((ValueError, OSError), match=message):
        command([known.get(argument, argument) for argument in arguments])


@pytest.mark.parametrize("sentence", ["", "  "])
def test_a_sentence_without_a_word(made, sentence):
    with pytest.raises(ValueError, match="^a sentence needs a word at least, got '"):
        search_command([sentence, "--index", str(made)])


def test_an_index_without_embeddings(checkpoint, tmp_path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "broken.mp4").write_bytes(b"nothing to see")
    path = tmp_path / "i.parquet"
    embed([str(tmp_path / "videos"), "--checkpoint", str(checkpoint), "--output", str(path)])
    with pytest.raises(ValueError, match="i.parquet has no embedding: none of its videos could be read"):
        search_command(["a square", "--index", str(path)])


def test_what_is_wrong_with_the_question_is_not_said_of_the_checkpoint(made, videos):
    with pytest.raises(ValueError, match=r"^\S+parquet has no embeddings of 8 tokens, it has 64, 16$"):
        search_command(["a square", "--index", str(made), "--token_budget", "8"])
    with pytest.raises(ValueError, match="^Cannot decode .*broken.mp4"):
        search_command(["--video", str(videos / "a" / "broken.mp4"), "--index", str(made)])


def test_embedded_videos_have_a_name(checkpoint, tmp_path):
    folder = video_datasets.parquet(tmp_path / "set", {"train": 2})
    path = tmp_path / "index.parquet"
    embed([str(folder), "--split", "train", "--checkpoint", str(checkpoint), "--output", str(path)])
    assert pq.read_table(path)["path"].to_pylist() == ["train0.mp4", "train1.mp4"]

"""What benchmarks measure with: their files are what their names say, everything takes turns, reports hold the JSON."""

import json

import av
import numpy as np
import pytest

from flux_hf.benchmarking.files import FileKind, video_file
from flux_hf.benchmarking.readers import available_readers, opencv, ours, transformers_pyav
from flux_hf.benchmarking.timing import alternating
from flux_hf.processing.frame_sampling_fluxvit import segment_middles
from flux_hf.processing.video_decoding_fluxvit import read_video

KINDS = [FileKind(3, 128, 96, 12), FileKind(2, 128, 96, 250), FileKind(3, 128, 96, 20, "libvpx-vp9")]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_files_are_what_they_say(kind, tmp_path):
    path = video_file(kind, tmp_path)
    seen = []
    frames, metadata = read_video(path, lambda metadata: seen.extend(metadata.key_frames) or range(kind.seconds * 30))
    assert frames.shape == (kind.seconds * 30, kind.height, kind.width, 3) and metadata.fps == pytest.approx(
        30, rel=0.02
    )
    assert seen == list(range(0, kind.seconds * 30, kind.key_every))
    assert np.abs(np.diff(frames[:20].astype(int), axis=0)).mean((1, 2, 3)).min() > 1
    changed = path.stat().st_mtime_ns
    assert video_file(kind, tmp_path) == path and path.stat().st_mtime_ns == changed
    with av.open(str(path)) as container:
        assert sum(1 for _ in container.decode(video=0)) == kind.seconds * 30


def test_everything_takes_turns():
    order = []
    runs = {"a": lambda: order.append("a"), "b": lambda: order.append("b"), "c": lambda: 1 / 0}
    result = alternating(runs, 3)
    assert order == ["a", "b"] * 4
    assert (
        result["a"]["repeats"] == 3 and result["a"]["spread"][0] <= result["a"]["seconds"] <= result["a"]["spread"][1]
    )
    assert result["c"] == {"error": "ZeroDivisionError: division by zero"}
    order.clear()
    result = alternating(runs, 3, most_seconds=0)
    assert order == ["a", "b"] and result["a"]["repeats"] == 0 and result["a"]["seconds"] > 0


def test_readers_read_the_same_frames(tmp_path):
    path = str(video_file(KINDS[0], tmp_path))
    readers, missing = available_readers()
    assert {"exact", "fast", "transformers pyav"} <= set(readers) and not set(readers) & set(missing)
    exact = ours("exact")(path, 6)
    assert np.array_equal(exact, read_video(path, segment_middles(90, 6))[0])
    assert np.array_equal(exact, transformers_pyav(path, 6))
    if "OpenCV" in readers:
        assert np.abs(opencv(path, 6).astype(int) - exact).mean() < 4


def test_decoding_command(tmp_path, monkeypatch):
    from flux_hf.benchmarking import files
    from flux_hf.scripts.benchmark_decoding import main

    monkeypatch.setattr(files, "QUICK_FILES", KINDS[:1])
    output = tmp_path / "decoding.json"
    main(["--quick", "--output", str(output), "--files", str(tmp_path)])
    result = json.loads(output.read_text())
    assert {"command", "date", "machine", "versions", "options", "missing"} <= set(result)
    (row,) = result["decoding"]
    assert row["file"] == KINDS[0].name and row["num_frames"] == 8
    assert row["fast_speedup"] == pytest.approx(
        row["readers"][row["best_peer"]]["seconds"] / row["readers"]["fast"]["seconds"]
    )

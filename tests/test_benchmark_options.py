"""Options of inference and their accuracy, on a few small videos."""

import json

import pytest
import torch

from flux_hf import FluxViTForVideoClassification
from flux_hf.data import load_video_dataset
from flux_hf.scripts.benchmarks.measuring import inference_options
from flux_hf.scripts.benchmarks.measuring.inference_options import accuracy_of_options, in_bfloat16, in_float32
from flux_hf.scripts.benchmarks.options import main
from flux_hf.scripts.benchmarks.report import options_tables
from tests.video_files import encode_video

LABELS = [f"label {index}" for index in range(4)]


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """One video of each label."""
    folder = tmp_path_factory.mktemp("videos")
    for label in LABELS:
        path = folder / "test" / label / "clip.mp4"
        path.parent.mkdir(parents=True)
        path.write_bytes(encode_video(num_frames=12, height=64, width=64))
    return folder


def test_accuracy_is_that_of_the_answers(videos, tiny_processor, monkeypatch):
    reads, original = [], inference_options.read_views
    monkeypatch.setattr(
        inference_options, "read_views", lambda *args, **part: reads.append(1) or original(*args, **part)
    )
    shapes = set()

    def always(answer):
        return lambda pixels: shapes.add(tuple(pixels.shape)) or torch.eye(4)[answer : answer + 1]

    runs = {budget: {"float32": always(0), "same": always(0), "other": always(3)} for budget in (48, 96)}
    dataset = load_video_dataset(videos, "test")
    (videos / "test" / "label 3" / "clip.mp4").rename(videos / "kept.mp4")
    (videos / "test" / "label 3" / "clip.mp4").write_bytes(b"no video")
    try:
        found, unreadable = accuracy_of_options(dataset, tiny_processor, runs, [0, 1, 0, 3])
    finally:
        (videos / "kept.mp4").replace(videos / "test" / "label 3" / "clip.mp4")
    assert len(reads) == 4 and unreadable == 1
    assert shapes == {(1, 6, 3, 56, 56), (1, 8, 3, 70, 70)}
    for figures in found.values():
        assert figures["float32"]["top1"] == figures["same"]["top1"] == pytest.approx(2 / 3)
        assert figures["other"]["top1"] == 0
        assert [figures[name]["different"] for name in ("float32", "same", "other")] == [0, 0, 3]
    with pytest.raises(ValueError, match="no video of the data set can be read"):
        accuracy_of_options(dataset.select([]), tiny_processor, runs, [0, 1, 2, 3])


@torch.inference_mode()
def test_bfloat16_is_coarser_than_float32(tiny_checkpoint):
    model = FluxViTForVideoClassification.from_pretrained(tiny_checkpoint).eval()
    pixels = torch.randn(2, 6, 3, 56, 56)
    exact, coarse = (make(model, 48)(pixels) for make in (in_float32, in_bfloat16))
    assert exact.dtype == coarse.dtype == torch.float32
    assert 0 < (exact - coarse).abs().max() < 0.1 * exact.abs().max()


@pytest.mark.slow
def test_the_command_measures_every_option(videos, tiny_checkpoint, tmp_path):
    output = tmp_path / "options.json"
    main(
        ["--dataset", str(videos), "--checkpoint", str(tiny_checkpoint), "--output", str(output), "--repeats", "1"]
        + ["--batch_sizes", "2", "--token_budgets", "48"]
    )
    result = json.loads(output.read_text())
    (row,) = result["inference_options"]
    names = {"float32", "compiled", "onnx", "onnx int8"}
    assert names <= row["accuracy"].keys() == row["speed"]["2"].keys()
    assert all(entry["seconds"] > 0 for entry in row["speed"]["2"].values())
    assert row["accuracy"]["compiled"]["different"] == row["accuracy"]["onnx"]["different"] == 0
    assert result["num_videos"] == 4 and result["unreadable"] == 0
    assert "| 48 | onnx int8 |" in options_tables(result)["forward"]


def test_labels_that_the_model_does_not_know_are_an_error(videos, tmp_path):
    with pytest.raises(ValueError, match="the model has no label"):
        main(["--dataset", str(videos), "--output", str(tmp_path / "options.json")])

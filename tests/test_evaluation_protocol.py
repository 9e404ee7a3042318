"""Clips x crops against a plain computation of the protocol; processes; interruption."""

import copy
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as F

from flux_hf import FluxVideoProcessor, FluxViTConfig, FluxViTForVideoClassification
from flux_hf.costs import forward_macs
from flux_hf.data import load_video_dataset
from flux_hf.evaluation import evaluate
from flux_hf.evaluation.records import RecordFolder
from flux_hf.processing import video_decoding_fluxvit as decoding
from flux_hf.processing.grid_fluxvit import Grid
from flux_hf.processing.video_decoding_fluxvit import read_video
from flux_hf.processing.views_fluxvit import Views, clip_frames, read_views
from tests.tiny_models import PATCHES_OF_8
from tests.video_files import encode_video

LABELS = [f"class {index}" for index in range(7)]
MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
GRIDS = {40: (4, 48), 20: (4, 48), 12: (6, 32)}


@pytest.fixture(scope="module")
def dataset_dir(tmp_path_factory):
    """Nine readable videos, wide, tall and short ones, and a broken one."""
    root = tmp_path_factory.mktemp("videos")
    draw = np.random.default_rng(3)
    for index in range(9):
        folder = root / "test" / LABELS[index % 5]
        folder.mkdir(parents=True, exist_ok=True)
        height, width = [(64, 128), (112, 56), (60, 60)][index % 3]
        noise = draw.integers(0, 255, (height, width, 3), dtype=np.uint8)
        data = encode_video(
            [37, 23, 3][index // 3],
            height=height,
            width=width,
            picture=lambda number, *size, noise=noise: np.roll(noise, 3 * number, 1),
        )
        (folder / f"{index}.mp4").write_bytes(data)
    (root / "test" / LABELS[1] / "broken.mp4").write_bytes(b"nothing to see")
    return root


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    torch.manual_seed(1)
    config = FluxViTConfig(
        **PATCHES_OF_8,
        head_token_budgets=[40, 20],
        layer_scale_init=1.0,
        initializer_range=0.4,
        id2label=dict(enumerate(reversed(LABELS))),
        label2id={name: index for index, name in enumerate(reversed(LABELS))},
    )
    FluxViTForVideoClassification(config).save_pretrained(folder)
    FluxVideoProcessor(patch_size=8, grids=GRIDS).save_pretrained(folder)
    return folder


@pytest.fixture
def loaded(dataset_dir, checkpoint):
    model = FluxViTForVideoClassification.from_pretrained(checkpoint).eval()
    return load_video_dataset(dataset_dir, "test"), model, FluxVideoProcessor.from_pretrained(checkpoint)


def plain_frames(total: int, frames: int, clip: int, clips: int, ticks: bool) -> list[int]:
    if ticks:
        tick = total / frames
        return [int(clip * tick / clips + tick * i + 1e-9) for i in range(frames)]
    if total <= frames:
        return [i * total // frames for i in range(frames)]
    s = (total - 1) / frames
    return [min(total - 1, round(s * i) + int(s / (clips + 1) * (clip + 1))) for i in range(frames)]


@torch.no_grad()
def plain_scores(path, model, budget, clips, crops, ticks) -> torch.Tensor:
    """One view after the other, each with all steps of its own."""
    everything, _ = read_video(path)
    frames, side = GRIDS[budget]
    views = []
    for clip in range(clips):
        for crop in range(crops):
            chosen = everything[plain_frames(len(everything), frames, clip, clips, ticks)]
            video = F.resize(torch.from_numpy(chosen).permute(0, 3, 1, 2), side, antialias=True)
            height, width = video.shape[-2:]
            share = crop / (crops - 1) if crops > 1 else 0.5
            top, left = int((height - side) * share), int((width - side) * share)
            video = video[..., top : top + side, left : left + side]
            video = (video / 255 - MEAN) / STD
            views.append(model(video[None], token_budget=budget).logits[0].softmax(-1))
    return torch.stack(views).mean(0)


@pytest.mark.long
@pytest.mark.parametrize("clips, crops, sampling", [(1, 1, "middles"), (4, 3, "middles"), (2, 3, "ticks")])
def test_equals_the_plain_computation(loaded, tmp_path, clips, crops, sampling):
    dataset, model, processor = loaded
    processor.decoding = "exact" if (clips, sampling) == (1, "middles") else "fast"
    result = evaluate(
        dataset,
        model,
        processor,
        list(GRIDS),
        num_clips=clips,
        num_crops=crops,
        clip_sampling=sampling,
        batch_size=10,
        records_dir=tmp_path,
    )
    assert result["num_videos"] == 9
    records = {record["row"]: record for record in RecordFolder.load(_reader(tmp_path))}
    for place, budget in enumerate(GRIDS):
        confusion, in_top5, recalls = np.zeros((7, 7), int), 0, {}
        for row, entry in enumerate(dataset):
            if entry["video"]["path"].endswith("broken.mp4"):
                assert "broken.mp4" in records[row]["reason"]
                continue
            scores = plain_scores(entry["video"]["path"], model, budget, clips, crops, sampling == "ticks")
            label = model.config.label2id[dataset.features["label"].int2str(entry["label"])]
            answer = records[row]["arms"][place]
            assert scores[answer["top"]].tolist() == pytest.approx(answer["scores"], abs=1e-5)
            assert answer["label_score"] == pytest.approx(float(scores[label]), abs=1e-5)
            confusion[label, scores.argmax()] += 1
            in_top5 += label in scores.topk(5).indices
            recalls.setdefault(label, []).append(int(scores.argmax()) == label)
        figures = result["budgets"][budget]
        assert figures["confusion"] == confusion.tolist()
        assert figures["top1"] == pytest.approx(confusion.trace() / 9)
        assert figures["top5"] == pytest.approx(in_top5 / 9)
        assert figures["mean_class"] == pytest.approx(np.mean([np.mean(right) for right in recalls.values()]))
        assert figures["top1_interval"][0] <= figures["top1"] <= figures["top1_interval"][1]
        frames, side = GRIDS[budget]
        gmacs = forward_macs(model.config, budget, frames * (side // 8) ** 2) / 1e9
        assert figures["gmacs"] == pytest.approx(gmacs)
        assert figures["gmacs_x_views"] == pytest.approx(clips * crops * gmacs)


def _reader(folder) -> RecordFolder:
    return RecordFolder(folder, json.loads((folder / "settings.json").read_text()))


def test_frames_of_the_official_evaluation():
    assert clip_frames(300, 8, Views(4, 3))[0].tolist() == [7, 44, 82, 119, 157, 194, 231, 269]
    ticks = clip_frames(100, 8, Views(2, 3, "ticks")).tolist()
    assert ticks == [[0, 12, 25, 37, 50, 62, 75, 87], [6, 18, 31, 43, 56, 68, 81, 93]]
    assert sorted(ticks[0] + ticks[1]) == [int(100 / 16 * i) for i in range(16)]


def test_one_decoding_serves_all_views_and_grids(monkeypatch):
    opened, written = [], []
    original = decoding.opened_video
    monkeypatch.setattr(decoding, "opened_video", lambda *args: opened.append(1) or original(*args))
    write = decoding.FrameWriter.write
    monkeypatch.setattr(decoding.FrameWriter, "write", lambda *args: written.append(args[1]) or write(*args))
    views = Views(4, 3)
    grids = [Grid(4, 48), Grid(8, 32), Grid(4, 48)]
    processor = FluxVideoProcessor(patch_size=8, decoding="exact")
    framings, pixels, _ = read_views(encode_video(50), processor, [(None, grid) for grid in grids], views)
    assert [framing.grid for framing in framings] == grids
    assert {framing.grid: tuple(clip.shape) for framing, clip in pixels.items()} == {
        (4, 48): (12, 4, 3, 48, 48),
        (8, 32): (12, 8, 3, 32, 32),
    }
    wanted = {*clip_frames(50, 4, views).ravel(), *clip_frames(50, 8, views).ravel()}
    assert len(opened) == 1 and sorted(written) == sorted(wanted)


def test_grids_that_fit_the_video_are_counted_as_they_were(loaded):
    dataset, model, processor = loaded
    processor.fit_source = True
    figures = evaluate(dataset, model, processor, [40])["budgets"][40]
    assert figures["grid"] == [4, 48]
    # Three of the videos have three frames; 3 x 6 x 6 = 108 tokens are enough for 40.
    assert figures["grids_used"] == {"3x48": 3, "4x48": 6}
    macs = [forward_macs(model.config, 40, tokens) for tokens in (108, 144)]
    assert figures["gmacs"] == pytest.approx((3 * macs[0] + 6 * macs[1]) / 9e9)


def figures_of(result: dict) -> dict:
    return {key: value for key, value in json.loads(json.dumps(result)).items() if key in ("budgets", "num_videos")}


def test_an_interrupted_run_goes_on(loaded, tmp_path):
    dataset, model, processor = loaded
    calls = []

    def count(model, inputs):
        calls.append(len(inputs[0]))
        if sum(calls) > stop_after:
            raise KeyboardInterrupt

    model = copy.deepcopy(model)
    model.register_forward_pre_hook(count)
    options = {"batch_size": 1, "records_dir": tmp_path}
    stop_after = 4
    with pytest.raises(KeyboardInterrupt):
        evaluate(dataset, model, processor, [40], **options)
    (file,) = tmp_path.glob("videos.*.jsonl")
    before = file.read_bytes()
    assert before.count(b"\n") == 5 and before.count(b"reason") <= 1  # four videos and the broken one
    file.write_bytes(before + b'{"row": 8, "lab')  # cut off while writing

    stop_after, calls[:] = 100, []
    result = evaluate(dataset, model, processor, [40], **options)
    assert sum(calls) == 9 - 4 and result["speed"]["videos"] == 5
    assert file.read_bytes().startswith(before)
    assert figures_of(result) == figures_of(evaluate(dataset, model, processor, [40]))

    calls.clear()
    again = evaluate(dataset, model, processor, [40], **options)
    assert calls == [] and figures_of(again) == figures_of(result)


def test_going_on_with_other_options_is_refused(loaded, tmp_path):
    dataset, model, processor = loaded
    evaluate(dataset, model, processor, [40], records_dir=tmp_path)
    with pytest.raises(ValueError, match=r"other options \(token_budgets: \[40\] there, \[20\] now\)"):
        evaluate(dataset, model, processor, [20], records_dir=tmp_path)
    with pytest.raises(ValueError, match=r"other options \(views.num_crops: 1 there, 3 now\)"):
        evaluate(dataset, model, processor, [40], num_crops=3, records_dir=tmp_path)
    with torch.no_grad():
        model.classifier.heads[0].bias[0] += 1
    with pytest.raises(ValueError, match=r"other options \(model: "):
        evaluate(dataset, model, processor, [40], records_dir=tmp_path)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"num_clips": 0}, "num_clips and num_crops must be >= 1, got 0 and 1"),
        ({"clip_sampling": "all"}, "clip_sampling must be one of middles, ticks, got 'all'"),
        ({"token_budgets": []}, "at least one budget"),
        ({"token_budgets": [40, 40]}, r"each once, got \[40, 40\]"),
    ],
)
def test_bad_options(loaded, options, message):
    with pytest.raises(ValueError, match=message):
        evaluate(*loaded, **{"token_budgets": [40]} | options)


@pytest.mark.parametrize(
    "setting, message",
    [
        ({"fps": 5}, "the processor has fps=5"),
        ({"do_center_crop": False}, "the processor has do_center_crop=False"),
        ({"size": {"height": 48, "width": 64}}, "num_crops > 1 needs frames that keep their aspect ratio"),
    ],
)
def test_bad_settings_of_the_processor(loaded, setting, message):
    dataset, model, _ = loaded
    with pytest.raises(ValueError, match=message):
        evaluate(dataset, model, FluxVideoProcessor(patch_size=8, **setting), [40], num_crops=3)


@pytest.mark.slow
def test_processes_share_the_videos_exactly(dataset_dir, checkpoint, loaded, tmp_path):
    """Ten videos over three processes; the second run has fewer videos left than processes."""
    processes = 3
    output = tmp_path / "result.json"
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(processes), "--standalone"]
    command += [
        "-m",
        "flux_hf.scripts.evaluate_checkpoint",
        "--dataset",
        str(dataset_dir),
        "--checkpoint",
        str(checkpoint),
    ]
    command += ["--num_clips", "2", "--num_crops", "3", "--clip_sampling", "ticks", "--output", str(output)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=600)

    dataset, model, processor = loaded
    views = {"num_clips": 2, "num_crops": 3, "clip_sampling": "ticks"}
    alone = evaluate(dataset, model, processor, model.config.head_token_budgets, **views)
    result = json.loads(output.read_text())
    assert figures_of(result) == figures_of(alone)
    assert result["speed"]["processes"] == processes and result["speed"]["videos"] == 9
    files = sorted(tmp_path.glob("result.videos/videos.*.jsonl"))
    rows = [json.loads(line)["row"] for file in files for line in file.read_text().splitlines()]
    assert len(files) == processes and sorted(rows) == list(range(10))

    files[0].write_text("".join(files[0].read_text().splitlines(keepends=True)[1:]))
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=600)
    again = json.loads(output.read_text())
    assert figures_of(again) == figures_of(alone) and again["speed"]["videos"] <= 1


def test_command_writes_a_table_and_a_plot(dataset_dir, checkpoint, tmp_path, capsys):
    from PIL import Image

    from flux_hf.scripts.evaluate_checkpoint import main

    output = tmp_path / "result.json"
    main(["--dataset", str(dataset_dir), "--checkpoint", str(checkpoint), "--output", str(output)])
    result = json.loads(output.read_text())
    assert result["machine"]["cores"] and result["machine"]["cpu"] and len(result["files"]) == 64
    table = output.with_suffix(".md").read_text()
    assert table in capsys.readouterr().out
    assert f"| 40 | 4 x 48 x 48 | {result['budgets']['40']['gmacs']:.3f} |" in table
    with Image.open(output.with_suffix(".png")) as picture:
        assert np.ptp(np.asarray(picture.convert("L"))) > 100
    with pytest.raises(ValueError, match=r"result\.videos holds results of other options"):
        main(["--dataset", str(dataset_dir), "--checkpoint", str(checkpoint), "--output", str(output)]
             + ["--num_crops", "3"])  # fmt: skip


def test_the_hash_of_the_files_does_not_depend_on_the_folder(dataset_dir, tmp_path):
    import shutil

    from flux_hf.provenance import file_list_hash

    shutil.copytree(dataset_dir, tmp_path / "copy")
    first, copy = (load_video_dataset(folder, "test") for folder in (dataset_dir, tmp_path / "copy"))
    assert file_list_hash(first) == file_list_hash(copy)
    (tmp_path / "copy/test" / LABELS[0] / "0.mp4").write_bytes(encode_video(5))
    assert file_list_hash(load_video_dataset(tmp_path / "copy", "test")) != file_list_hash(first)

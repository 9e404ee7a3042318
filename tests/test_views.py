"""One rule for views: processor, pipeline, evaluation and evaluation in training make the same pixels and scores."""

import json

import numpy as np
import pytest
import torch

from flux_hf import FluxVideoClassificationPipeline, FluxVideoProcessor, FluxViTForVideoClassification
from flux_hf.classification import classify
from flux_hf.costs import forward_macs
from flux_hf.data import CachedClips, load_video_dataset
from flux_hf.evaluation import evaluate, markdown_table
from flux_hf.hub.model_card import build_model_card
from flux_hf.latency import forward_latency
from flux_hf.processing.cropping_fluxvit import crops_along_longer_side
from flux_hf.processing.grid_fluxvit import Grid
from flux_hf.processing.video_decoding_fluxvit import read_video
from flux_hf.processing.views_fluxvit import Views, read_views
from tests import tiny_training
from tests.video_files import encode_video, read_numbers

BUDGETS = (96, 48)
SETTINGS = {
    "plain": {},
    "middle frames": {"decoding": "exact"},
    "cut to the video": {"fit_source": True},
    "height and width": {"size": {"height": 42, "width": 70}},
    "crop of a square": {"size": 64, "crop_size": {"height": 42, "width": 56}},
    "crop of the grid's size": {"crop_size": 42},
    "frames of its own": {"num_frames": 5},
    "everything": {"fit_source": True, "crop_size": 28, "decoding": "exact", "num_frames": 3},
}
"""Those of a processor; `GRIDS_OF` says what comes out for 96 and 48 tokens."""
GRIDS_OF = {
    "plain": [(8, 70), (6, 56)],
    "middle frames": [(8, 70), (6, 56)],
    "cut to the video": [(8, 70), (6, 56)],
    "height and width": [(8, (42, 70)), (6, (42, 70))],
    "crop of a square": [(8, (42, 56)), (6, (42, 56))],
    "crop of the grid's size": [(8, 42), (6, 42)],
    "frames of its own": [(5, 70), (5, 56)],
    "everything": [(3, 28), (3, 28)],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Videos of several lengths and sizes, with key frames where no middles are."""
    root = tmp_path_factory.mktemp("videos")
    shapes = [(60, 96, 128), (3, 128, 80), (37, 60, 60), (24, 48, 120)]
    for label, (count, height, width) in enumerate(shapes):
        (root / "test" / f"label {label}").mkdir(parents=True)
        data = encode_video(count, height=height, width=width, options={"g": "11", "sc_threshold": "0"})
        (root / "test" / f"label {label}" / "clip.mp4").write_bytes(data)
    return root


@pytest.fixture
def dataset(folder):
    return load_video_dataset(folder, "test")


@pytest.fixture(scope="module")
def cache():
    clips = np.random.default_rng(0).integers(0, 255, (4, 9, 60, 60, 3), dtype=np.uint8)
    return CachedClips(clips, np.arange(4), [f"label {label}" for label in range(4)], ["a", "b", "c", "d"])


@pytest.fixture
def model(tiny_checkpoint):
    return FluxViTForVideoClassification.from_pretrained(tiny_checkpoint).eval()


@pytest.fixture(params=SETTINGS)
def setting(request):
    return request.param


@pytest.fixture
def processor(tiny_processor, setting):
    return FluxVideoProcessor(**tiny_processor.to_dict() | SETTINGS[setting])


@pytest.mark.parametrize("as_frames", [False, True])
def test_one_view_is_what_the_processor_makes(dataset, processor, setting, as_frames):
    for row in dataset:
        video = read_video(row["video"])[0] if as_frames else row["video"]
        framings, pixels, _ = read_views(video, processor, [(budget, None) for budget in BUDGETS], Views())
        for framing, budget in zip(framings, BUDGETS, strict=True):
            expected = processor(video, token_budget=budget, return_tensors="pt")["pixel_values_videos"]
            assert torch.equal(pixels[framing], expected)
            assert expected.shape == (1, framing.grid.frames, 3, *framing.grid.pixels())
            if not processor.fit_source:
                assert framing.grid == processor.choose_grid(budget)


def test_the_processor_tells_the_grid_that_comes_out(processor, setting):
    grids = [processor.choose_grid(budget) for budget in BUDGETS]
    assert grids == GRIDS_OF[setting]
    for (frames, size), budget in zip(grids, BUDGETS, strict=True):
        height, width = (size, size) if isinstance(size, int) else size
        video = np.zeros((30, 150, 200, 3), np.uint8)
        found = processor(video, token_budget=budget, return_tensors="pt")["pixel_values_videos"]
        assert found.shape == (1, frames, 3, height, width)


@pytest.mark.long
@pytest.mark.parametrize("views", [Views(1, 1), Views(3, 1), Views(2, 3)])
def test_scores_of_pipeline_and_evaluation_are_the_same(dataset, model, processor, views, tmp_path):
    if views.num_crops > 1 and processor.size is not None and processor.size.height:
        pytest.skip("refused: crops need frames that keep their aspect ratio")
    counts = {"num_clips": views.num_clips, "num_crops": views.num_crops}
    pipeline = FluxVideoClassificationPipeline(model=model, video_processor=processor, device="cpu")
    evaluate(dataset, model, processor, list(BUDGETS), records_dir=tmp_path, **counts)
    scored = records_of(tmp_path)
    assert scored.keys() == set(range(len(dataset)))
    for row, entry in enumerate(dataset):
        for arm, budget in zip(scored[row]["arms"], BUDGETS, strict=True):
            answer = pipeline(entry["video"], token_budget=budget, top_k=4, **counts)
            expected = {model.config.id2label[c]: s for c, s in zip(arm["top"], arm["scores"], strict=True)}
            assert {e["label"]: e["score"] for e in answer} == pytest.approx(expected, abs=2e-6)


def records_of(folder) -> dict[int, dict]:
    lines = [line for path in folder.glob("*.jsonl") for line in path.read_text().splitlines()]
    return {record["row"]: record for record in map(json.loads, lines)}


def test_the_pipeline_takes_the_frames_of_the_protocol(model):
    processor, seen = FluxVideoProcessor(num_frames=8, size=56), []
    pipeline = FluxVideoClassificationPipeline(model=model, video_processor=processor, device="cpu")
    model.register_forward_pre_hook(lambda module, arguments, options: seen.append(arguments[0]), with_kwargs=True)
    data = encode_video(300, height=56, width=56, options={"g": "10", "sc_threshold": "0"})
    pipeline(data, num_clips=4)
    mean, std = (torch.tensor(value)[:, None, None] for value in (processor.image_mean, processor.image_std))
    numbers = [read_numbers(clip.permute(0, 2, 3, 1).numpy()) for clip in (seen[0] * std + mean) * 255]
    assert [clip[0] for clip in numbers] == [7, 14, 22, 29]
    assert numbers[0] == [7, 44, 82, 119, 157, 194, 231, 269]


@pytest.mark.parametrize(("num_crops", "lefts"), [(1, [27]), (2, [0, 55]), (3, [0, 27, 55]), (4, [0, 18, 36, 55])])
def test_crops_lie_along_the_longer_side(num_crops, lefts):
    video = torch.arange(95.0).expand(6, 3, 40, 95)
    crops = crops_along_longer_side(video, 40, 40, num_crops)
    assert [crop[0, 0, 0, 0].item() for crop in crops] == lefts
    upright = crops_along_longer_side(video.transpose(-1, -2), 40, 40, num_crops)
    assert all(torch.equal(one.transpose(-1, -2), other) for one, other in zip(crops, upright, strict=True))


@pytest.mark.long
@pytest.mark.parametrize(("cached", "batch_size"), [(False, 3), (True, 1)])
def test_evaluation_in_training_answers_like_the_model(dataset, cache, model, processor, cached, batch_size, tmp_path):
    videos = cache if cached else dataset
    settings = {"token_budgets": list(BUDGETS), "per_device_eval_batch_size": batch_size}
    trainer = tiny_training.FluxTrainer(
        model=model,
        args=tiny_training.arguments(tmp_path / "run", **settings),
        eval_dataset=videos,
        processing_class=processor,
    )
    found = trainer.evaluation_loop(trainer.get_eval_dataloader(), "here")
    assert found.label_ids.tolist() == [0, 1, 2, 3]
    for place, row in enumerate(dataset):
        video = videos.clips[place] if cached else row["video"]
        for index, budget in enumerate(BUDGETS):
            inputs = processor(video, token_budget=budget, return_tensors="pt")
            with torch.no_grad():
                expected = model(**inputs).logits[0]
            torch.testing.assert_close(torch.tensor(found.predictions[place, index]), expected, atol=1e-5, rtol=1e-5)


def test_videos_of_one_batch_have_grids_of_their_own(dataset, model, tiny_processor, tmp_path):
    """And one that cannot be read has none."""
    processor = FluxVideoProcessor(**tiny_processor.to_dict() | {"fit_source": True})
    broken = dataset.map(
        lambda row, number: {"video": row["video"] if number else {"path": None, "bytes": b"no video"}},
        with_indices=True,
    )
    trainer = tiny_training.FluxTrainer(
        model=model,
        args=tiny_training.arguments(tmp_path, token_budgets=list(BUDGETS)),
        eval_dataset=broken,
        processing_class=processor,
    )
    (batch,) = trainer.get_eval_dataloader()
    shapes = {
        (tuple(batch["pixel_values_videos"][group].shape), tuple(rows), budget)
        for group, rows, budget in batch["forwards"]
    }
    assert shapes == {
        ((1, 3, 3, 84, 84), (1,), 96),
        ((1, 8, 3, 70, 70), (2,), 96),
        ((1, 8, 3, 56, 56), (3,), 96),
        ((1, 3, 3, 56, 56), (1,), 48),
        ((2, 6, 3, 56, 56), (2, 3), 48),
    }
    assert batch["labels"].tolist() == [-100, 1, 2, 3]
    assert trainer.evaluate()["eval_unreadable"] == 1


@pytest.mark.parametrize("option", [{"do_resize": False}, {"do_center_crop": False}, {"fps": 2}])
def test_processors_that_make_no_views(dataset, model, tiny_processor, tmp_path, option):
    """One error, whoever asks."""
    (name,) = option
    processor = FluxVideoProcessor(**tiny_processor.to_dict() | option)
    with pytest.raises(ValueError, match=f"the processor has {name}="):
        evaluate(dataset, model, processor, [48])
    with pytest.raises(ValueError, match=f"the processor has {name}="):
        FluxVideoClassificationPipeline(model=model, video_processor=processor)(dataset[0]["video"], num_clips=2)
    trainer = tiny_training.FluxTrainer(
        model=model, args=tiny_training.arguments(tmp_path, token_budgets=[48]), eval_dataset=dataset,
        processing_class=processor,
    )  # fmt: skip
    with pytest.raises(ValueError, match=f"the processor has {name}="):
        trainer.evaluate()


def test_what_one_budget_and_crop_are_scored_on(dataset, model, tiny_processor):
    """Grids of one crop that come from other sizes are two looks, not one."""
    processor = FluxVideoProcessor(**tiny_processor.to_dict() | {"crop_size": 42, "num_frames": 4})
    framings, pixels, _ = read_views(
        dataset[0]["video"], processor, [(96, None), (48, None), (48, Grid(9, 56))], Views()
    )
    assert [framing.grid for framing in framings] == [Grid(4, 42)] * 3
    assert len(pixels) == 2 and framings[1] == framings[2]
    assert not torch.equal(pixels[framings[0]], pixels[framings[1]])


def test_costs_are_of_the_grid_that_comes_out(dataset, model, processor, setting):
    if processor.fit_source:
        pytest.skip("every video has a grid of its own")
    result, shapes = evaluate(dataset, model, processor, list(BUDGETS)), []
    for budget, (frames, size) in zip(BUDGETS, GRIDS_OF[setting], strict=True):
        height, width = (size, size) if isinstance(size, int) else size
        tokens = frames * (height // 14) * (width // 14)
        figures = result["budgets"][budget]
        assert figures["grid"] == [frames, size]
        assert figures["gmacs"] == forward_macs(model.config, min(budget, tokens), tokens) / 1e9
        short = f"{frames}x{size}" if isinstance(size, int) else f"{frames}x{height}x{width}"
        assert figures["grids_used"] == {short: 4}
        assert f"{frames} x {height} x {width}" in markdown_table(result)
        assert ("top-5" in markdown_table(result)) == (len(result["label_names"]) > 5)
        answer = classify(dataset[0]["video"], model, processor, budget)
        assert answer.grid == (frames, size) and answer.gmacs == figures["gmacs"]
        shapes.append((1, frames, 3, height, width))
    seen = []
    model.register_forward_pre_hook(lambda module, arguments: seen.append(tuple(arguments[0].shape)))
    forward_latency(model, processor, list(BUDGETS))
    assert list(dict.fromkeys(seen)) == list(dict.fromkeys(shapes))
    card = str(build_model_card("nowhere", "me/model", model, processor))
    assert all(f"{frames} x {height} x {width}" in card for _, frames, _, height, width in shapes)


def test_several_clips_of_a_short_video_for_tokens_of_two_frames():
    """Clips that share frames may take an odd number of them together."""
    processor, counts = FluxVideoProcessor(patch_size=8, tubelet_size=2, fit_source=False), set()
    for frames in range(8, 30):
        video = np.full((frames, 20, 24, 3), 9, np.uint8)
        [framing], pixels, metadata = read_views(video, processor, [(16, Grid(8, 16))], Views(num_clips=2))
        assert pixels[framing].shape == (2, 8, 3, 16, 16)
        counts.add(len(metadata.frames_indices) % 2)
    assert counts == {0, 1}

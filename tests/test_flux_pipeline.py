"""`FluxVideoClassificationPipeline`: a budget per call, views, batches, and saving."""

import io
import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForVideoClassification, pipeline

from flux_hf import FluxVideoClassificationPipeline, FluxVideoProcessor, FluxViTForVideoClassification
from flux_hf.processing.frame_sampling_fluxvit import segment_middles
from flux_hf.processing.video_decoding_fluxvit import read_video
from tests.test_remote_code import run

TASK = "flux-video-classification"
REMOTE = """
import json, sys
sys.modules["flux_hf"] = None
from transformers import pipeline
folder, clip, task = sys.argv[1:]
classify = pipeline(task, model=folder, trust_remote_code=True)
print(json.dumps([type(classify).__name__, classify(clip, **({"token_budget": 20} if "flux" in task else {}))]))
"""


@pytest.fixture
def model(tiny_checkpoint):
    return FluxViTForVideoClassification.from_pretrained(tiny_checkpoint).eval()


@pytest.fixture
def processor(tiny_checkpoint):
    return FluxVideoProcessor.from_pretrained(tiny_checkpoint)


@pytest.fixture
def classify(model, processor):
    return FluxVideoClassificationPipeline(model=model, video_processor=processor, device="cpu")


@pytest.fixture
def seen(classify):
    """Shape and budget of every forward of the pipeline's model."""
    forwards = []
    classify.model.register_forward_pre_hook(
        lambda module, arguments, options: forwards.append((tuple(arguments[0].shape), options["token_budget"])),
        with_kwargs=True,
    )
    return forwards


def by_label(answer: list[dict]) -> dict[str, float]:
    return {entry["label"]: entry["score"] for entry in answer}


def scores_of(model, pixels: torch.Tensor, budget: int) -> dict[str, float]:
    """Mean probability over views, (views, frames, channels, height, width)."""
    with torch.no_grad():
        mean = model(pixels, token_budget=budget).logits.softmax(-1).mean(0).tolist()
    return {model.config.id2label[index]: score for index, score in enumerate(mean)}


def test_answers_like_the_stock_pipeline(classify, tiny_checkpoint, make_video):
    clip = str(make_video("clip.mp4"))
    stock = pipeline("video-classification", model=tiny_checkpoint)
    for options in ({}, {"top_k": 2}, {"top_k": 100}, {"function_to_apply": "sigmoid"}, {"num_frames": 4}):
        ours, theirs = classify(clip, **options), stock(clip, **options)
        assert [entry["label"] for entry in ours] == [entry["label"] for entry in theirs]
        assert by_label(ours) == pytest.approx(by_label(theirs), abs=1e-6)
        assert {tuple(entry) for entry in ours} == {("score", "label")}


def test_made_by_the_pipeline_function(tiny_checkpoint, make_video):
    classify = pipeline(
        "video-classification", model=tiny_checkpoint, pipeline_class=FluxVideoClassificationPipeline, token_budget=20
    )
    assert type(classify) is FluxVideoClassificationPipeline
    assert len(classify(str(make_video("clip.mp4")))) == 4


def test_a_budget_for_every_call(classify, seen, make_video):
    clip = str(make_video("clip.mp4"))
    for budget in (None, 96, 48, 20):
        classify(clip, token_budget=budget)
    assert seen[:3] == [((1, 6, 3, 56, 56), 48), ((1, 8, 3, 70, 70), 96), ((1, 6, 3, 56, 56), 48)]
    frames, side = classify.video_processor.choose_grid(20)
    assert seen[3] == ((1, frames, 3, side, side), 20)
    kept = FluxVideoClassificationPipeline(
        model=classify.model, video_processor=classify.video_processor, token_budget=96
    )
    kept(clip)
    assert seen[4][1] == 96


@pytest.mark.parametrize("option", ["token_budget", "num_clips", "num_crops"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "3", True])
def test_options_are_checked(classify, make_video, option, value):
    with pytest.raises(ValueError, match=f"{option} must be an integer >= 1"):
        classify("clip.mp4", **{option: value})


def test_sources_of_every_kind(classify, make_video):
    classify.video_processor.decoding = "exact"
    path = make_video("clip.mp4")
    content, frames = path.read_bytes(), read_video(path)[0]
    expected = by_label(classify(str(path)))
    for source in (path, content, io.BytesIO(content), {"path": str(path)}, {"bytes": content, "path": None}, frames):
        assert by_label(classify(source)) == pytest.approx(expected, abs=1e-6)
        assert by_label(classify(source, num_clips=2)) == pytest.approx(by_label(classify(path, num_clips=2)), abs=1e-6)
    with path.open("rb") as file:
        assert by_label(classify(file)) == pytest.approx(expected, abs=1e-6)


def test_clips_take_other_frames_of_the_same_segments(classify, seen, model, processor, make_video):
    classify.video_processor.decoding = "exact"
    clip = make_video("clip.mp4", frames=60)
    answer = classify(str(clip), num_clips=3, token_budget=48)
    assert seen == [((3, 6, 3, 56, 56), 48)]
    frames = read_video(clip)[0]
    clips = [frames[segment_middles(60, 6, index, 3)] for index in range(3)]
    pixels = processor(clips, do_sample_frames=False, token_budget=48, return_tensors="pt")["pixel_values_videos"]
    assert by_label(answer) == pytest.approx(scores_of(model, pixels, 48), abs=1e-6)
    assert by_label(answer) != pytest.approx(by_label(classify(str(clip), token_budget=48)), abs=1e-6)


@pytest.mark.parametrize(("width", "height"), [(200, 80), (80, 200)])
def test_crops_lie_along_the_longer_side(classify, seen, model, processor, make_video, width, height):
    classify.video_processor.decoding = "exact"
    clip = make_video("clip.avi", frames=20, width=width, height=height)
    answer = classify(str(clip), num_crops=3, num_clips=2, token_budget=48)
    assert seen == [((6, 6, 3, 56, 56), 48)]
    frames = read_video(clip)[0]
    pixels = processor(
        [frames[segment_middles(20, 6, index, 2)] for index in range(2)],
        do_sample_frames=False, do_center_crop=False, token_budget=48, return_tensors="pt",
    )["pixel_values_videos"]  # fmt: skip
    assert tuple(pixels.shape[-2:]) in {(56, 140), (140, 56)}
    middle = slice(42, 98)
    views = [pixels[..., :56, :56], pixels[..., middle] if width > height else pixels[..., middle, :]]
    views.append(pixels[..., -56:, -56:])
    views = torch.stack(views, dim=1).flatten(0, 1)
    assert by_label(answer) == pytest.approx(scores_of(model, views, 48), abs=1e-6)
    one = classify.preprocess(str(clip), token_budget=48)["pixel_values_videos"][0]
    three = classify.preprocess(str(clip), token_budget=48, num_crops=3)["pixel_values_videos"][0]
    torch.testing.assert_close(three[1:2], one)


def test_batches_of_mixed_videos(classify, seen, make_video):
    """Lengths, sizes and containers differ; the answers are those of one call each."""
    clips = [
        str(make_video("wide.mp4", frames=30, width=160, height=64)),
        str(make_video("tall.mkv", frames=9, width=64, height=144, fps=25)),
        make_video("short.avi", frames=2, width=80, height=80).read_bytes(),
    ]
    options = {"token_budget": 96, "num_clips": 2, "num_crops": 2}
    expected = [by_label(classify(clip, **options)) for clip in clips]
    seen.clear()
    for inputs in (clips, (clip for clip in clips)):
        answers = list(classify(inputs, batch_size=2, **options))
        assert [by_label(answer) for answer in answers] == [pytest.approx(scores, abs=1e-5) for scores in expected]
    assert [shape[0] for shape, _ in seen] == [8, 4, 8, 4]


def test_batches_in_worker_processes(classify, make_video):
    clips = [str(make_video(f"{index}.mp4", frames=10 + index, seed=index)) for index in range(3)]
    expected = [by_label(classify(clip)) for clip in clips]
    answers = classify(clips, batch_size=2, num_workers=1)
    assert [by_label(answer) for answer in answers] == [pytest.approx(scores, abs=1e-5) for scores in expected]


def test_videos_that_cannot_share_a_batch(model, make_video):
    processor = FluxVideoProcessor(token_budget=48, fps=2)
    classify = FluxVideoClassificationPipeline(model=model, video_processor=processor)
    clips = [str(make_video("a.mp4", frames=12)), str(make_video("b.mp4", frames=36))]
    assert len(classify(clips)) == 2
    with pytest.raises(ValueError, match=r"different shapes.*use batch_size=1"):
        classify(clips, batch_size=2)
    with pytest.raises(ValueError, match="fixed number of frames, the processor has fps=2"):
        classify(clips[0], num_clips=2)


def test_frame_rate_is_refused(classify, make_video):
    with pytest.raises(ValueError, match="frame_sampling_rate"):
        classify(str(make_video("clip.mp4")), frame_sampling_rate=4)


def test_pictures_and_bfloat16(tiny_checkpoint, processor):
    model = AutoModelForVideoClassification.from_pretrained(tiny_checkpoint, dtype=torch.bfloat16)
    classify = FluxVideoClassificationPipeline(model=model, video_processor=processor)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8))
    answer = classify(picture, num_crops=2)
    assert sum(entry["score"] for entry in answer) == pytest.approx(1, abs=1e-3)


def test_saving_keeps_processor_and_pipeline(classify, tmp_path, make_video):
    """The stock task must not ask for consent to run code."""
    folder, clip = tmp_path / "saved", str(make_video("clip.mp4"))
    classify.save_pretrained(folder)
    assert getattr(classify.model.config, "custom_pipelines", {}) == {}
    assert FluxVideoProcessor.from_pretrained(folder).to_dict() == classify.video_processor.to_dict()
    config = json.loads((folder / "config.json").read_text())
    assert config["custom_pipelines"][TASK]["impl"] == "pipeline_fluxvit.FluxVideoClassificationPipeline"
    assert (folder / "pipeline_fluxvit.py").is_file()
    stock = pipeline("video-classification", model=folder)
    assert type(stock).__name__ == "VideoClassificationPipeline"
    assert by_label(stock(clip)) == pytest.approx(by_label(classify(clip)), abs=1e-6)


@pytest.mark.slow
def test_a_saved_pipeline_travels(classify, tmp_path, make_video):
    """To a process without the package, under its own task name and under the stock one."""
    folder, clip = tmp_path / "saved", str(make_video("clip.mp4"))
    classify.save_pretrained(folder)
    for task, expected in ((TASK, classify(clip, token_budget=20)), ("video-classification", classify(clip))):
        process = run(sys.executable, REMOTE, folder, clip, task, cwd=tmp_path)
        assert process.returncode == 0, process.stderr[-3000:]
        name, answer = json.loads(process.stdout.splitlines()[-1])
        assert name == ("FluxVideoClassificationPipeline" if task == TASK else "VideoClassificationPipeline")
        assert by_label(answer) == pytest.approx(by_label(expected), abs=1e-5)


def test_a_model_saved_alone_does_not_name_the_pipeline(classify, tmp_path):
    """Its file would not be there."""
    classify.save_pretrained(tmp_path / "pipeline")
    model = AutoModelForVideoClassification.from_pretrained(tmp_path / "pipeline")
    assert TASK in model.config.custom_pipelines
    model.save_pretrained(tmp_path / "model")
    assert not json.loads((tmp_path / "model" / "config.json").read_text()).get("custom_pipelines")

"""Whoever puts a video into a model takes the same frames of it, and `--decoding` says which."""

import pytest
import torch

from flux_hf import FluxVideoClassificationPipeline, FluxVideoProcessor, FluxViTForVideoClassification
from flux_hf.classification import classify
from flux_hf.data import load_video_dataset
from flux_hf.evaluation import evaluate
from flux_hf.processing.frame_sampling_fluxvit import middles_unless_cheaper, segment_middles
from flux_hf.processing.video_decoding_fluxvit import read_video
from flux_hf.scripts import classify as classify_command
from flux_hf.scripts import evaluate_checkpoint as evaluate_command
from flux_hf.scripts import finetune as finetune_command
from flux_hf.scripts import optimize_tokens as optimize_command
from flux_hf.training import FluxTrainer
from tests import tiny_training
from tests.video_files import encode_video

FRAMES = {48: 6, 96: 8}
"""Token budget of the tiny checkpoint -> frames of its grid."""


@pytest.fixture(scope="module", params=[250, 10], ids=["one key frame", "a key frame in each segment"])
def clip(request, tmp_path_factory):
    """Folder of a data set, a clip of 160 frames that is all there is in it, and the numbers of its key frames."""
    folder, keys = tmp_path_factory.mktemp("data"), range(0, 160, request.param)
    content = encode_video(160, height=70, width=84, options={"g": str(keys.step), "sc_threshold": "0"})
    for path in (
        folder / split / label / "clip.mp4" for split in ("validation", "test") for label in ("label 1", "label 3")
    ):
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    return folder, path, keys


@pytest.fixture
def seen(monkeypatch):
    """The clips that models get to classify, whoever calls them: number of frames -> pixels of each clip."""
    clips, forward = {}, FluxViTForVideoClassification.forward

    def watched(self, pixel_values_videos=None, *arguments, **options):
        for pixels in [] if self.training else pixel_values_videos:
            clips.setdefault(len(pixels), []).append(pixels)
        return forward(self, pixel_values_videos, *arguments, **options)

    monkeypatch.setattr(FluxViTForVideoClassification, "forward", watched)
    return clips


def assert_taken(seen: dict, checkpoint, path, decoding: str, keys, budgets=(48, 96)) -> None:
    """Empties `seen` after comparing it with the frames of a plain full decode."""
    processor, frames = FluxVideoProcessor.from_pretrained(checkpoint), read_video(path)[0]
    assert set(seen) == {FRAMES[budget] for budget in budgets}
    for budget in budgets:
        middles = segment_middles(160, FRAMES[budget])
        numbers = middles if decoding == "exact" else middles_unless_cheaper(160, FRAMES[budget], keys)
        assert (numbers == middles).all() == (decoding == "exact" or keys.step > 160)
        options = {"do_sample_frames": False, "token_budget": budget, "return_tensors": "pt"}
        (expected,) = processor(frames[numbers], **options)["pixel_values_videos"]
        assert all(torch.equal(pixels, expected) for pixels in seen.pop(FRAMES[budget]))


def test_the_same_everywhere(clip, seen, tiny_checkpoint, tmp_path):
    folder, path, keys = clip
    model = FluxViTForVideoClassification.from_pretrained(tiny_checkpoint).eval()
    processor = FluxVideoProcessor.from_pretrained(tiny_checkpoint)
    dataset = load_video_dataset(folder, "test")

    answer = FluxVideoClassificationPipeline(model=model, video_processor=processor, device="cpu")
    for budget in FRAMES:
        answer(str(path), token_budget=budget)
    assert_taken(seen, tiny_checkpoint, path, "fast", keys)
    answer(str(path), num_crops=3, token_budget=48)
    seen[6] = seen[6][1:2]  # the crop in the middle
    assert_taken(seen, tiny_checkpoint, path, "fast", keys, [48])
    for budget in FRAMES:
        classify(str(path), model, processor, budget)
    assert_taken(seen, tiny_checkpoint, path, "fast", keys)
    evaluate(dataset, model, processor, list(FRAMES))
    assert_taken(seen, tiny_checkpoint, path, "fast", keys)
    trainer = FluxTrainer(
        model=model,
        args=tiny_training.arguments(tmp_path / "run", token_budgets=[96, 48]),
        train_dataset=dataset,
        eval_dataset=dataset,
        processing_class=processor,
    )
    trainer.evaluate()
    assert_taken(seen, tiny_checkpoint, path, "fast", keys)


KEYED = pytest.mark.parametrize("clip", [10], indirect=True)


@KEYED
@pytest.mark.parametrize("asked", [[], ["--decoding", "exact"], ["--decoding", "fast"]])
@pytest.mark.parametrize("saved", ["fast", "exact"])
def test_commands_read_as_they_are_told_or_as_the_checkpoint_says(clip, seen, tiny_checkpoint, tmp_path, asked, saved):
    folder, path, keys = clip
    checkpoint = tmp_path / "checkpoint"
    FluxViTForVideoClassification.from_pretrained(tiny_checkpoint).save_pretrained(checkpoint)
    FluxVideoProcessor.from_pretrained(tiny_checkpoint, decoding=saved).save_pretrained(checkpoint)
    decoding = asked[1] if asked else saved
    options = ["--checkpoint", str(checkpoint), *asked]

    classify_command.main([str(path), *options])
    assert_taken(seen, checkpoint, path, decoding, keys)
    evaluate_command.main(["--dataset", str(folder), *options])
    assert_taken(seen, checkpoint, path, decoding, keys)


@KEYED
def test_finetune_evaluates_and_saves_as_it_is_told(clip, seen, tiny_checkpoint, tmp_path):
    folder, path, keys = clip
    grids = {"min_frames": 4, "max_frames": 8, "min_size": 28, "max_size": 42, "size_step": 14}
    options = {"dataset": folder, "model": tiny_checkpoint, "output_dir": tmp_path / "run", "decoding": "exact"}
    options |= grids | {"train_split": "test", "min_pool_tokens": 16, "max_pool_tokens": 54, "max_steps": 1}
    options |= {"token_budgets": 48, "num_frames": 6, "size": 56, "use_cpu": True, "save_strategy": "no"}
    finetune_command.main([f"--{name}={value}" for name, value in (options | {"report_to": "none"}).items()])
    assert_taken(seen, tmp_path / "run", path, "exact", keys, [48])
    assert FluxVideoProcessor.from_pretrained(tmp_path / "run").decoding == "exact"


@KEYED
def test_a_search_goes_on_only_with_the_frames_it_began_with(clip, seen, tiny_checkpoint, tmp_path):
    folder, path, keys = clip
    options = ["--dataset", str(folder), "--checkpoint", str(tiny_checkpoint), "--output_dir", str(tmp_path / "found")]
    options += ["--token_budgets", "48", "--frames", "6", "--sizes", "56", "--rounds", "1"]
    optimize_command.main([*options, "--decoding", "exact"])
    assert_taken(seen, tiny_checkpoint, path, "exact", keys, [48])
    after = FluxVideoProcessor.from_pretrained(tmp_path / "found" / "processor_after")
    assert after.decoding == "fast", "the search changes grids alone"
    with pytest.raises(ValueError, match="processor.decoding"):
        optimize_command.main(options)

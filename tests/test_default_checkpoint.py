"""The checkpoint in the package does what its card says, on clips rendered here: the first of the card's test split."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForVideoClassification, AutoVideoProcessor

from flux_hf import FluxViTForVideoClassification, default_checkpoint
from flux_hf.data import load_video_dataset
from flux_hf.evaluation import evaluate
from flux_hf.scripts.experiments.motion_clips import LABELS, MotionClipOptions, make_dataset
from flux_hf.scripts.experiments.motion_clips_endless import hands, motions, walkers
from flux_hf.scripts.experiments.motion_clips_endless.clips import compose
from flux_hf.scripts.experiments.motion_clips_endless.dice import Dice
from flux_hf.scripts.experiments.motion_clips_endless.layers import make_banks
from flux_hf.token_optimization.candidates import default_axes

BUDGETS = [256, 128, 64]
CLAIMED = {"synthetic": 0.97, "photos": 0.96}


def top1(folder: Path, num_clips: int, source: str, seed: int) -> dict[int, float]:
    make_dataset(MotionClipOptions(str(folder), 0, 0, num_clips, seed=seed, source=source), progress=False)
    checkpoint = default_checkpoint()
    result = evaluate(
        load_video_dataset(folder, "test"),
        AutoModelForVideoClassification.from_pretrained(checkpoint).eval(),
        AutoVideoProcessor.from_pretrained(checkpoint),
        BUDGETS,
    )
    assert (result["num_videos"], result["unreadable"]) == (num_clips, [])
    return {budget: figures["top1"] for budget, figures in result["budgets"].items()}


def test_size_and_labels():
    model = AutoModelForVideoClassification.from_pretrained(default_checkpoint())
    assert set(model.config.label2id) == set(LABELS)
    assert 1e6 <= sum(parameter.numel() for parameter in model.parameters()) <= 2e6
    files = {file.name for file in Path(default_checkpoint()).iterdir()}
    assert files == {"README.md", "config.json", "model.safetensors", "video_preprocessor_config.json"}
    assert sum(file.stat().st_size for file in Path(default_checkpoint()).iterdir()) <= 8e6
    assert model.config.head_token_budgets == BUDGETS and model.config.token_budget == BUDGETS[0]


def test_token_optimization_tries_grids_below_and_above_its_own():
    frames, sizes = default_axes(FluxViTForVideoClassification.from_pretrained(default_checkpoint()))
    assert (frames, sizes) == ([4, 8, 12, 16], [48, 64, 80, 96, 112, 128])


@pytest.mark.long
def test_small_sample_of_the_test_split(tmp_path):
    assert min(top1(tmp_path / "clips", 27, "synthetic", 0).values()) >= 0.75


def named_right(wanted: Sequence[str], often: Sequence[str], batches: int) -> float:
    """Share of composed clips with these labels that are named at 256 tokens."""
    model = AutoModelForVideoClassification.from_pretrained(default_checkpoint()).eval()
    processor = AutoVideoProcessor.from_pretrained(default_checkpoint())
    dice = Dice(seed=5)
    banks = make_banks(64, dice)
    right = []
    for _ in range(batches):
        clips, labels = compose(48, banks, dice, frames=8, side=112, often=often)
        names = [motions.LABELS[label] for label in labels]
        rows = [row for row, name in enumerate(names) if name in wanted]
        inputs = processor(list((clips[rows] * 255).round().byte()), return_tensors="pt")
        with torch.inference_mode():
            answers = model(**inputs).logits.argmax(-1).tolist()
        right += [model.config.id2label[answer] == names[row] for answer, row in zip(answers, rows, strict=True)]
    assert len(right) > 20
    return sum(right) / len(right)


DEPTH, TURNS = ["approaches", "recedes"], ["turns_clockwise", "turns_counterclockwise"]


@pytest.mark.long
@pytest.mark.parametrize(
    ("module", "share", "labels", "least"),
    [
        pytest.param(motions, "ALONG_A_LINE", DEPTH, 0.5, id="along a line"),
        pytest.param(hands, "OFTEN", TURNS, 0.55, id="hands of clocks"),
        pytest.param(walkers, "OFTEN", DEPTH, 0.63, id="people"),
    ],
)
def test_what_training_was_changed_for(monkeypatch, module, share, labels, least):
    """The checkpoint before hands and people were among the clips names 46, 51 and 58 %, this one 60, 70 and 69."""
    monkeypatch.setattr(module, share, 1.0)
    assert named_right(labels, labels, 3) > least


@pytest.mark.slow
@pytest.mark.parametrize(("source", "seed"), [("synthetic", 0), ("photos", 2)])
def test_larger_sample_of_the_test_split(tmp_path, source, seed):
    accuracy = top1(tmp_path / "clips", 270, source, seed)
    assert accuracy[256] >= CLAIMED[source] - 0.05
    assert min(accuracy.values()) >= CLAIMED[source] - 0.12

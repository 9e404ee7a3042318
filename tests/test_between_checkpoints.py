"""A classifier between two others."""

import copy

import pytest
import torch

from flux_hf import FluxViTForVideoClassification
from flux_hf.data import load_video_dataset
from flux_hf.plugin import load_video_classifier, load_video_processor
from flux_hf.scripts.experiments.default_checkpoint.between import main
from flux_hf.scripts.experiments.default_checkpoint.calibrating import fit, logits_of


def between(first, second, share: float, folder, *more: str) -> None:
    main(["--first", str(first), "--second", str(second), "--share", str(share), "--output_dir", str(folder), *more])


@pytest.fixture
def trained_on(tiny_config, tiny_processor, tmp_path):
    """Another classifier of the architecture of the tiny checkpoint."""
    torch.manual_seed(1)
    FluxViTForVideoClassification(tiny_config).save_pretrained(tmp_path / "after")
    tiny_processor.save_pretrained(tmp_path / "after")
    return tmp_path / "after"


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_every_weight_is_between_those_of_the_two(tiny_checkpoint, trained_on, tmp_path, share):
    between(tiny_checkpoint, trained_on, share, tmp_path / "between")
    before, after, found = (
        load_video_classifier(folder).state_dict() for folder in (tiny_checkpoint, trained_on, tmp_path / "between")
    )
    assert any(not torch.equal(before[name], after[name]) for name in before)
    for name, value in found.items():
        torch.testing.assert_close(value, (1 - share) * before[name] + share * after[name])
    model = load_video_classifier(tmp_path / "between")
    found, expected = (load_video_processor(folder, model) for folder in (tmp_path / "between", tiny_checkpoint))
    assert found.to_dict() == expected.to_dict()


def test_what_was_added_to_logits_is_found():
    """Likely logits of as many clips of every label stay as they are; spoiled ones become them again, also where some
    labels have fewer clips."""
    generator = torch.Generator().manual_seed(0)
    likely = 2 * torch.randn(40000, 4, generator=generator)
    labels = torch.multinomial(likely.softmax(1), 1, generator=generator)[:, 0]
    scale, shift = fit(likely, labels)
    assert scale == pytest.approx(1, abs=0.03) and shift.abs().max() < 0.05
    added = torch.tensor([1.0, -0.5, 0.0, -0.5])
    kept = (labels != 2) | (torch.rand(len(labels), generator=generator) < 0.3)
    scale, shift = fit(3 * likely[kept] + added, labels[kept])
    assert scale == pytest.approx(1 / 3, rel=0.05)
    assert torch.allclose(shift, -added / 3, atol=0.06)


def test_calibration_makes_labelled_clips_likelier_at_every_budget(
    tiny_checkpoint, trained_on, make_video, tmp_path, capsys
):
    for part in ("one", "two"):
        for number in range(8):
            make_video(f"{part}/train/label {number % 4}/{number}.mp4", seed=number, frames=8 + number)
    between(tiny_checkpoint, trained_on, 1.0, tmp_path / "as_it_is")
    sets = ["--calibrate_on", f"{tmp_path / 'one'}=train", f"{tmp_path / 'two'}=train"]
    between(tiny_checkpoint, trained_on, 1.0, tmp_path / "calibrated", *sets)
    printed = [line for line in capsys.readouterr().out.splitlines() if "tokens:" in line]
    dataset = load_video_dataset(tmp_path / "one", "train")
    found = []
    for name in ("as_it_is", "calibrated"):
        model = load_video_classifier(tmp_path / name).eval()
        found.append(logits_of(dataset, model, load_video_processor(tmp_path / name, model)))
    labels = torch.tensor(dataset["label"])
    assert len(printed) == 2
    for budget, line in zip((96, 48), printed, strict=True):
        before, after = (logits[budget].float() for logits in found)
        right = [int((logits.argmax(1) == labels).sum()) * 2 for logits in (before, after)]  # both sets are the same
        assert line.startswith(f"{budget} tokens: {right[0]} of 16 clips right, {right[1]} with logits x ")
        scale, shift = fit(before, labels)
        assert torch.allclose(after, scale * before + shift + (after - scale * before - shift).mean(), atol=1e-4)
        less, more = (torch.nn.functional.cross_entropy(logits, labels) for logits in (after, before))
        assert less < more


def test_what_cannot_be_mixed(tiny_checkpoint, tiny_config, tiny_processor, trained_on, make_video, tmp_path):
    with pytest.raises(ValueError, match="--share must be from 0 to 1, got 1.5"):
        between(tiny_checkpoint, trained_on, 1.5, tmp_path / "between")
    for number in (1, 2):
        make_video(f"clips/train/label {number}/a.mp4")
    for value, message in (
        ("clips", "--calibrate_on must be data sets as FOLDER=SPLIT, got clips"),
        (f"{tmp_path / 'clips'}=train", "--calibrate_on: the data sets have no clip of label 0, label 3"),
    ):
        with pytest.raises(ValueError, match=message):
            between(tiny_checkpoint, trained_on, 0.5, tmp_path / "between", "--calibrate_on", value)
    deeper = copy.deepcopy(tiny_config)
    deeper.num_hidden_layers += 1
    FluxViTForVideoClassification(deeper).save_pretrained(tmp_path / "deeper")
    tiny_processor.save_pretrained(tmp_path / "deeper")
    with pytest.raises(ValueError, match="not of the same architecture"):
        between(tiny_checkpoint, tmp_path / "deeper", 0.5, tmp_path / "between")
    assert not (tmp_path / "between").exists()

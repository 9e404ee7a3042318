"""A classifier between two others."""

import copy

import pytest
import torch

from flux_hf import FluxViTForVideoClassification
from flux_hf.plugin import load_video_classifier, load_video_processor
from flux_hf.scripts.experiments.default_checkpoint.between import main


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


def test_a_lowered_label_is_less_likely_at_every_budget(tiny_checkpoint, trained_on, tmp_path):
    between(tiny_checkpoint, trained_on, 1.0, tmp_path / "as_it_is")
    before = load_video_classifier(tmp_path / "as_it_is")
    labels = list(before.config.label2id)
    lowered = ["--lowered", labels[1], labels[0], "--lowered_by", "0.5", "2"]
    between(tiny_checkpoint, trained_on, 1.0, tmp_path / "lowered", *lowered)
    after = load_video_classifier(tmp_path / "lowered")
    config = before.config
    video = torch.randn(2, 8, config.num_channels, 70, 70)
    assert list(before.token_budgets) == [96, 48]
    for budget, by in ((96, 0.5), (48, 2.0)):
        expected = torch.tensor([-by if label in labels[:2] else 0.0 for label in config.id2label.values()])
        with torch.no_grad():
            moved = after(video, token_budget=budget).logits - before(video, token_budget=budget).logits
        torch.testing.assert_close(moved, expected.expand(2, -1), atol=1e-5, rtol=0)


def test_what_cannot_be_mixed(tiny_checkpoint, tiny_config, tiny_processor, trained_on, tmp_path):
    with pytest.raises(ValueError, match="--share must be from 0 to 1, got 1.5"):
        between(tiny_checkpoint, trained_on, 1.5, tmp_path / "between")
    with pytest.raises(ValueError, match="--lowered unheard_of: the labels are"):
        between(tiny_checkpoint, trained_on, 0.5, tmp_path / "between", "--lowered", "unheard_of")
    for options in (
        ["--lowered", "label 0", "--lowered_by", "1"],
        ["--lowered", "label 0"],
        ["--lowered_by", "1", "1"],
    ):
        with pytest.raises(
            ValueError, match="--lowered_by must have a number for each of the budgets 96, 48, and none"
        ):
            between(tiny_checkpoint, trained_on, 0.5, tmp_path / "between", *options)
    deeper = copy.deepcopy(tiny_config)
    deeper.num_hidden_layers += 1
    FluxViTForVideoClassification(deeper).save_pretrained(tmp_path / "deeper")
    tiny_processor.save_pretrained(tmp_path / "deeper")
    with pytest.raises(ValueError, match="not of the same architecture"):
        between(tiny_checkpoint, tmp_path / "deeper", 0.5, tmp_path / "between")
    assert not (tmp_path / "between").exists()

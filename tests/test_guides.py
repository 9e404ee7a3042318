"""The Python of the guides runs as it stands, that of fine-tuning on a few small clips."""

import re
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers.utils import logging

from flux_hf import FluxVideoProcessor, FluxViTForVideoClassification
from flux_hf.modeling import token_selection_fluxvit
from flux_hf.scripts import finetune
from flux_hf.training.label_symmetries import LabelSymmetries
from tests import video_datasets

PAGE = Path(__file__).parent.parent / "docs" / "finetuning.md"
TABLE = re.search(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[1]
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
SHORTER = {
    '"runs/mine")': '"runs/mine", max_steps=1, per_device_train_batch_size=6, dataloader_num_workers=0, '
    "dataloader_persistent_workers=False, use_cpu=True)",
    "num_train_epochs=10": "max_steps=1, use_cpu=True",
}


def test_a_rule_of_your_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(token_selection_fluxvit, "_RULES", dict(token_selection_fluxvit._RULES))
    page = PAGE.with_name("token_optimization.md")
    (example,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    made = {"__name__": "example"}
    exec(compile(example, str(page), "exec"), made)
    with torch.no_grad():
        (kept,) = made["again"](**made["inputs"]).keep_mask
        assert kept.equal(made["once"][0]) and kept.sum() == 64
        assert not kept.equal(made["model"](**made["inputs"], token_selection="group_dynamic").keep_mask[0])
    token_selection_fluxvit._RULES.pop("from_the_middle")
    with pytest.raises(ValueError, match="register_selection_rule.'from_the_middle'"):
        FluxViTForVideoClassification.from_pretrained("runs/from_the_middle")


@pytest.mark.long
@pytest.mark.parametrize(("number", "folder", "grid"), [(0, "runs/mine", (8, 128)), (1, "runs/plain", (8, 128))])
def test_the_examples_train_the_default_checkpoint(tmp_path, monkeypatch, number, folder, grid):
    video_datasets.videofolder(tmp_path / "my" / "videos", {"train": 6, "validation": 3})
    monkeypatch.chdir(tmp_path)
    assert len(EXAMPLES) == 2
    example = EXAMPLES[number]
    ((long, short),) = [pair for pair in SHORTER.items() if pair[0] in example]
    exec(compile(example.replace(long, short), str(PAGE), "exec"), {"__name__": "example"})
    logging.enable_progress_bar()  # the example turns it off

    model = FluxViTForVideoClassification.from_pretrained(folder)
    processor = FluxVideoProcessor.from_pretrained(folder)
    if number == 0:
        options = ["--dataset=my/videos", "--output_dir=runs/command", "--max_steps=1", "--use_cpu"]
        options += ["--per_device_train_batch_size=6", "--dataloader_num_workers=0"]
        finetune.main(["own_clips", *options, "--dataloader_persistent_workers=false"])
        same, found = (load_file(f"{run}/model.safetensors") for run in ("runs/command", folder))
        assert all(tensor.equal(found[name]) for name, tensor in same.items())
    assert list(model.config.id2label.values()) == video_datasets.CLASSES
    assert model.config.head_token_budgets == [256, 128, 64]
    assert processor.patch_size == model.config.patch_size and processor.grids[128] == grid


def test_the_table_of_the_page_is_one():
    labels = ["wave left", "wave right", "read a word", "open", "close", "stir"]
    assert LabelSymmetries(yaml.safe_load(TABLE), labels).mirrors
    with pytest.raises(ValueError, match="names open"):
        LabelSymmetries(yaml.safe_load(TABLE), [label for label in labels if label != "open"])

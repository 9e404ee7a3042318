"""The Python and the commands of docs/any_model.md run as they stand there, with a small model that looks at the same
grid, in a folder that has the name of the checkpoint on the Hub."""

import json
import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForVideoClassification, VideoMAEForVideoClassification, VideoMAEImageProcessor
from transformers.utils import logging

from flux_hf import FluxVideoProcessor
from flux_hf.cli import COMMANDS
from flux_hf.options import parse_options
from flux_hf.options.training import FinetuneOptions, FluxTrainingOptions
from flux_hf.processing.grid_fluxvit import Grid, grid_tokens
from flux_hf.training.grids import training_grids
from tests import video_datasets
from tests.stock_models import videomae

PAGE = Path(__file__).parent.parent / "docs" / "any_model.md"
TEXT = PAGE.read_text(encoding="utf-8").partition("## An adapter for a model of your own")[0]
PYTHON = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
LINES = [shlex.split(line)[1:] for line in re.findall(r"^flux-hf .*", TEXT, re.MULTILINE)]
(JEPA,) = [line for line in LINES if "facebook/vjepa2-vitl-fpc64-256" in line]  # too large for a test
HUB = "MCG-NJU/videomae-base-finetuned-kinetics"
SHORTER = {
    '"runs/flux",': '"runs/flux", max_steps=1, per_device_train_batch_size=2, use_cpu=True,',
    '"num_train_epochs": 3': '"max_steps": 1, "use_cpu": True, "per_device_train_batch_size": 2',
}
ONE_STEP = ["--max_steps=1", "--per_device_train_batch_size=2", "--use_cpu", "--report_to=none"]
FEW_GRIDS = ["--rounds=1", "--frames", "8", "16", "--sizes=224"]
ADDED = {"finetune": ONE_STEP, "optimize-tokens": FEW_GRIDS}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The folder in which a reader of the page is."""
    torch.manual_seed(0)
    grid = {"image_size": 224, "patch_size": 16, "num_frames": 16}
    model = videomae(**grid, hidden_size=16, num_hidden_layers=1, id2label=dict(enumerate("abcd")))
    model.save_pretrained(tmp_path / HUB)
    VideoMAEImageProcessor(size={"shortest_edge": 224}, crop_size=224).save_pretrained(tmp_path / HUB)
    video_datasets.write_video(tmp_path / "clip.mp4", 1)
    video_datasets.videofolder(tmp_path / "my" / "videos", {"train": 6, "validation": 3})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(line: list[str]) -> None:
    command, *options = line
    module = import_module(f"flux_hf.scripts.{COMMANDS[command]}")
    module.main(options + ADDED.get(command, []))


def cell(beginning: str, made: dict) -> None:
    """Run the one block of the page that has these words in it."""
    (code,) = [code for code in PYTHON if beginning in code]
    for long, short in SHORTER.items():
        code = code.replace(long, short)
    exec(compile(code, str(PAGE), "exec"), made)


def test_switched_on_called_and_saved(place, capsys):
    made = {"__name__": "page"}
    with torch.no_grad():
        cell("enable_flux(model, token_budget=784)", made)
        assert "784 of 1568 tokens" in capsys.readouterr().out
        cell("token_budgets=[1568, 392]", made)
        assert "True None" in capsys.readouterr().out
        torch.testing.assert_close(made["by_hand"].logits, made["cheap"].logits)
        assert not made["other_rule"].keep_mask.equal(made["output"].keep_mask)
        cell("num_frames=24", made)
        assert "[1, 1200]" in capsys.readouterr().out
        before, weights = made["output"].logits, made["model"].state_dict()
        cell("import AutoVideoProcessor", made)
        assert "[784] tensor(784)" in capsys.readouterr().out
        assert all(value.equal(weights[name]) for name, value in made["model"].state_dict().items())
        torch.testing.assert_close(made["model"](**made["inputs"]).logits, before)
    cell("disable_flux(model)", made)
    assert type(made["model"]) is VideoMAEForVideoClassification
    assert len(PYTHON) == 7  # these, and the two of the next test


@pytest.mark.slow
def test_trained_in_python(place):
    made = {"__name__": "page"}
    for beginning in ("enable_flux(model, token_budget=784)", "show_progress_lines", "def collate"):
        cell(beginning, made)
    logging.enable_progress_bar()
    saved = AutoModelForVideoClassification.from_pretrained("runs/flux")
    assert saved.token_budgets == [1568, 784, 392] and saved.config.token_budget == 784
    assert list(saved.config.id2label.values()) == video_datasets.CLASSES
    assert FluxVideoProcessor.from_pretrained("runs/flux").choose_grid(392) == (16, 224)


@pytest.mark.slow
def test_the_commands(place, capsys):
    for line in LINES:
        if line != JEPA:
            run(line)
    assert (place / "kept.png").is_file()
    printed = capsys.readouterr().out.splitlines()
    assert len([line for line in printed if "kept 392 of 1568 tokens" in line]) == 2
    assert AutoModelForVideoClassification.from_pretrained("runs/videomae").token_budgets == [1568, 784, 392]
    assert set(json.loads((place / "results" / "videomae.json").read_text())["budgets"]) == {"1568", "784", "392"}
    assert json.loads((place / "runs" / "exported" / "export.json").read_text())["token_budget"] == 392


def test_grids_of_vjepa2():
    options, args = parse_options((FinetuneOptions, FluxTrainingOptions), [*JEPA[1:], "--use_cpu"], "")
    assert options.model.startswith("facebook/vjepa2")
    grids = training_grids(args, (2, 16))
    assert Grid(64, 256) in grids and max(grid_tokens(grid, 16, 2) for grid in grids) == args.token_budgets[0] == 8192

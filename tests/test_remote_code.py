"""Saved checkpoints on a machine without flux_hf, and with it: whose classes run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from flux_hf import FluxVideoProcessor, FluxViTForVideoClassification
from tests.minimal_environment import make_environment

PACKAGES = ["transformers", "torch", "torchvision", "av"]

USE = """
import importlib.util, json, sys
folder, clip = sys.argv[1:]
absent = [name for name in ("flux_hf", "datasets", "accelerate", "modeling", "processing")
          if importlib.util.find_spec(name) is None]
from transformers import AutoConfig, AutoModel, AutoModelForVideoClassification, AutoProcessor, AutoVideoProcessor
from transformers import pipeline
import torch
trust = {"trust_remote_code": True}
config = AutoConfig.from_pretrained(folder, **trust)
base = AutoModel.from_pretrained(folder, **trust)
model = AutoModelForVideoClassification.from_pretrained(folder, **trust)
processor = AutoVideoProcessor.from_pretrained(folder, **trust)
inputs = processor(clip, token_budget=96, return_tensors="pt")
with torch.no_grad():
    logits = model(**inputs).logits[0].tolist()
    model.config.adaptive_budget = {"token_budgets": [24, 96], "confidences": [1.0]}
    auto = model(**processor(clip, token_budget="auto", return_tensors="pt"))
classify = pipeline("video-classification", model=folder, **trust)
print(json.dumps({
    "absent": absent,
    "classes": [type(each).__name__ for each in (config, base, model, processor)],
    "modules": sorted({type(each).__module__.split(".")[0] for each in (config, base, model, processor)}),
    "same_processor": type(AutoProcessor.from_pretrained(folder, **trust)).__name__,
    "logits": logits,
    "answered": auto.answered_budgets.tolist(),
    "scores": {entry["label"]: entry["score"] for entry in classify(clip)},
}))
"""


@pytest.fixture(scope="module")
def foreign_python(tmp_path_factory) -> Path:
    return make_environment(tmp_path_factory.mktemp("foreign") / "venv", PACKAGES)


def run(python, code: str, *arguments, cwd: Path) -> subprocess.CompletedProcess:
    """A fresh process, isolated from this one's paths and caches."""
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    caches = {"HF_HOME": str(cwd / "hf_home"), "HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [str(python), "-c", f"import sys; del sys.path[0]\n{code}", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=kept | caches, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def use(python, folder, clip, cwd: Path) -> dict:
    process = run(python, USE, folder, clip, cwd=cwd)
    assert process.returncode == 0, process.stderr[-3000:]
    return json.loads(process.stdout.splitlines()[-1])


def expected_outputs(folder, clip) -> tuple[list[float], dict[str, float]]:
    model = FluxViTForVideoClassification.from_pretrained(folder).eval()
    processor = FluxVideoProcessor.from_pretrained(folder)
    with torch.no_grad():
        logits = model(**processor(clip, token_budget=96, return_tensors="pt")).logits[0].tolist()
        scores = model(**processor(clip, return_tensors="pt")).logits[0].softmax(-1).tolist()
    return logits, {model.config.id2label[index]: score for index, score in enumerate(scores)}


@pytest.mark.long
def test_foreign_machine(foreign_python, tiny_checkpoint, make_video, tmp_path):
    """Only transformers, torch, torchvision and av: models, processor and stock pipeline from the saved folder."""
    clip = make_video("clip.mp4")
    found = use(foreign_python, tiny_checkpoint, clip, tmp_path)
    assert found["absent"] == ["flux_hf", "datasets", "accelerate", "modeling", "processing"]
    assert found["classes"] == [
        "FluxViTConfig",
        "FluxViTModel",
        "FluxViTForVideoClassification",
        "FluxVideoProcessor",
    ]
    assert found["modules"] == ["transformers_modules"]
    assert found["same_processor"] == "FluxVideoProcessor"
    logits, scores = expected_outputs(tiny_checkpoint, clip)
    assert found["logits"] == pytest.approx(logits, abs=1e-5)
    assert found["scores"] == pytest.approx(scores, abs=1e-6)
    assert found["answered"] == [96]


@pytest.mark.slow
def test_foreign_machine_can_save_again(foreign_python, tiny_checkpoint, make_video, tmp_path):
    """What the foreign machine saves, another foreign machine loads."""
    code = """
import sys
from transformers import AutoModelForVideoClassification, AutoVideoProcessor
for kind in (AutoModelForVideoClassification, AutoVideoProcessor):
    kind.from_pretrained(sys.argv[1], trust_remote_code=True).save_pretrained(sys.argv[2])
"""
    process = run(foreign_python, code, tiny_checkpoint, tmp_path / "again", cwd=tmp_path)
    assert process.returncode == 0, process.stderr[-3000:]
    names = {path.name for path in tiny_checkpoint.glob("*.py")}
    assert {path.name for path in (tmp_path / "again").glob("*.py")} == names
    clip = make_video("clip.mp4")
    found = use(foreign_python, tmp_path / "again", clip, tmp_path)
    assert found["logits"] == pytest.approx(expected_outputs(tiny_checkpoint, clip)[0], abs=1e-5)


@pytest.mark.slow
def test_without_consent_the_code_does_not_run(foreign_python, tiny_checkpoint, tmp_path):
    code = """
import sys
from transformers import AutoModel
AutoModel.from_pretrained(sys.argv[1], trust_remote_code=False)
"""
    process = run(foreign_python, code, tiny_checkpoint, cwd=tmp_path)
    assert process.returncode != 0
    assert "trust_remote_code=True" in process.stderr


@pytest.mark.slow
def test_with_the_package_its_own_classes_win(tiny_checkpoint, make_video, tmp_path):
    """Also with `trust_remote_code=True`, and when the saved code is broken."""
    folder = tmp_path / "broken"
    FluxViTForVideoClassification.from_pretrained(tiny_checkpoint).save_pretrained(folder)
    FluxVideoProcessor.from_pretrained(tiny_checkpoint).save_pretrained(folder)
    for path in folder.glob("*.py"):
        path.write_text("raise RuntimeError('this file must not be run')\n")
    root = Path(__file__).resolve().parent.parent
    code = f"import sys; sys.path.insert(0, {str(root)!r}); import flux_hf\n" + USE
    clip = make_video("clip.mp4")
    process = run(sys.executable, code, folder, clip, cwd=tmp_path)
    assert process.returncode == 0, process.stderr[-3000:]
    found = json.loads(process.stdout.splitlines()[-1])
    assert found["modules"] == ["flux_hf"]
    assert found["logits"] == pytest.approx(expected_outputs(tiny_checkpoint, clip)[0], abs=1e-5)

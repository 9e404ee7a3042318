"""The type of numbers that a model computes in: what a layer's time says, on models of every family."""

import logging
import re
import shlex
import shutil
from importlib import import_module
from pathlib import Path

import pytest
import torch

from flux_hf import FluxViTConfig, FluxViTForVideoClassification, enable_flux
from flux_hf.checkpoints import example_clips
from flux_hf.cli import COMMANDS
from flux_hf.modeling.layers_fluxvit import FluxViTLayer
from flux_hf.runtime import choose_dtype, set_dtype
from flux_hf.scripts.classify import main as classify_command
from tests import stock_models
from tests.tiny_clip import tiny_clip
from tests.tiny_models import PATCHES_OF_14

TWO_PROCESSES = """
import sys

import torch

from flux_hf.runtime import set_dtype
from tests.test_runtime import model_slow_in
from tests.two_ranks import run_two_ranks

def step(rank):
    return set_dtype(model_slow_in([torch.float32, torch.bfloat16][rank]), "auto")

if __name__ == "__main__":
    run_two_ranks(step, sys.argv[1])
"""


def model_slow_in(dtype: torch.dtype) -> FluxViTForVideoClassification:
    """A tiny model whose layers multiply large matrices, too, where they are given numbers of this type."""
    work = torch.ones(300, 300)

    class SlowLayer(FluxViTLayer):
        def forward(self, hidden_states, **kwargs):
            if hidden_states.dtype == dtype:
                for _ in range(40):
                    work @ work
            return super().forward(hidden_states, **kwargs)

    torch.manual_seed(0)
    model = FluxViTForVideoClassification(FluxViTConfig(**PATCHES_OF_14, head_token_budgets=[24, 12])).eval()
    for layer in model.fluxvit.encoder.layers:
        layer.__class__ = SlowLayer
    return model


@pytest.mark.parametrize("slow, fast", [("float32", "bfloat16"), ("bfloat16", "float32")])
def test_auto_is_the_faster_type(slow, fast, caplog):
    model = model_slow_in(getattr(torch, slow))
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    random = torch.get_rng_state()
    dtype, reason = choose_dtype(model)
    assert dtype == getattr(torch, fast)
    assert "ms in float32 and" in reason and "ms in bfloat16 here" in reason
    assert torch.equal(random, torch.get_rng_state())
    assert model.dtype == torch.float32
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    pixels = torch.randn(1, 4, 3, 56, 56)
    with caplog.at_level(logging.WARNING), torch.inference_mode():
        expected = model(pixels).logits  # no layer stops it
        assert set_dtype(model, "auto") == dtype
        assert model(pixels).logits.dtype == dtype
        torch.testing.assert_close(model(pixels).logits.float(), expected, atol=0.05, rtol=0.05)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"dtype auto: {fast}; a layer takes ")


def test_little_is_not_enough(monkeypatch):
    """What answers differently must be faster by the margin."""
    model = model_slow_in(torch.float32)
    monkeypatch.setattr("flux_hf.runtime.dtype.MARGIN", 1e6)
    assert choose_dtype(model)[0] == torch.float32


@pytest.mark.parametrize(("seconds", "said"), [(0.1234, "120 ms"), (0.001834, "1.8 ms"), (0.00004, "0.04 ms")])
def test_times_are_told_in_two_digits(monkeypatch, seconds, said):
    monkeypatch.setattr("flux_hf.runtime.dtype._seconds", lambda *calls: (seconds, seconds))
    reason = choose_dtype(model_slow_in(torch.float32))[1]
    assert reason == f"a layer takes {said} in float32 and {said} in bfloat16 here"


def test_a_type_that_is_asked_for(caplog):
    model = model_slow_in(torch.bfloat16)
    assert choose_dtype(model, "bfloat16") == (torch.bfloat16, "asked for")
    assert set_dtype(model, None) == torch.float32
    assert set_dtype(model, "bfloat16") == model.dtype == torch.bfloat16
    assert set_dtype(model, None) == torch.bfloat16
    assert set_dtype(model, "float32") == model.dtype == torch.float32
    assert not caplog.records
    with pytest.raises(ValueError, match="^dtype must be auto, float32 or bfloat16, got 'float16'$"):
        choose_dtype(model, "float16")


@pytest.mark.parametrize("family", ["videomae", "vjepa2"])
def test_auto_times_a_layer_of_any_model(family):
    model = enable_flux(getattr(stock_models, family)()).eval()
    for budget in (8, None):
        assert choose_dtype(model, token_budget=budget, batch_size=3)[1].startswith("a layer takes ")


def test_of_a_dual_encoder_the_video_tower_decides():
    model = tiny_clip().eval()
    slow = model_slow_in(torch.float32)
    model.vision_model.encoder.layers = slow.fluxvit.encoder.layers
    assert set_dtype(model, "auto") == model.text_projection.weight.dtype == torch.bfloat16


def test_the_option_of_a_command(tiny_checkpoint, make_video, capsys):
    clip = str(make_video("clip.mp4", frames=12))
    command = [clip, "--checkpoint", str(tiny_checkpoint), "--token_budgets", "20"]
    answers = []
    for dtype in ("float32", "bfloat16", "auto"):
        classify_command([*command, "--dtype", dtype])
        answers.append(capsys.readouterr().out)
    assert all("budget   20: label" in answer for answer in answers)
    with pytest.raises(SystemExit):
        classify_command([*command, "--dtype", "float16"])
    assert "must be auto or float32 or bfloat16, got float16" in capsys.readouterr().err


@pytest.mark.slow
def test_processes_agree(warm_python, tmp_path):
    """The first finds one type faster, the second the other."""
    done = warm_python.run(TWO_PROCESSES, str(tmp_path / "store"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [torch.load(tmp_path / f"store.{rank}") for rank in range(2)] == [torch.bfloat16] * 2


@pytest.mark.slow
def test_the_page(tmp_path, monkeypatch):
    """Commands and Python of docs/runtime.md, in their order, as they stand there."""
    page = Path(__file__).parent.parent / "docs" / "runtime.md"
    blocks = re.findall(r"```(python)?\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert [language for language, _ in blocks] == ["", "python", "", "python"]
    clips = example_clips()
    for label, clip in clips.items():
        folder = tmp_path / "my" / "videos" / "test" / label
        folder.mkdir(parents=True)
        shutil.copy(clip, folder)
        shutil.copy(clip, tmp_path / "my" / "clip.mp4")
    monkeypatch.chdir(tmp_path)
    made = {"__name__": "example"}
    for language, block in blocks:
        if language:
            exec(compile(block, str(page), "exec"), made)
            continue
        for line in block.splitlines():
            _, command, *options = shlex.split(line)
            import_module(f"flux_hf.scripts.{COMMANDS[command]}").main(options)
    assert made["model"].dtype == torch.bfloat16 and made["dtype"] in (torch.float32, torch.bfloat16)
    assert made["scores"].shape == (2, 9) and made["best"][0] == made["best"][1] == label

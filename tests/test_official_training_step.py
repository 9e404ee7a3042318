"""Loss and gradients of `FluxTrainer` against three recorded training steps of the official engine.

`tests/fixtures/official_training_step.safetensors` holds the weights, the last of the steps, and of its gradients the
two numbers of [`fingerprint`]. The whole recording, every entry of every gradient of all steps, is tested where it lies
beside the repository.
"""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from flux_hf.conversion import convert_official_state_dict
from flux_hf.conversion.names import our_tensors
from flux_hf.training import FluxTrainer
from tests import tiny_training
from tests.older_names import with_older_names

ROOT = Path(__file__).resolve().parents[1]
NAME = "official_training_step.safetensors"
WHOLE = ROOT.parent / "shared" / "golden" / NAME
ROUNDING = 1e-7
"""Of gradients that are zero but for rounding: those of key biases, which softmax cancels."""
CASES = [
    pytest.param(case, WHOLE, marks=pytest.mark.skipif(not WHOLE.is_file(), reason=f"no {NAME}")) for case in range(3)
]


def fingerprint(gradient: torch.Tensor) -> list[float]:
    """Its length, and its product with a fixed pattern of about the same length in every direction."""
    values = gradient.double().flatten()
    return [values.norm().item(), (values @ torch.arange(1, len(values) + 1, dtype=torch.float64).cos()).item()]


def by_our_names(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors of the official model, or their gradients, as ours."""
    named = {name: ours for key, tensor in tensors.items() for name, ours in our_tensors(key, tensor).items()}
    position = "fluxvit.embeddings.position_embedding"
    return named | {f"{position}.cls": tensors["pos_embed"][:, :1], f"{position}.table": tensors["pos_embed"][0, 1:]}


def below(prefix: str, file) -> dict[str, torch.Tensor]:
    return {key.removeprefix(prefix): file.get_tensor(key) for key in file.keys() if key.startswith(prefix)}


def step(folder, path: Path, case: int) -> tuple[dict, dict, torch.Tensor, dict]:
    """What is recorded of a step, the parts of our loss, our loss, and our gradients."""
    with safe_open(path, "pt") as file:
        spec = json.loads(file.metadata()["spec"])
        weights, inputs = below("weights.", file), below(f"case{case}.", file)
    recorded, build = spec["cases"][case], spec["build"]
    model = convert_official_state_dict(
        weights,
        num_attention_heads=build["num_heads"],
        pooler_num_attention_heads=build["attn_pool_num_heads"],
        hidden_act=build["hidden_act"],
    ).train()
    model.config.head_token_budgets = recorded["budgets"]
    args = tiny_training.arguments(
        folder, token_budgets=recorded["budgets"], label_smoothing_factor=recorded["label_smoothing"]
    )
    trainer = FluxTrainer(model=model, args=args, processing_class=tiny_training.processor())
    batch = {"pixel_values_videos": inputs["pixel_values"], "labels": inputs["targets"]}
    loss = trainer.compute_loss(model, batch)
    loss.backward()
    gradients = {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        for name, parameter in model.named_parameters()
    }
    parts = {name: values[-1].item() for name, values in trainer._parts.items()}
    return recorded | inputs, parts, loss, gradients


def check_loss(recorded: dict, parts: dict, loss: torch.Tensor) -> None:
    budgets = recorded["budgets"]
    expected = {f"loss_{budget}": part for budget, part in zip(budgets, recorded["cross_entropy"], strict=True)}
    expected |= {f"alignment_{budget}": part for budget, part in zip(budgets[1:], recorded["alignment"], strict=True)}
    assert parts == pytest.approx(expected, rel=2e-6)
    assert loss.item() == pytest.approx(recorded["loss"], rel=1e-6)


@pytest.mark.parametrize(("case", "path"), CASES)
def test_every_gradient_of_the_official_step(tmp_path, case, path):
    recorded, parts, loss, gradients = step(tmp_path, path, case)
    check_loss(recorded, parts, loss)
    official = by_our_names({key.removeprefix("grad."): g for key, g in recorded.items() if key.startswith("grad.")})
    assert official.keys() == gradients.keys()
    for name, gradient in gradients.items():
        largest = official[name].abs().max().item()
        torch.testing.assert_close(gradient, official[name], rtol=0, atol=5e-6 * largest + ROUNDING)


def test_the_official_step(tmp_path):
    recorded, parts, loss, gradients = step(tmp_path, Path(__file__).parent / "fixtures" / NAME, 2)
    check_loss(recorded, parts, loss)
    official = {key.removeprefix("fingerprint."): both for key, both in recorded.items() if "fingerprint" in key}
    gradients = with_older_names(gradients)
    assert official.keys() == gradients.keys()
    for name, gradient in gradients.items():
        length, product = official[name].tolist()
        assert fingerprint(gradient) == pytest.approx([length, product], abs=5e-6 * length + ROUNDING)

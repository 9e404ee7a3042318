"""LoRA as the guides of peft and transformers write it."""

import pytest
import torch
from transformers import Trainer, TrainingArguments

from flux_hf import FluxViTForVideoClassification, default_checkpoint
from tests import tiny_training

peft = pytest.importorskip("peft")
# peft asks the model for what transformers has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

PIXELS = torch.randn(2, 4, 3, 28, 28, generator=torch.Generator().manual_seed(0))
GUIDE = {"r": 4, "target_modules": ["query", "value"], "modules_to_save": ["classifier"]}


@pytest.fixture
def folder(tmp_path):
    tiny_training.model().save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def base(folder) -> FluxViTForVideoClassification:
    """With new classifiers, other ones each time."""
    return FluxViTForVideoClassification.from_pretrained(folder, num_labels=5, ignore_mismatched_sizes=True)


def trained(model, folder, **changes):
    """Two steps of the Trainer on two clips."""
    settings = {"use_cpu": True, "report_to": "none", "disable_tqdm": True, "max_steps": 2, "learning_rate": 1e-2}
    rows = [{"pixel_values_videos": clip, "labels": label} for label, clip in enumerate(PIXELS)]
    args = TrainingArguments(str(folder / "run"), save_strategy="no", **settings | changes)
    Trainer(model=model, args=args, train_dataset=rows).train()
    return model.eval()


@torch.no_grad()
def logits(model) -> list[torch.Tensor]:
    return [model(pixel_values_videos=PIXELS, token_budget=budget).logits for budget in (16, 12, 8)]


@pytest.mark.parametrize("targets", [["query", "value"], ["query", "key", "value", "output"], "all-linear"])
def test_an_adapter_reaches_every_layer_and_comes_back(folder, tmp_path, targets):
    model = trained(peft.get_peft_model(base(folder), peft.LoraConfig(**GUIDE | {"target_modules": targets})), tmp_path)
    names = [name for name, parameter in model.named_parameters() if "lora_B" in name and parameter.any()]
    layers = model.config.num_hidden_layers
    for layer in range(layers):
        assert sum(f"encoder.layers.{layer}.attention." in name for name in names) >= 2
    model.save_pretrained(tmp_path / "adapter")
    again = peft.PeftModel.from_pretrained(base(folder), tmp_path / "adapter").eval()
    expected = logits(model)
    torch.testing.assert_close(logits(again), expected)

    merged = again.merge_and_unload(safe_merge=True)
    torch.testing.assert_close(logits(merged), expected, rtol=1e-4, atol=1e-5)
    merged.save_pretrained(tmp_path / "merged")
    torch.testing.assert_close(
        logits(FluxViTForVideoClassification.from_pretrained(tmp_path / "merged")), logits(merged)
    )


@pytest.mark.parametrize("reentrant", [True, False])
def test_adapters_learn_under_gradient_checkpointing(folder, tmp_path, reentrant):
    torch.manual_seed(0)
    model = peft.get_peft_model(base(folder), peft.LoraConfig(**GUIDE))
    start = {name: parameter.clone() for name, parameter in model.named_parameters()}
    kind = "activation" if hasattr(TrainingArguments, "activation_checkpointing") else "gradient"  # as it used to be
    checkpointing = {f"{kind}_checkpointing": True, f"{kind}_checkpointing_kwargs": {"use_reentrant": reentrant}}
    trained(model, tmp_path, **checkpointing)
    moved = {name for name, parameter in model.named_parameters() if not parameter.equal(start[name])}
    assert {name for name in start if "lora_B" in name} <= moved
    assert not [name for name in moved if "lora" not in name and "modules_to_save" not in name]


def test_inputs_that_require_gradients(folder):
    """What `peft.prepare_model_for_kbit_training` asks of a model."""
    model = base(folder)
    model.requires_grad_(False)
    model.enable_input_require_grads()
    assert model(PIXELS, token_budget=12).logits.requires_grad


def test_an_adapter_of_the_default_checkpoint(tmp_path):
    """Whose weights have the older names."""
    model = FluxViTForVideoClassification.from_pretrained(default_checkpoint())
    adapted = peft.get_peft_model(model, peft.LoraConfig(**GUIDE))
    assert sum(".attention.query.lora_A" in name for name, _ in adapted.named_parameters()) == 5

"""LoRA as the guides of peft and transformers write it."""

import copy
import gc
import pickle
import weakref

import pytest
import torch
from transformers import Trainer, TrainingArguments

from flux_hf import FluxViTForVideoClassification, default_checkpoint
from flux_hf.training import FluxTrainer
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


@pytest.mark.long
@pytest.mark.parametrize("targets", [["query", "value"], ["qkv"], "all-linear"])
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


@pytest.mark.long
@pytest.mark.parametrize(
    ("targets", "settings"),
    [
        (["qkv"], {"use_dora": True}),
        (["qkv", "query", "value"], {}),
        (r".*\.attention\..*qkv", {}),
        ("all-linear", {}),
    ],
)
def test_the_name_qkv_stands_for_query_key_and_value(folder, targets, settings):
    """Merging and its way back change the very weights that the forward pass uses."""
    model = peft.get_peft_model(base(folder).eval(), peft.LoraConfig(r=4, target_modules=targets, **settings))
    before = logits(model)
    adapters = [name for name, parameter in model.named_parameters() if parameter.requires_grad and ".lora_A" in name]
    layers = model.config.num_hidden_layers
    for part in ("query", "key", "value"):
        assert sum(f".attention.{part}.lora_A" in name for name in adapters) == layers
    if targets != "all-linear":
        assert len(adapters) == 3 * layers + ("query" in targets) * 2 * len(model.config.head_token_budgets)
    assert not [name for name, _ in model.named_parameters() if "qkv" in name]

    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.1) if "magnitude" not in name else parameter.data.mul_(1.1)
    expected = logits(model)
    assert not torch.allclose(expected[0], before[0], atol=1e-3)
    torch.testing.assert_close(logits(pickle.loads(pickle.dumps(model.base_model.model))), expected)
    with model.disable_adapter():
        torch.testing.assert_close(logits(model), before)
    for safe_merge in (True, False):
        model.merge_adapter(safe_merge=safe_merge)
        torch.testing.assert_close(logits(model), expected, rtol=1e-4, atol=1e-5)
        model.unmerge_adapter()
        torch.testing.assert_close(logits(model), expected, rtol=1e-4, atol=1e-5)
        merged = copy.deepcopy(model).merge_and_unload(safe_merge=safe_merge)
        torch.testing.assert_close(logits(merged), expected, rtol=1e-4, atol=1e-5)
        assert merged.state_dict().keys() == base(folder).state_dict().keys()


def test_a_deleted_model_leaves_no_cycle(folder):
    """Its weights leave memory at once, not when the garbage collector comes."""
    model = base(folder)
    weight = weakref.ref(model.fluxvit.encoder.layers[0].attention.query_as.qkv.weight)
    gc.disable()
    try:
        del model
        assert weight() is None
    finally:
        gc.enable()


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


def test_an_adapter_is_trained_at_the_budgets_of_the_heads(folder, tmp_path):
    model = peft.get_peft_model(base(folder), peft.LoraConfig(**GUIDE))
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    settings = {"train_dataset": tiny_training.clips(), "processing_class": tiny_training.processor()}
    with pytest.raises(ValueError, match=r"token_budgets \[12, 8\]: an adapter .* heads, \[16, 12, 8\]"):
        FluxTrainer(model, tiny_training.arguments(tmp_path, token_budgets=[12, 8]), **settings)
    model.config.id2label = dict(enumerate(tiny_training.NAMES))
    FluxTrainer(model, tiny_training.arguments(tmp_path, layer_decay=0.5), **settings).train()
    assert {name for name in before if "lora_B" in name} <= {
        name for name, parameter in model.named_parameters() if not parameter.equal(before[name])
    }


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
    queries = [name for name, _ in adapted.named_parameters() if ".attention.query.lora_A" in name]
    assert len(queries) == model.config.num_hidden_layers

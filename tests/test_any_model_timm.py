"""enable_flux in timm's VisionTransformer, as timm makes it and behind the wrapper of Transformers."""

import copy
import json
import pickle

import pytest
import timm
import torch
from timm.layers import resample_abs_pos_embed
from timm.models import Eva, VisionTransformer
from transformers import (
    AutoConfig,
    AutoModelForImageClassification,
    AutoModelForVideoClassification,
    TimmWrapperConfig,
    TimmWrapperForImageClassification,
)

from flux_hf import UnsupportedModelError, disable_flux, enable_flux
from flux_hf.plugin import load_video_classifier
from flux_hf.training import FluxTrainer, FluxTrainingArguments
from tests.tiny_video_models import clips, drawn

SIZES = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
KINDS = {
    "class token": {},
    "mean": {"global_pool": "avg"},
    "mean without class token": {"global_pool": "avg", "class_token": False},
    "maximum, registers": {"global_pool": "max", "reg_tokens": 3},
    "both": {"global_pool": "avgmax"},
    "attention": {"global_pool": "map", "class_token": False},
    "prefix without positions": {"no_embed_class": True, "reg_tokens": 2},
    "prefix in the mean": {"global_pool": "avg", "pool_include_prefix": True},
    "dynamic, norm before": {"dynamic_img_size": True, "pre_norm": True},
    "no positions": {"pos_embed": "none"},
    "layer scale, oblong": {"init_values": 1.0, "qk_norm": True, "img_size": (32, 48)},
}
BUDGET = 12


def same(found, expected) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def vit(**settings) -> VisionTransformer:
    return drawn(VisionTransformer(**SIZES | {"num_classes": 5} | settings))


def wrapper() -> TimmWrapperForImageClassification:
    config = TimmWrapperConfig(architecture="vit_tiny_patch16_224", model_args=SIZES, num_labels=5)
    return drawn(TimmWrapperForImageClassification(config))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_one_frame_is_the_stock_model(kind, dtype):
    model = vit(**KINDS[kind]).to(dtype)
    pixels = clips(3, 1, *model.patch_embed.img_size).to(dtype)
    expected, names = model(pixels[:, 0]), model.state_dict().keys()
    enable_flux(model)
    assert model.state_dict().keys() == names
    same(model(pixels).logits, expected)
    disable_flux(model)
    assert type(model) is VisionTransformer
    same(model(pixels[:, 0]), expected)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_frames_are_joined_into_one_sequence(kind):
    """Whose chosen tokens go through the stock blocks, with the positions of images, and the stock head."""
    model = vit(**KINDS[kind])
    height, width = model.patch_embed.img_size
    pixels = clips(2, 4, height, width)
    flux = enable_flux(copy.deepcopy(model), token_budget=BUDGET)
    output, prefix = flux(pixels), model.num_prefix_tokens
    images = model._pos_embed(model.patch_embed(pixels.flatten(0, 1)))
    tokens = images[:, prefix:].unflatten(0, (2, 4)).flatten(1, 2)
    kept = output.keep_mask.nonzero()[:, 1].view(2, BUDGET, 1).expand(-1, -1, 32)
    hidden = torch.cat([images[::4, :prefix], tokens.gather(1, kept)], dim=1)
    same(output.logits, model.forward_head(model.norm(model.blocks(model.norm_pre(hidden)))))
    several = flux(pixels, token_budgets=[40, BUDGET])
    same(several.logits[0], flux(pixels, token_budget=40).logits)
    same(several.logits[1], output.logits)


@torch.no_grad()
def test_other_grids_are_those_of_a_dynamic_model():
    fixed, dynamic = vit(reg_tokens=2), vit(reg_tokens=2, dynamic_img_size=True)
    pixels = clips(2, 1, 48, 16)
    enable_flux(fixed)
    same(fixed(pixels).logits, dynamic(pixels[:, 0]))
    table = resample_abs_pos_embed(fixed.pos_embed, new_size=[6, 2], old_size=[4, 4], num_prefix_tokens=3)
    assert not table[:, 3:].equal(fixed.pos_embed[:, 3:15])
    assert fixed(clips(2, 8, 48, 16), token_budget=BUDGET).keep_mask.shape == (2, 96)


@torch.no_grad()
def test_the_order_of_frames_means_nothing_but_for_the_selection():
    model, pixels = enable_flux(vit()), clips(1, 4)
    torch.testing.assert_close(model(pixels.flip(1)).logits, model(pixels).logits)


@torch.no_grad()
def test_behind_the_wrapper():
    stock, pixels = wrapper(), clips(2, 4)
    model = enable_flux(copy.deepcopy(stock), token_budget=BUDGET)
    same(model(pixels[:, :1], token_budget=1000).logits, stock(pixels[:, 0]).logits)
    raw = enable_flux(copy.deepcopy(stock.timm_model), token_budget=BUDGET)
    output = model(pixels, output_hidden_states=True)
    same(output.logits, raw(pixels).logits)
    same(output.hidden_states, raw(pixels, output_hidden_states=True).hidden_states)
    labels = torch.tensor([1, 3])
    same(model(pixels, labels=labels).loss, raw(pixels, labels=labels).loss)
    same(model(pixels, return_dict=False)[0], output.logits)
    assert model.state_dict().keys() == stock.state_dict().keys()
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        same(copied(pixels).logits, output.logits)
    model.set_labels(["a", "b"], rows=[3, 0])
    torch.testing.assert_close(model(pixels).logits, output.logits[:, [3, 0]])


@pytest.mark.parametrize("make", [vit, wrapper])
def test_gradients_with_checkpointing_are_those_without(make):
    model, pixels = enable_flux(make(), token_budget=BUDGET).train(), clips(1)
    timm_model, gradients = getattr(model, "timm_model", model), []
    for checkpointing in (False, True):
        timm_model.set_grad_checkpointing(checkpointing)
        model.zero_grad()
        model(pixels).logits.sum().backward()
        gradients.append({name: parameter.grad.clone() for name, parameter in model.named_parameters()})
    torch.testing.assert_close(gradients[1], gradients[0])


@pytest.mark.parametrize("make", [vit, wrapper])
@torch.no_grad()
def test_what_training_asks(make):
    model, pixels = enable_flux(make(), token_budgets=[20, BUDGET], heads_per_budget=True), clips(1)
    layers = {name: model.parameter_layer(name) for name, _ in model.named_parameters()}
    assert model.num_layers == 2 and set(layers.values()) == {0, 1, 2, 3}
    before = model(pixels, token_budget=20).logits
    model.budget_heads[0].head.weight.zero_()
    same(model(pixels, token_budget=20).logits, before)
    assert model(pixels, token_budget=BUDGET).logits.eq(model.budget_heads[0].head.bias).all()
    model.freeze_encoder()
    trained = {name.rpartition(".head.")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert len(trained) == 2 and "budget_heads.0" in trained


@pytest.mark.parametrize("kind", ["mean", "attention"])
@torch.no_grad()
def test_every_module_of_a_head_is_the_budgets_own(kind):
    model, pixels = enable_flux(vit(**KINDS[kind]), token_budgets=[20, BUDGET], heads_per_budget=True), clips(1)
    first, second = (model(pixels, token_budget=budget).logits for budget in (20, BUDGET))
    for name in ("attn_pool", "fc_norm", "head"):
        for parameter in getattr(getattr(model.budget_heads[0], name), "parameters", list)():
            parameter.mul_(2.0)
            before, second = second, model(pixels, token_budget=BUDGET).logits
            assert not second.equal(before)
    same(model(pixels, token_budget=20).logits, first)


@torch.no_grad()
def test_saved_and_loaded(tmp_path):
    model, pixels = enable_flux(wrapper(), token_budget=BUDGET, token_budgets=[20, BUDGET]), clips()
    model.config.label2id, model.config.id2label = {}, {index: f"label {index}" for index in range(5)}
    model.save_pretrained(tmp_path / "flux")
    loaded = AutoModelForVideoClassification.from_pretrained(tmp_path / "flux")
    assert type(loaded) is type(model) and loaded.config.id2label == model.config.id2label
    same(loaded(pixels).logits, model(pixels).logits)
    loaded.save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / "flux_timm.py").exists()
    disable_flux(loaded).save_pretrained(tmp_path / "stock")
    stock = AutoModelForImageClassification.from_pretrained(tmp_path / "stock")
    assert type(stock) is TimmWrapperForImageClassification
    same(stock(pixels[:, 0]).logits, model(pixels[:, :1], token_budget=100).logits)
    same(load_video_classifier(tmp_path / "stock")(pixels, token_budget=BUDGET).logits, model(pixels).logits)


@torch.no_grad()
def test_files_of_timm_itself(tmp_path):
    """Have no prefix, which Transformers adds."""
    stock, pixels = wrapper(), clips()
    stock.save_pretrained(tmp_path / "prefix")
    config = {"architecture": "vit_tiny_patch16_224", "model_args": SIZES, "num_classes": 5}
    folder = tmp_path / "timm"
    folder.mkdir()
    torch.save(stock.timm_model.state_dict(), folder / "pytorch_model.bin")
    (folder / "config.json").write_text(json.dumps(config | {"pretrained_cfg": {"num_classes": 5}}))
    model = enable_flux(AutoModelForImageClassification.from_pretrained(folder), token_budget=BUDGET)
    expected = enable_flux(stock, token_budget=BUDGET)(pixels).logits
    same(model(pixels).logits, expected)
    model.save_pretrained(tmp_path / "flux")
    same(AutoModelForVideoClassification.from_pretrained(tmp_path / "flux")(pixels).logits, expected)


FOREIGN = """
import json, sys
for name in sys.argv[3:]:
    sys.modules[name] = None
import torch
from transformers import AutoModelForVideoClassification
pixels = torch.load(sys.argv[2])
model = AutoModelForVideoClassification.from_pretrained(sys.argv[1], trust_remote_code="flux_hf" in sys.argv)
with torch.no_grad():
    print(json.dumps([type(model).__module__.partition(".")[0], model(pixels).logits.tolist()]))
"""


@torch.no_grad()
@pytest.mark.slow
def test_loaded_in_another_process(warm_python, tmp_path):
    """With flux_hf, which imports timm no sooner than it is needed, and without."""
    model, pixels = enable_flux(wrapper(), token_budget=BUDGET), clips()
    model.save_pretrained(tmp_path / "flux")
    torch.save(pixels, tmp_path / "pixels.pt")
    beginning = "import sys, flux_hf; assert 'timm' not in sys.modules\n"
    for before, module, absent in (("", "transformers_modules", ["flux_hf"]), (beginning, "flux_hf", [])):
        done = warm_python.run(before + FOREIGN, tmp_path / "flux", tmp_path / "pixels.pt", *absent, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        found, logits = json.loads(done.stdout.splitlines()[-1])
        assert found == module
        torch.testing.assert_close(torch.tensor(logits), model(pixels).logits)


def test_a_configuration_says_that_timm_is_missing(warm_python, tmp_path):
    enable_flux(wrapper()).save_pretrained(tmp_path)
    code = (
        "import sys, flux_hf\nfrom transformers import AutoConfig\nfrom transformers.utils import import_utils\n"
        "import_utils.BACKENDS_MAPPING['timm'] = (lambda: False, import_utils.TIMM_IMPORT_ERROR)\n"
        "AutoConfig.from_pretrained(sys.argv[1])"
    )
    done = warm_python.run(code, tmp_path, cwd=tmp_path)
    assert done.returncode != 0 and "pip install timm" in done.stderr
    assert AutoConfig.from_pretrained(tmp_path).architecture == "vit_tiny_patch16_224"


def test_models_that_cannot_are_refused():
    with pytest.raises(UnsupportedModelError, match="Eva.*rotary"):
        enable_flux(Eva(**SIZES, use_rot_pos_emb=True))
    with pytest.raises(UnsupportedModelError, match="global_pool"):
        enable_flux(vit(global_pool=""))
    with pytest.raises(UnsupportedModelError, match="HybridEmbed"):
        enable_flux(timm.create_model("vit_tiny_r_s16_p8_224"))
    with pytest.raises(UnsupportedModelError, match="squares"):
        enable_flux(vit(patch_size=(8, 16)))
    other = TimmWrapperConfig(architecture="resnet18", num_labels=5)
    with pytest.raises(UnsupportedModelError, match="ResNet.*VisionTransformer"):
        enable_flux(TimmWrapperForImageClassification(other))


def test_a_model_without_a_configuration_is_trained_and_evaluated(tmp_path):
    model = enable_flux(vit(), token_budgets=[12, 8], heads_per_budget=True)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    rows = [{"pixel_values_videos": clip, "labels": label} for label, clip in enumerate(clips(2))]
    settings = {
        "max_steps": 1,
        "lr_scheduler_type": "constant",
        "use_cpu": True,
        "report_to": "none",
        "save_strategy": "no",
    }
    args = FluxTrainingArguments(str(tmp_path), **settings)
    run = FluxTrainer(model=model, args=args, train_dataset=rows, eval_dataset=rows)
    run.train()
    assert not model.budget_heads[0].head.weight.equal(before["budget_heads.0.head.weight"])
    assert {"eval_top1_12", "eval_top1_8"} <= run.evaluate().keys()

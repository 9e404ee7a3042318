"""enable_flux in the families of Transformers: exact, saved and loaded, trained."""

import copy
import json
import logging
import pickle

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors.torch import load_file
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForVideoClassification,
    AutoVideoProcessor,
    TimesformerModel,
    VideoMAEConfig,
    VideoMAEForPreTraining,
    VideoMAEForVideoClassification,
    VideoMAEModel,
    ViTConfig,
    ViTModel,
    VivitModel,
    VJEPA2Model,
)
from transformers.utils import logging as transformers_logging

from flux_hf import (
    FluxVideoProcessor,
    FluxViTConfig,
    FluxViTModel,
    UnsupportedModelError,
    disable_flux,
    enable_flux,
    register_flux_adapter,
)
from flux_hf.modeling.flux_videomae import FluxVideoMAEForVideoClassification
from flux_hf.modeling.position_embedding_fluxvit import interpolate_positions
from tests.tiny_models import PATCHES_OF_14
from tests.tiny_video_models import CLASSIFIERS, classifier, clips, drawn

# peft asks the model for what transformers has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

FAMILIES = list(CLASSIFIERS)
TOKENS = {"videomae": 32, "vjepa2": 32, "vivit": 32, "timesformer": 64}
OTHER = clips(2, 8, 48, 16)
BUDGET = 12


def same(found, expected) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def differ(found: torch.Tensor, other: torch.Tensor) -> bool:
    return bool((found - other).abs().max() > 1e-2 * other.abs().max())


def places(mask: torch.Tensor) -> torch.Tensor:
    """Numbers of the kept tokens, (batch, kept)."""
    return mask.nonzero()[:, 1].unflatten(0, (mask.shape[0], -1))


def gathered(tokens: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    return tokens.gather(1, numbers[..., None].expand(-1, -1, tokens.shape[2]))


def load(folder, auto=AutoModelForVideoClassification):
    return auto.from_pretrained(folder, attn_implementation="eager")


@pytest.fixture(params=FAMILIES)
def family(request) -> str:
    return request.param


# Exact


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_all_tokens_on_the_native_grid_are_the_stock_model(family, attention, dtype):
    if (family, attention) == ("timesformer", "sdpa"):
        pytest.skip("TimeSformer has eager attention only")
    model = classifier(family, attention=attention).to(dtype)
    pixels = [clips(batch).to(dtype) for batch in (1, 3)]
    expected, names = [model(each).logits for each in pixels], model.state_dict().keys()
    assert enable_flux(model) is model
    assert model.state_dict().keys() == names
    for each, logits in zip(pixels, expected, strict=True):
        output = model(each)
        same(output.logits, logits)
        assert output.keep_mask is None
        same(model(each, token_budget=TOKENS[family]).logits, logits)
        same(model(pixel_values=each, token_budget=10**6).logits, logits)
        few = model(each, token_budget=BUDGET)
        assert few.keep_mask.sum(1).eq(BUDGET).all() and few.logits.dtype == dtype
        assert differ(few.logits, logits)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("mean_pooling", [True, False])
@torch.no_grad()
def test_videomae_with_few_tokens_is_its_own_masking(attention, mean_pooling):
    stock = classifier("videomae", attention=attention, use_mean_pooling=mean_pooling, image_size=[32, 48])
    pixels = clips(3, width=48)
    output = enable_flux(copy.deepcopy(stock), token_budget=BUDGET)(pixels)
    same(output.logits, stock(pixels, bool_masked_pos=~output.keep_mask).logits)
    with pytest.raises(ValueError, match="keep_mask=~bool_masked_pos"):
        enable_flux(stock)(pixels, bool_masked_pos=~output.keep_mask)


@torch.no_grad()
def jepa_by_hand(model, pixels: torch.Tensor, kept: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Logits of a stock V-JEPA 2 for the tokens numbered `kept`, which its layers take for those numbered `ids`."""
    encoder = model.vjepa2.encoder
    hidden = gathered(encoder.embeddings(pixels), kept)
    for layer in encoder.layer:
        hidden = layer(hidden, ids)[0]
    return model.classifier(model.pooler(encoder.layernorm(hidden)))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_vjepa2_with_few_tokens_is_its_own_layers_with_their_places(attention):
    stock, pixels = classifier("vjepa2", attention=attention), clips(3)
    with torch.no_grad():
        output = enable_flux(copy.deepcopy(stock), token_budget=BUDGET)(pixels)
    kept = places(output.keep_mask)
    same(output.logits, jepa_by_hand(stock, pixels, kept, kept))
    assert differ(jepa_by_hand(stock, pixels, kept, kept + 1), output.logits)


@torch.no_grad()
def test_vjepa2_on_another_grid_is_a_model_configured_for_it():
    stock, configured = classifier("vjepa2"), classifier("vjepa2", crop_size=48, frames_per_clip=8)
    pixels = clips(2, 8, 48, 48)
    wrong, right = stock(pixels).logits, configured(pixels).logits
    model = enable_flux(copy.deepcopy(stock))
    same(model(pixels).logits, right)
    assert differ(wrong, right)
    few = model(pixels, token_budget=BUDGET)
    kept = places(few.keep_mask)
    same(few.logits, jepa_by_hand(configured, pixels, kept, kept))

    flat = model(OTHER, token_budget=BUDGET)  # 6 rows of 2 tokens: the left of 6 rows of 6
    kept = places(flat.keep_mask)
    ids = kept // 12 * 36 + kept % 12 // 2 * 6 + kept % 2
    same(flat.logits, jepa_by_hand(configured, OTHER, kept, ids))


@torch.no_grad()
def test_vivit_with_few_tokens_is_its_own_layers():
    stock, pixels = classifier("vivit"), clips(3)
    output = enable_flux(copy.deepcopy(stock), token_budget=BUDGET)(pixels)
    tokens = stock.vivit.embeddings(pixels)
    hidden = torch.cat([tokens[:, :1], gathered(tokens[:, 1:], places(output.keep_mask))], dim=1)
    for layer in stock.vivit.layers:
        hidden = layer(hidden)
    same(output.logits, stock.classifier(stock.vivit.layernorm(hidden)[:, 0]))


@torch.no_grad()
def test_timesformer_with_few_tokens_is_its_own_layers():
    """Its tokens are in the order rows, columns, frames, the mask in the order frames, rows, columns."""
    stock, pixels = classifier("timesformer"), clips(3)
    output = enable_flux(copy.deepcopy(stock), token_budget=BUDGET)(pixels)
    mask = output.keep_mask.unflatten(1, (4, 16)).transpose(1, 2).flatten(1)
    tokens = stock.timesformer.embeddings(pixels)
    hidden = torch.cat([tokens[:, :1], gathered(tokens[:, 1:], places(mask))], dim=1)
    hidden = stock.timesformer.layernorm(stock.timesformer.encoder(hidden).last_hidden_state)
    same(output.logits, stock.classifier(hidden[:, 0]))


@torch.no_grad()
def test_other_grids(family):
    stock = classifier(family)
    model = enable_flux(copy.deepcopy(stock))
    logits = model(OTHER).logits
    if family == "timesformer":  # which takes other grids itself
        same(logits, stock(OTHER).logits)
    if family in ("videomae", "vivit"):  # one made for the grid, with the table interpolated
        other = classifier(family, num_frames=8, image_size=[48, 16])
        for name, parameter in stock.named_parameters():
            if "position_embeddings" not in name:
                other.get_parameter(name).copy_(parameter)
        old, new = stock.base_model.embeddings, other.base_model.embeddings
        cls = 1 if family == "vivit" else 0
        table = interpolate_positions(old.position_embeddings[0, cls:], (2, 4, 4), (4, 6, 2))
        new.position_embeddings.copy_(torch.cat([old.position_embeddings[:, :cls], table[None]], dim=1))
        same(logits, other(OTHER).logits)
    few = model(OTHER, token_budget=BUDGET)
    assert few.keep_mask.sum(1).tolist() == [BUDGET, BUDGET]
    assert few.logits.isfinite().all() and differ(few.logits, logits)


@torch.no_grad()
def test_several_budgets_are_one_call_each(family):
    model, pixels = enable_flux(classifier(family), token_budget=20), clips()
    outputs = model(pixels, token_budgets=[1000, 20, 7])
    for index, budget in enumerate((1000, 20, 7)):
        single = model(pixels, token_budget=budget)
        same(outputs.logits[index], single.logits)
        same(outputs.pooler_output[index], single.pooler_output)
        if budget < 1000:
            same(outputs.keep_mask[index], single.keep_mask)
            same(model(pixels, keep_mask=single.keep_mask).logits, single.logits)
    assert outputs.keep_mask[0] is None
    same(model(pixels).logits, outputs.logits[1])


@torch.no_grad()
def test_what_is_kept_by_hand_is_what_is_looked_at(family):
    """Changing pixels of tokens that are left out changes nothing, of those that are kept, much."""
    model, pixels = enable_flux(classifier(family)), clips(1)
    mask = torch.zeros(1, TOKENS[family], dtype=torch.bool)
    mask[:, 1::3] = True  # the first token of the clip is not among them
    other = pixels.clone()
    other[:, :, :, :8, :8] += 3.0  # the first row's first place, in all frames
    mask.view(1, -1, 4, 4)[:, :, 0, 0] = False
    same(model(other, keep_mask=mask).logits, model(pixels, keep_mask=mask).logits)
    mask = ~mask
    assert differ(model(other, keep_mask=mask).logits, model(pixels, keep_mask=mask).logits)


@pytest.mark.parametrize("problem", [None, "multi_label_classification"])
def test_the_loss_is_the_stock_one(family, problem):
    stock, pixels = classifier(family, problem_type=problem), clips()
    labels = torch.tensor([1, 3]) if problem is None else torch.eye(5)[[1, 3]]
    model = enable_flux(copy.deepcopy(stock))
    expected, found = stock(pixels, labels=labels).loss, model(pixels, labels=labels).loss
    same(found, expected)
    expected.backward()
    found.backward()
    gradients = dict(stock.named_parameters())
    for name, parameter in model.named_parameters():
        if gradients[name].grad is not None:
            torch.testing.assert_close(parameter.grad, gradients[name].grad)


@torch.no_grad()
def test_other_outputs_are_the_stock_ones(family):
    stock, pixels = classifier(family), clips()
    model = enable_flux(copy.deepcopy(stock))
    asked = {"output_hidden_states": True, "output_attentions": True}
    expected, found = stock(pixels, **asked), model(pixels, **asked)
    same(found.hidden_states, expected.hidden_states)
    same(found.attentions, expected.attentions)
    few = model(pixels, token_budget=BUDGET, **asked)
    kept = BUDGET + model.flux_encoder.prefix_tokens
    assert {each.shape[1] for each in few.hidden_states} == {kept}
    assert {each.shape[2:] for each in few.attentions} == {(kept, kept)}
    as_tuple = model(pixels, return_dict=False)
    assert type(as_tuple) is tuple
    same(as_tuple[0], expected.logits)
    model.config.return_dict = False
    same(model(pixels)[0], expected.logits)
    assert len(model(pixels, token_budgets=[20, 10], return_dict=None)[0]) == 2


@pytest.mark.parametrize(
    ("family", "model_class"),
    [("videomae", VideoMAEModel), ("vjepa2", VJEPA2Model), ("vivit", VivitModel), ("timesformer", TimesformerModel)],
)
@torch.no_grad()
def test_encoders_alone(family, model_class, tmp_path):
    stock, pixels = drawn(model_class(classifier(family).config)), clips()
    model = enable_flux(copy.deepcopy(stock), token_budget=BUDGET)
    expected, found = stock(pixels), model(pixels, token_budget=1000)
    same(found.last_hidden_state, expected.last_hidden_state)
    if family == "vivit":
        same(found.pooler_output, expected.pooler_output)
    same(model(pixels, token_budget=1000, return_dict=False)[0], expected.last_hidden_state)
    assert model(pixels).last_hidden_state.shape[1] == BUDGET + model.prefix_tokens
    model.save_pretrained(tmp_path)
    loaded = load(tmp_path, AutoModel)
    assert type(loaded) is type(model)
    same(loaded(pixels).last_hidden_state, model(pixels).last_hidden_state)
    with pytest.raises(ValueError, match="no head"):
        enable_flux(disable_flux(model), heads_per_budget=True)


# Training


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradients_with_checkpointing_are_those_without(family, reentrant):
    model, pixels = enable_flux(classifier(family), token_budget=BUDGET).train(), clips(1)
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            # As Transformers calls it, and as it used to.
            enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
            enable({"use_reentrant": reentrant})
        model.zero_grad()
        sum(logits.sum() for logits in model(pixels.requires_grad_(), token_budgets=[20, BUDGET]).logits).backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    layers = {name for name in gradients[0] if name.startswith(model.layers_path)}
    assert len(layers) > 10
    torch.testing.assert_close(gradients[1], gradients[0])


def test_where_parameters_lie(family):
    model = enable_flux(classifier(family))
    layers = {name: model.parameter_layer(name) for name, _ in model.named_parameters()}
    assert model.num_layers == 2 and set(layers.values()) == {0, 1, 2, 3}
    assert layers["classifier.weight"] == 3
    assert all((layer == 0) == ("embeddings" in name) for name, layer in layers.items() if "predictor" not in name)
    model.freeze_encoder()
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {name for name in layers if not name.startswith(model.base_model_prefix)}


@torch.no_grad()
def test_labels(family):
    model, pixels = enable_flux(classifier(family)), clips()
    before = model(pixels).logits
    model.set_labels(["b", "a"], rows=[3, 0])
    torch.testing.assert_close(model(pixels).logits, before[:, [3, 0]])
    assert model.config.id2label == {0: "b", 1: "a"} and model.config.num_labels == model.num_labels == 2
    model.set_labels(["x", "y", "z"])
    assert model(pixels, labels=torch.tensor([2, 0])).logits.shape == (2, 3)


def test_heads_per_budget(family, tmp_path):
    pixels, labels = clips(), torch.tensor([1, 3])
    model = classifier(family)
    weight = model.classifier.weight
    enable_flux(model, token_budgets=[20, BUDGET], heads_per_budget=True)
    assert model.classifier.weight is weight
    shared = enable_flux(classifier(family), token_budgets=[20, BUDGET])
    assert model.head_budget(15) == BUDGET and model.head_budget(16) == 20 and shared.head_budget(15) is None
    with torch.no_grad():
        for budget in (20, BUDGET):
            same(model(pixels, token_budget=budget).logits, shared(pixels, token_budget=budget).logits)
    model.train()
    optimizer = torch.optim.SGD([p for p in model.budget_heads.parameters()], lr=0.5)
    model(pixels, token_budget=BUDGET, labels=labels).loss.backward()
    optimizer.step()
    model.eval()
    with torch.no_grad():
        same(model(pixels, token_budget=20).logits, shared(pixels, token_budget=20).logits)
        apart = model(pixels, token_budget=BUDGET).logits
        assert differ(apart, shared(pixels, token_budget=BUDGET).logits)
        model.save_pretrained(tmp_path)
        loaded = load(tmp_path)
        assert loaded.token_budgets == [20, BUDGET]
        same(loaded(pixels, token_budget=BUDGET).logits, apart)
        disable_flux(loaded)
        assert loaded.state_dict().keys() == classifier(family).state_dict().keys()
        same(loaded(pixels).logits, classifier(family)(pixels).logits)


def test_lora(family, tmp_path):
    peft = pytest.importorskip("peft")
    targets = {"timesformer": ["qkv"], "vivit": ["q_proj", "v_proj"]}.get(family, ["query", "value"])
    base, pixels = enable_flux(classifier(family), token_budget=BUDGET), clips()
    settings = peft.LoraConfig(r=2, target_modules=targets, modules_to_save=["classifier"])
    model = peft.get_peft_model(copy.deepcopy(base), settings)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    for _ in range(2):
        model(pixels, labels=torch.tensor([1, 3])).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        expected = model.eval()(pixels).logits
        assert differ(expected, base(pixels).logits)
        model.save_pretrained(tmp_path)
        again = peft.PeftModel.from_pretrained(copy.deepcopy(base), tmp_path).eval()
        same(again(pixels).logits, expected)
        merged = again.merge_and_unload()
        torch.testing.assert_close(merged(pixels).logits, expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(UnsupportedModelError, match="wrapper"):
        enable_flux(model)


@pytest.mark.slow
@torch.no_grad()
def test_compiled_in_one_graph(family):
    model, pixels = enable_flux(classifier(family), token_budget=BUDGET), clips()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for budget in (BUDGET, 20):
        expected = model(pixels, token_budget=budget)
        found = compiled(pixels, token_budget=budget)
        torch.testing.assert_close(found.logits, expected.logits, rtol=1e-4, atol=1e-4)
        same(found.keep_mask, expected.keep_mask)
    with pytest.raises(UnsupportedModelError, match="wrapper"):
        enable_flux(compiled)


# Copies, and switching it on and off


@torch.no_grad()
def test_copies(family):
    model, pixels = enable_flux(classifier(family), token_budget=BUDGET), clips()
    expected = model(pixels).logits
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        same(copied(pixels).logits, expected)
        disable_flux(copied)
    same(model(pixels).logits, expected)


@torch.no_grad()
def test_a_configuration_that_two_models_share(family):
    first = classifier(family)
    second, pixels = type(first)(first.config), clips()
    config = first.config.to_dict()
    enable_flux(first, token_budget=BUDGET)
    assert type(second) is CLASSIFIERS[family][0] and second.config.to_dict() == config
    assert {type(module).__module__.partition(".")[0] for module in second.modules()} == {"transformers", "torch"}
    assert first.config.token_budget == first.base_model.config.token_budget == BUDGET
    second.eval()
    second(pixels)


@torch.no_grad()
def test_on_off_and_on_again(family):
    stock, pixels = classifier(family), clips()
    model = copy.deepcopy(stock)
    for budget in (20, BUDGET):
        enable_flux(model, token_budget=budget)
        assert model(pixels).keep_mask.sum(1).tolist() == [budget, budget]
    assert disable_flux(model) is model
    assert [type(module) for module in model.modules()] == [type(module) for module in stock.modules()]
    assert model.config.to_dict() == stock.config.to_dict()
    same(model(pixels).logits, stock(pixels).logits)
    with pytest.raises(UnsupportedModelError, match="no model on which"):
        disable_flux(model)


# Files


@torch.no_grad()
def test_saved_and_loaded_with_selection_on(family, tmp_path):
    model, pixels = enable_flux(classifier(family), token_budget=BUDGET, token_budgets=[20, BUDGET]), clips()
    model.save_pretrained(tmp_path)
    FluxVideoProcessor(num_frames=4, size=32, patch_size=8).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == f"flux_{family}"
    assert AutoConfig.from_pretrained(tmp_path).token_budgets == [20, BUDGET]
    loaded = load(tmp_path)
    assert type(loaded) is type(model) and not loaded.training
    assert [type(module) for module in loaded.modules()] == [type(module) for module in model.modules()]
    output = loaded(pixels)
    same(output.logits, model(pixels).logits)
    same(output.keep_mask, model(pixels).keep_mask)
    assert type(AutoVideoProcessor.from_pretrained(tmp_path)) is FluxVideoProcessor
    encoded = load(tmp_path, AutoModel)(pixels)  # of the classifier's checkpoint
    same(encoded.last_hidden_state, model.base_model(pixels).last_hidden_state)
    disable_flux(loaded)
    same(loaded(pixels).logits, classifier(family)(pixels).logits)


@torch.no_grad()
def test_files_with_the_names_of_older_models(tmp_path):
    """VideoMAE's files have names of their own for two biases, those of ViViT for most weights: both are translated
    for the stock class alone."""
    for family in ("videomae", "vivit"):
        stock, pixels = classifier(family), clips()
        stock.save_pretrained(tmp_path / family)
        names = load_file(tmp_path / family / "model.safetensors").keys()
        assert names != stock.state_dict().keys()
        loaded = load(tmp_path / family)
        same(loaded(pixels).logits, stock(pixels).logits)
        model = enable_flux(loaded, token_budget=BUDGET)
        model.save_pretrained(tmp_path / "flux")
        again = load(tmp_path / "flux")
        same(again(pixels).logits, model(pixels).logits)
        disable_flux(again).save_pretrained(tmp_path / "stock")
        assert load_file(tmp_path / "stock" / "model.safetensors").keys() == names
        same(load(tmp_path / "stock")(pixels).logits, stock(pixels).logits)


def test_a_stock_class_says_that_it_runs_without_selection(tmp_path, caplog):
    enable_flux(classifier("videomae"), token_budget=BUDGET).save_pretrained(tmp_path)
    logger = transformers_logging.get_logger("transformers")
    logger.addHandler(caplog.handler)
    try:
        with caplog.at_level(logging.WARNING):
            VideoMAEForVideoClassification.from_pretrained(tmp_path)
    finally:
        logger.removeHandler(caplog.handler)
    assert any("flux_videomae" in record.getMessage() for record in caplog.records)


FOREIGN = """
import json, sys
sys.modules["flux_hf"] = None
import torch
from transformers import AutoModelForVideoClassification
folder, stock, pixels = sys.argv[1:]
pixels = torch.load(pixels)
model = AutoModelForVideoClassification.from_pretrained(folder, trust_remote_code=True)
plain = AutoModelForVideoClassification.from_pretrained(stock)
try:
    AutoModelForVideoClassification.from_pretrained(folder, trust_remote_code=False)
except ValueError as error:
    refused = str(error)
with torch.no_grad():
    output = model(pixels)
    print(json.dumps({
        "modules": [type(each).__module__.partition(".")[0] for each in (model, model.config, plain)],
        "logits": output.logits.tolist(),
        "kept": output.keep_mask.sum(1).tolist(),
        "plain": plain(pixels).logits.tolist(),
        "refused": refused,
    }))
"""


@torch.no_grad()
def test_without_the_package(family, warm_python, tmp_path):
    """What is saved with selection on runs as remote code, what is saved after disable_flux as any stock model."""
    pixels = clips()
    model = enable_flux(classifier(family), token_budget=BUDGET)
    model.save_pretrained(tmp_path / "flux")
    disable_flux(copy.deepcopy(model)).save_pretrained(tmp_path / "stock")
    torch.save(pixels, tmp_path / "pixels.pt")
    done = warm_python.run(FOREIGN, *(tmp_path / name for name in ("flux", "stock", "pixels.pt")), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["modules"] == ["transformers_modules", "transformers_modules", "transformers"]
    assert found["kept"] == [BUDGET, BUDGET]
    assert "trust_remote_code=True" in found["refused"]
    torch.testing.assert_close(torch.tensor(found["logits"]), model(pixels).logits)
    torch.testing.assert_close(torch.tensor(found["plain"]), classifier(family)(pixels).logits)


# What cannot be


@pytest.mark.parametrize("kind", ["divided_space_time", "space_only"])
def test_factorised_attention_is_refused_when_flux_is_enabled(kind):
    model = classifier("timesformer", attention_type=kind)
    with pytest.raises(UnsupportedModelError, match=f"{kind}.*space and time apart"):
        enable_flux(model)
    assert type(model) is CLASSIFIERS["timesformer"][0]


@pytest.mark.parametrize(
    ("changes", "family"), [({"patch_size": [8, 16]}, "videomae"), ({"tubelet_size": [2, 8, 16]}, "vivit")]
)
def test_oblong_patches_are_refused_when_flux_is_enabled(changes, family):
    with pytest.raises(UnsupportedModelError, match="squares"):
        enable_flux(classifier(family, **changes))


def test_other_models_are_refused_with_the_reason():
    with pytest.raises(UnsupportedModelError, match="bool_masked_pos"):
        enable_flux(VideoMAEForPreTraining(classifier("videomae", decoder_num_hidden_layers=1).config))
    image = ViTModel(ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8))
    with pytest.raises(UnsupportedModelError, match="timm"):
        enable_flux(image)
    with pytest.raises(UnsupportedModelError, match="wrapper around VideoMAE"):
        enable_flux(nn.DataParallel(classifier("videomae")))
    with pytest.raises(UnsupportedModelError, match="no adapter for Linear.*VJEPA2Model.*register_flux_adapter"):
        enable_flux(nn.Linear(1, 1))


@pytest.mark.parametrize("budget", [0, 2.5, "8", True, [8], None])
def test_budgets_that_make_no_sense(budget, tmp_path):
    model, pixels = enable_flux(classifier("videomae")), clips(1)
    if budget is not None:
        with pytest.raises(ValueError, match="token_budget must be"):
            model(pixels, token_budget=budget)
    with pytest.raises(ValueError, match="token_budgets? must be"):
        model(pixels, token_budgets=[20, budget])
    with pytest.raises(ValueError, match="token_budgets? must be"):
        enable_flux(model, token_budgets=[20, budget])
    assert model.token_budgets == [TOKENS["videomae"]]


@pytest.mark.parametrize("settings", [{"token_budgets": [8, 16]}, {"token_budget": 0}, {"token_selection": ""}])
def test_a_damaged_configuration_is_refused(settings, tmp_path):
    enable_flux(classifier("videomae"), token_budgets=[16, 8], heads_per_budget=True).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | settings))
    with pytest.raises(StrictDataclassError, match=next(iter(settings))):
        load(tmp_path)


@torch.no_grad()
def test_a_call_that_is_refused_leaves_selection_on():
    model = enable_flux(VideoMAEModel(classifier("videomae").config), token_budget=BUDGET)
    with pytest.raises(ValueError, match="no head"):
        enable_flux(model, heads_per_budget=True)
    assert model(clips(1)).keep_mask.sum() == BUDGET


def test_fluxvit_needs_no_adapter():
    model = FluxViTModel(FluxViTConfig(**PATCHES_OF_14))
    with pytest.raises(UnsupportedModelError, match="by itself"):
        enable_flux(model)


def test_adapters_that_cannot_work_are_refused():
    with pytest.raises(TypeError, match="must be a subclass of Linear"):
        register_flux_adapter({nn.Linear: nn.Conv2d})
    with pytest.raises(TypeError, match="FluxVideoModel or FluxVideoClassifier"):
        register_flux_adapter({nn.Module: nn.Linear})
    same_type = type("Same", (FluxVideoMAEForVideoClassification,), {"config_class": VideoMAEModel.config_class})
    with pytest.raises(TypeError, match="model_type of its own"):
        register_flux_adapter({VideoMAEForVideoClassification: same_type})


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (clips(frames=3), "multiples of 2.*3 frames of 32 x 32"),
        (clips(height=36), "of 8 .*36 x 32"),
        (clips()[:, :, :2], r"3, height, width\), got \(2, 4, 2"),
        (clips()[0], "got"),
    ],
)
def test_clips_that_do_not_divide(pixels, message):
    with pytest.raises(ValueError, match=message):
        enable_flux(classifier("videomae"))(pixels)


@pytest.mark.slow
@torch.no_grad()
def test_videomae_base_at_full_size():
    stock = VideoMAEForVideoClassification(VideoMAEConfig(use_mean_pooling=True)).eval()
    pixels = clips(1, 16, 224, 224)
    expected = stock(pixels).logits
    model = enable_flux(copy.deepcopy(stock), token_budget=392)
    same(model(pixels, token_budget=1568).logits, expected)
    few = model(pixels)
    assert few.keep_mask.sum() == 392
    same(few.logits, stock(pixels, bool_masked_pos=~few.keep_mask).logits)

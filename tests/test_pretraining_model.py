"""The student of pre-training: its features, its loss, and the encoder that fine-tuning takes from it."""

import json
import logging

import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from transformers import AutoModelForPreTraining
from transformers.utils import logging as transformers_logging

from flux_hf import FluxViTConfig, FluxViTForPreTraining, FluxViTForVideoClassification, FluxViTModel
from flux_hf.modeling.modeling_fluxvit_pretraining import alignment_loss, alignment_losses
from tests.tiny_models import PATCHES_OF_14

SIZES = PATCHES_OF_14 | {
    "num_hidden_layers": 3,
    "head_token_budgets": [24, 16, 8],
    "teacher_hidden_size": 20,
    "teacher_projection_dim": 12,
}
TOKENS = 4 * 3 * 3


def student(**changes) -> FluxViTForPreTraining:
    torch.manual_seed(0)
    return FluxViTForPreTraining(FluxViTConfig(**SIZES | changes))


def clips(batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 4, 3, 42, 42, generator=torch.Generator().manual_seed(1))


def nested_masks(*counts: int, batch: int = 2) -> list[torch.Tensor]:
    order = torch.rand(batch, TOKENS, generator=torch.Generator().manual_seed(2)).argsort(1).argsort(1)
    return [order < count for count in counts]


def test_features_of_every_set_and_layer():
    output = student()(clips(), keep_masks=nested_masks(24, 16, 8))
    assert [[tuple(layer.shape) for layer in features] for features in output.layer_features] == [
        [(2, 24, 20)] * 2,
        [(2, 16, 20)] * 2,
        [(2, 8, 20)] * 2,
    ]
    assert [tuple(pooled.shape) for pooled in output.pooled_features] == [(2, 12)] * 3
    for vectors in (*output.layer_features[1], *output.pooled_features):
        torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(vectors.shape[:-1]))


def test_several_sets_at_once_equal_one_by_one():
    model = student().eval()
    masks = nested_masks(24, 16, 8)
    together = model(clips(), keep_masks=masks)
    for index, mask in enumerate(masks):
        alone = model(clips(), keep_masks=[mask])
        for one, other in zip(together.layer_features[index], alone.layer_features[0], strict=True):
            torch.testing.assert_close(one, other)
        torch.testing.assert_close(together.pooled_features[index], alone.pooled_features[0])
        pooled = model.fluxvit(clips(), keep_mask=mask, head_index=index).pooler_output
        torch.testing.assert_close(together.pooled_features[index], model.pooled_decoder(pooled))


def test_features_are_those_of_the_encoder():
    model = student().eval()
    (mask,) = nested_masks(16)
    states = model.fluxvit(clips(), keep_mask=mask, output_hidden_states=True).hidden_states
    output = model(clips(), keep_masks=[mask])
    for number, decoder, features in zip((2, 3), model.layer_decoders, output.layer_features[0], strict=True):
        torch.testing.assert_close(decoder(states[number][:, 1:]), features)
    torch.testing.assert_close(output.last_hidden_state, states[-1])


def test_the_loss_by_hand():
    model = student()
    masks = nested_masks(24, 8)
    targets = [torch.randn(2, 24, 20), 5 * torch.randn(2, 24, 20)]
    pooled = torch.randn(2, 12)
    output = model(clips(), masks, targets, pooled)
    expected = []
    for mask, features, mine in zip(masks, output.layer_features, output.pooled_features, strict=True):
        by_layer = []
        for layer, target in zip(features, targets, strict=True):
            values = []
            for clip in range(2):
                positions = [p for p in range(TOKENS) if masks[0][clip, p]]
                places = [place for place, p in enumerate(positions) if mask[clip, p]]
                for place, vector in zip(places, layer[clip], strict=True):
                    unit = target[clip, place] / target[clip, place].norm()
                    values.append((vector - unit).square().sum())
            by_layer.append(torch.stack(values).mean())
        unit = pooled / pooled.norm(dim=-1, keepdim=True)
        expected.append((by_layer, (mine - unit).square().sum(-1).mean()))
    for mine, theirs in zip(alignment_losses(output, targets, pooled), expected, strict=True):
        torch.testing.assert_close(mine, theirs)
    by_hand = sum((layers[0] + layers[1]) / 2 + pooled_loss for layers, pooled_loss in expected) / 2
    torch.testing.assert_close(output.loss, by_hand)
    torch.testing.assert_close(alignment_loss(expected), by_hand)


def test_targets_of_its_own_features_give_no_loss():
    model = student().eval()
    masks = nested_masks(24, 16)
    output = model(clips(), masks[:1])
    again = model(clips(), masks[:1], list(output.layer_features[0]), output.pooled_features[0])
    assert again.loss.item() == pytest.approx(0, abs=1e-5)


def test_every_parameter_in_use_gets_a_gradient():
    model = student().train()
    targets = [torch.randn(2, 24, 20) for _ in range(2)]
    model(clips(), nested_masks(24, 16, 8), targets, torch.randn(2, 12)).loss.backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_a_grid_without_more_tokens_shares_one_pass():
    everything = torch.ones(2, TOKENS, dtype=torch.bool)
    output = student()(clips(), keep_masks=[everything, everything])
    assert output.keep_masks == (None, None)
    assert output.layer_features[0][0] is output.layer_features[1][0]


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (nested_masks(8, 16), "a part of what the one before keeps"),
        ([], "at least one mask"),
        ([torch.zeros(2, TOKENS, dtype=torch.bool)], "at least one"),
    ],
)
def test_masks_that_do_not_fit(masks, message):
    with pytest.raises(ValueError, match=message):
        student()(clips(), keep_masks=masks)


def test_half_a_target_is_refused():
    with pytest.raises(ValueError, match="together"):
        student()(clips(), target_pooled=torch.zeros(2, 12))


@pytest.mark.parametrize(("depth", "expected"), [(12, [7, 8, 9, 10, 11, 12]), (5, [3, 4, 5]), (1, [1])])
def test_default_layers(depth, expected):
    assert student(num_hidden_layers=depth).aligned_layers == expected


@pytest.mark.parametrize("layers", [[], [2, 1], [0], [4], [2, 2]])
def test_layers_that_do_not_exist(layers):
    with pytest.raises(StrictDataclassClassValidationError, match="aligned_layers"):
        FluxViTConfig(**SIZES, aligned_layers=layers)


def test_the_classifier_takes_the_encoder_and_nothing_else(tmp_path):
    model = student()
    model.save_pretrained(tmp_path)
    messages = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())
    logger = transformers_logging.get_logger("transformers")
    logger.addHandler(handler)
    try:
        classifier, report = FluxViTForVideoClassification.from_pretrained(
            tmp_path, num_labels=5, output_loading_info=True
        )
    finally:
        logger.removeHandler(handler)
    assert {name.split(".")[0] for name in report["missing_keys"]} == {
        "classifier_norm",
        "classifier",
        "alignment_decoders",
    }
    assert not report["unexpected_keys"]
    assert not [text for text in messages if "layer_decoders" in text]
    weights = classifier.fluxvit.state_dict()
    assert all(weights[name].equal(value) for name, value in model.fluxvit.state_dict().items())
    base = FluxViTModel.from_pretrained(tmp_path).state_dict()
    assert all(base[name].equal(value) for name, value in weights.items())


def test_saved_code_and_what_a_classifier_made_of_it_saves(tmp_path):
    student().save_pretrained(tmp_path / "student")
    auto_map = json.loads((tmp_path / "student" / "config.json").read_text())["auto_map"]
    assert auto_map["AutoModelForPreTraining"] == "modeling_fluxvit_pretraining.FluxViTForPreTraining"
    assert (tmp_path / "student" / "modeling_fluxvit_pretraining.py").exists()
    assert type(AutoModelForPreTraining.from_pretrained(tmp_path / "student")) is FluxViTForPreTraining
    FluxViTForVideoClassification.from_pretrained(tmp_path / "student").save_pretrained(tmp_path / "classifier")
    auto_map = json.loads((tmp_path / "classifier" / "config.json").read_text())["auto_map"]
    shipped = {path.stem for path in (tmp_path / "classifier").glob("*.py")}
    assert {entry.partition(".")[0] for entry in auto_map.values()} <= shipped


def test_loads_without_the_package(tmp_path, warm_python):
    """In a process that cannot import flux_hf, `trust_remote_code=True` runs the files saved beside the weights."""
    model = student().eval()
    model.save_pretrained(tmp_path / "student")
    code = """
import sys
sys.modules["flux_hf"] = None
import torch
from transformers import AutoModelForPreTraining
model = AutoModelForPreTraining.from_pretrained(sys.argv[1], trust_remote_code=True).eval()
pixels = torch.randn(2, 4, 3, 42, 42, generator=torch.Generator().manual_seed(1))
with torch.no_grad():
    torch.save(model(pixels).pooled_features[0], sys.argv[1] + ".pt")
"""
    done = warm_python.run(code, tmp_path / "student", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    with torch.no_grad():
        torch.testing.assert_close(torch.load(f"{tmp_path / 'student'}.pt"), model(clips()).pooled_features[0])


def test_saliency_and_unit_vectors_are_float32_under_autocast():
    model = student().eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        output = model(clips())
        weights = model.fluxvit.poolers[0].attention(output.last_hidden_state)
    for vectors in (*output.pooled_features, *output.layer_features[0]):
        torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(vectors.shape[:-1]))
    assert weights.dtype == torch.float32 and not weights.equal(weights.bfloat16().float())
    torch.testing.assert_close(weights.sum(-1), torch.ones(len(weights)))


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"target_features": [torch.ones(1, 1, 48)]}, "target_features"),
        ({"target_features": 2 * [torch.ones(2, 16, 48)]}, "target_features"),
        ({"target_pooled": torch.ones(1, 24)}, "target_pooled"),
    ],
)
def test_targets_of_other_shapes_are_refused(changes, name):
    model = student()
    output = model(clips())
    targets = {
        "target_features": [torch.ones_like(layer) for layer in output.layer_features[0]],
        "target_pooled": torch.ones_like(output.pooled_features[0]),
    }
    assert model(clips(), **targets).loss.isfinite()
    with pytest.raises(ValueError, match=f"{name} must have the shapes"):
        model(clips(), **targets | changes)


def test_the_poolers_attention_is_that_of_its_output():
    pooler = student().fluxvit.poolers[0].eval()
    tokens = torch.randn(2, 7, 32, requires_grad=True)
    weights = pooler.attention(tokens)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2))
    pooler.num_heads = 1
    value = pooler.value(pooler.value_norm(tokens))
    by_hand = pooler.output((pooler.attention(tokens)[..., None] * value).sum(1))
    torch.testing.assert_close(pooler(tokens), by_hand)

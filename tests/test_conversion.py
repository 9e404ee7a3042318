"""Our model against reference outputs of the official one (tests/fixtures/official_tiny.safetensors)."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from flux_hf.conversion import convert_official_state_dict
from tests import official_reference

FIXTURE = Path(__file__).parent / "fixtures" / "official_tiny.safetensors"
WEIGHTS = "weights."


@pytest.fixture(scope="module")
def reference():
    with safe_open(FIXTURE, "pt") as file:
        spec = json.loads(file.metadata()["spec"])
        return spec, {key: file.get_tensor(key) for key in file.keys()}


@pytest.fixture(scope="module")
def state_dict(reference):
    return {key.removeprefix(WEIGHTS): value for key, value in reference[1].items() if key.startswith(WEIGHTS)}


@pytest.fixture(scope="module", params=["eager", "sdpa"])
def model(request, state_dict):
    model = convert_official_state_dict(
        state_dict, num_attention_heads=4, pooler_num_attention_heads=4, hidden_act="gelu"
    )
    model.set_attn_implementation(request.param)
    return model


@pytest.mark.parametrize("case", range(7))
@torch.no_grad()
def test_case_equals_the_official_output(model, reference, case):
    spec, tensors = reference
    name, case = f"case{case}.", spec["cases"][case]
    video = tensors[name + "video_uint8"].permute(0, 1, 4, 2, 3)
    pixel_values = (video.float() - 128) / 64
    budget = case.get("kept")

    embedding = model.fluxvit.embeddings.patch_embedding
    tokens = embedding(embedding.patchify(pixel_values))
    torch.testing.assert_close(tokens[:, 0].flatten(1, 2), tensors[name + "patch_embed_first_frame"], atol=1e-5, rtol=0)
    for head in range(3):
        output = model(pixel_values, token_budget=budget, head_index=head)
        if budget is None:
            assert output.keep_mask is None
        else:
            assert torch.equal(output.keep_mask, tensors[name + "keep"].bool())
        torch.testing.assert_close(output.logits, tensors[f"{name}logits_head{head}"], atol=1e-5, rtol=0)
        torch.testing.assert_close(output.pooler_output, tensors[f"{name}pooled_head{head}"], atol=1e-5, rtol=0)
        if head == 0:
            for index, decoder in enumerate(model.alignment_decoders):
                expected = tensors[f"{name}aligned_proj{index}"]
                torch.testing.assert_close(decoder(output.pooler_output), expected, atol=1e-5, rtol=0)


def test_sizes_come_from_the_tensors(model):
    config = model.config
    assert (config.position_frames, config.position_size, config.patch_size) == (8, 56, 14)
    assert (config.hidden_size, config.num_hidden_layers, config.projection_dim, config.num_labels) == (48, 3, 32, 7)
    assert not model.training


def test_missing_and_unknown_keys_are_named(state_dict):
    broken = dict(state_dict)
    del broken["blocks.1.ls1.gamma"]
    broken["blocks.1.extra"] = torch.zeros(1)
    with pytest.raises(ValueError, match=r"layers\.1\.attention_scale.*blocks\.1\.extra"):
        convert_official_state_dict(broken, num_attention_heads=4, pooler_num_attention_heads=4)
    with pytest.raises(ValueError, match=r"missing.*patch_embed\.proj\.weight"):
        convert_official_state_dict({"head.0.weight": torch.zeros(3, 4)})


def test_wrong_shape_is_named(state_dict):
    broken = state_dict | {"head.1.weight": torch.zeros(3, 4)}
    with pytest.raises(ValueError, match=r"classifier\.heads\.1\.weight.*\(3, 4\)"):
        convert_official_state_dict(broken, num_attention_heads=4, pooler_num_attention_heads=4)


def test_label_names_must_match_the_classifier(state_dict):
    names = {index: f"class {index}" for index in range(7)}
    kwargs = {"num_attention_heads": 4, "pooler_num_attention_heads": 4}
    assert convert_official_state_dict(state_dict, id2label=names, **kwargs).config.id2label == names
    with pytest.raises(ValueError, match="id2label names 2 classes, the classifier has 7"):
        convert_official_state_dict(state_dict, id2label={0: "a", 1: "b"}, **kwargs)


@pytest.mark.parametrize("case", range(7))
def test_the_written_out_reference_equals_the_official_output(state_dict, reference, case):
    """Guards tests/official_reference.py, which stands in for the official code at sizes that no file can hold."""
    spec, tensors = reference
    name, case = f"case{case}.", spec["cases"][case]
    video = (tensors[name + "video_uint8"].permute(0, 4, 1, 2, 3).float() - 128) / 64
    logits, keep = official_reference.flux_forward(
        state_dict, video, table=(8, 4), heads=4, budget=case.get("kept"), pooler_heads=4, act="none"
    )
    if case.get("kept") is not None:
        assert torch.equal(keep, tensors[name + "keep"].bool())
    for head in range(3):
        torch.testing.assert_close(logits[head], tensors[f"{name}logits_head{head}"], atol=1e-5, rtol=0)

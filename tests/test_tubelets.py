"""FluxViT whose tokens cover several frames (`tubelet_size`)."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from flux_hf import FluxVideoProcessor, FluxViTConfig, FluxViTForVideoClassification
from flux_hf.costs import forward_macs
from flux_hf.modeling.layers_fluxvit import FluxViTPatchEmbedding
from flux_hf.pretraining import load_teacher
from flux_hf.training import FluxTrainer
from tests.tiny_models import PATCHES_OF_8
from tests.tiny_training import arguments, clips

HEADS = {"head_token_budgets": [48, 24], "layer_scale_init": 1.0}


def model_of(tubelet_size: int, position_frames: int) -> FluxViTForVideoClassification:
    torch.manual_seed(0)
    settings = PATCHES_OF_8 | HEADS | {"tubelet_size": tubelet_size, "position_frames": position_frames}
    return FluxViTForVideoClassification(FluxViTConfig(**settings, num_labels=3)).eval()


def test_a_clip_of_doubled_frames_is_seen_as_by_a_model_of_single_frames():
    """An oracle from the same weights: half of each for either frame of a tubelet."""
    single, double = model_of(1, 4), model_of(2, 8)
    weights = single.state_dict()
    for name in [name for name in weights if "patch_embedding.projection.weight" in name]:
        weights[name] = torch.cat([weights[name] / 2] * 2, dim=1)
    for name in [name for name in weights if "patch_embedding.norm_before" in name]:
        weights[name] = torch.cat([weights[name]] * 2)
    double.load_state_dict(weights)
    clip = torch.rand(2, 4, 3, 48, 48)
    for budget in (None, 48, 24):
        with torch.inference_mode():
            expected = single(clip, token_budget=budget)
            found = double(clip.repeat_interleave(2, dim=1), token_budget=budget)
        torch.testing.assert_close(found.logits, expected.logits, rtol=1e-4, atol=1e-5)
        assert (found.keep_mask is None) == (budget is None)
        if budget:
            assert found.keep_mask.shape == (2, 4 * 36) and (found.keep_mask == expected.keep_mask).all()


def test_patches_are_those_of_a_convolution():
    config = FluxViTConfig(**PATCHES_OF_8 | {"tubelet_size": 2})
    embedding = FluxViTPatchEmbedding(config)
    kernel = embedding.projection.weight.unflatten(1, (2, 8, 8, 3)).permute(0, 4, 1, 2, 3)
    clip = torch.rand(2, 6, 3, 24, 40)
    expected = torch.nn.functional.conv3d(clip.transpose(1, 2), kernel, embedding.projection.bias, stride=(2, 8, 8))
    found = embedding.projection(embedding.patchify(clip))
    assert found.shape == (2, 3, 3, 5, 32)
    torch.testing.assert_close(found, expected.permute(0, 2, 3, 4, 1), rtol=1e-4, atol=1e-5)


def test_cost_is_what_torch_counts():
    model = model_of(2, 8)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.rand(1, 8, 3, 48, 48), token_budget=24)
    assert counter.get_total_flops() == 2 * forward_macs(model.config, 24, 4 * 36)


def test_processor_and_model_agree_and_are_saved(tmp_path):
    model = model_of(2, 8)
    processor = FluxVideoProcessor.for_model(model)
    assert processor.tubelet_size == 2
    frames, _ = processor.choose_grid(24)
    assert frames % 2 == 0
    model.save_pretrained(tmp_path)
    loaded = FluxViTForVideoClassification.from_pretrained(tmp_path)
    weights = model.state_dict()
    assert all(value.equal(weights[name]) for name, value in loaded.state_dict().items())
    clip = torch.rand(1, 8, 3, 48, 48)
    with torch.inference_mode():
        torch.testing.assert_close(loaded(clip, token_budget=24).logits, model(clip, token_budget=24).logits)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"frames must be a multiple of tubelet_size 2, got 7"):
        model_of(2, 8)(torch.rand(1, 7, 3, 48, 48))
    with pytest.raises(ValueError, match=r"position_frames \(4\) is not a multiple of tubelet_size \(3\)"):
        FluxViTConfig(**PATCHES_OF_8 | {"tubelet_size": 3})


def test_flux_training(tmp_path):
    settings = PATCHES_OF_8 | {"head_token_budgets": [24, 12], "tubelet_size": 2, "num_labels": 3}
    model = FluxViTForVideoClassification(FluxViTConfig(**settings))
    before = model.fluxvit.embeddings.patch_embedding.projection.weight.clone()
    settings = {"token_budgets": [24, 12], "min_size": 24, "max_size": 40, "size_step": 8, "max_pool_tokens": 60}
    made = FluxTrainer(
        model=model,
        args=arguments(tmp_path, **settings),
        train_dataset=clips(),
        processing_class=FluxVideoProcessor.for_model(model),
    )
    assert {frames % 2 for frames, _ in made.grids()} == {0}
    assert torch.isfinite(torch.tensor(made.train().training_loss))
    assert (model.fluxvit.embeddings.patch_embedding.projection.weight != before).any()


def test_a_fluxvit_teaches_students_of_its_own_tubelets(tmp_path):
    model = model_of(2, 8)
    model.save_pretrained(tmp_path)
    FluxVideoProcessor.for_model(model).save_pretrained(tmp_path)
    teacher = load_teacher(str(tmp_path), patch_size=8, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    clip = torch.rand(1, 4, 3, 48, 48)
    found = teacher(clip, torch.ones(1, 2 * 36, dtype=torch.bool), [1])
    assert found.layers[0].shape[:2] == (1, 2 * 36)
    with pytest.raises(ValueError, match="the teacher's tokens cover 2 frames .* the student's 1"):
        teacher(clip, torch.ones(1, 4 * 36, dtype=torch.bool), [1])

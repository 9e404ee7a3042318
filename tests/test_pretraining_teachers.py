"""Teachers of every family: what they see, and that their answers are those of the models themselves."""

import json

import pytest
import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    SiglipVisionConfig,
    SiglipVisionModel,
    VideoMAEConfig,
    VideoMAEModel,
    ViTConfig,
    ViTModel,
    VJEPA2Config,
    VJEPA2Model,
)

from flux_hf import FluxViTModel
from flux_hf.modeling.modeling_fluxvit_pretraining import default_aligned_layers
from flux_hf.pretraining.resampling import renormalize, resample_frames, resample_tokens, resize_frames
from flux_hf.pretraining.teacher import CLS_ATTENTION, likeness, load_teacher, matching_layers
from tests import tiny_pretraining

SIZES = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
IMAGE = SIZES | {"image_size": 24, "patch_size": 8}
CLIP = CLIPVisionConfig(**IMAGE)
MODELS = {
    "clip": lambda: CLIPModel(
        CLIPConfig(
            text_config={**SIZES, "vocab_size": 9, "max_position_embeddings": 5, "eos_token_id": 1, "bos_token_id": 0},
            vision_config=CLIP.to_dict(),
        )
    ),
    "clip_vision": lambda: CLIPVisionModel(CLIP),
    "siglip": lambda: SiglipVisionModel(SiglipVisionConfig(**IMAGE)),
    "dinov2": lambda: Dinov2Model(Dinov2Config(**IMAGE, mlp_ratio=2)),
    "registers": lambda: Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**IMAGE, mlp_ratio=2)),
    "videomae": lambda: VideoMAEModel(VideoMAEConfig(**IMAGE, num_frames=4, tubelet_size=2)),
    "vjepa2": lambda: VJEPA2Model(
        VJEPA2Config(
            hidden_size=24, num_hidden_layers=3, num_attention_heads=2, patch_size=8, crop_size=24, frames_per_clip=8,
            pred_hidden_size=24, pred_num_attention_heads=2, pred_num_hidden_layers=1,
        )
    ),
}  # fmt: skip
IMAGE_MODELS = ["clip", "clip_vision", "siglip", "dinov2", "registers"]
OWN_MEAN, OWN_STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]


def saved(model, folder):
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": OWN_MEAN, "image_std": OWN_STD}))
    return str(folder)


def teacher_of(name, folder):
    torch.manual_seed(0)
    mean, std = tiny_pretraining.MEAN, tiny_pretraining.STD
    return load_teacher(saved(MODELS[name](), folder), patch_size=14, image_mean=mean, image_std=std)


def clips(frames: int = 4, size: int = 42) -> torch.Tensor:
    return torch.randn(2, frames, 3, size, size, generator=torch.Generator().manual_seed(1))


def seen(tokens: int, kept: int) -> torch.Tensor:
    order = torch.rand(2, tokens, generator=torch.Generator().manual_seed(2)).argsort(1).argsort(1)
    return order < kept


def for_teacher(pixels: torch.Tensor) -> torch.Tensor:
    """By hand: back to 0..1, then as the teacher's processor does it."""
    mean, std, own_mean, own_std = (
        torch.tensor(values)[:, None, None]
        for values in (tiny_pretraining.MEAN, tiny_pretraining.STD, OWN_MEAN, OWN_STD)
    )
    return (pixels * std + mean - own_mean) / own_std


def unit(values: torch.Tensor) -> torch.Tensor:
    return values / values.norm(dim=-1, keepdim=True)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("frames", [4, 6])
def test_every_family_answers_on_the_students_grid(name, frames, tmp_path):
    teacher = teacher_of(name, tmp_path)
    assert (teacher.depth, teacher.width, teacher.pooled_width) == (3, 24, 24)
    output = teacher(clips(frames), seen(frames * 9, 20), [1, 3])
    assert [tuple(layer.shape) for layer in output.layers] == [(2, 20, 24)] * 2
    assert output.pooled.shape == (2, 24)
    assert output.saliency.shape == (2, 20)
    for vectors in (*output.layers, output.pooled):
        torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(vectors.shape[:-1]))
    assert output.saliency.isfinite().all()
    assert not [parameter for parameter in teacher.model.parameters() if parameter.requires_grad]


@pytest.mark.parametrize("name", IMAGE_MODELS)
def test_image_models_answer_as_for_each_frame_alone(name, tmp_path):
    teacher = teacher_of(name, tmp_path)
    pixels, everything = clips(size=56), torch.ones(2, 4 * 16, dtype=torch.bool)
    output = teacher(pixels, everything, [2])
    frame = resize_frames(for_teacher(pixels[1:, 2:3]), 32, 32)[:, 0]
    options = {} if name in ("dinov2", "registers") else {"interpolate_pos_encoding": True}
    model = teacher.model
    alone = model(pixel_values=frame, output_hidden_states=True, output_attentions=True, **options)
    others = alone.last_hidden_state.shape[1] - 16
    assert others == {"siglip": 0, "registers": 5}.get(name, 1)
    torch.testing.assert_close(output.layers[0][1, 32:48], unit(alone.hidden_states[2][0, others:]))
    pooled = torch.stack(
        [
            model(pixel_values=resize_frames(for_teacher(pixels[1:, t : t + 1]), 32, 32)[:, 0], **options).pooler_output
            for t in range(4)
        ]
    )
    torch.testing.assert_close(output.pooled[1], unit(pooled[:, 0].mean(0)))
    if others:
        model.set_attn_implementation("eager")
        weights = model(pixel_values=frame, output_attentions=True, **options).attentions[-1]
        model.set_attn_implementation(CLS_ATTENTION)
        torch.testing.assert_close(output.saliency[1, 32:48].exp(), weights[0].mean(0)[0, others:])
    else:
        torch.testing.assert_close(output.saliency[1:, 32:48], likeness(alone.last_hidden_state, alone.pooler_output))


@pytest.mark.parametrize("name", MODELS)
def test_students_whose_tokens_cover_two_frames(name, tmp_path):
    """Of doubled frames an image model's target is that of each frame."""
    teacher = teacher_of(name, tmp_path)
    expected = teacher(clips(), seen(4 * 9, 20), [1, 3])
    found = teacher(clips().repeat_interleave(2, dim=1), seen(4 * 9, 20), [1, 3])
    assert [layer.shape for layer in found.layers] == [layer.shape for layer in expected.layers]
    if name in IMAGE_MODELS:
        torch.testing.assert_close(found.layers, expected.layers, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            (found.pooled, found.saliency), (expected.pooled, expected.saliency), rtol=1e-4, atol=1e-5
        )


def test_what_is_not_seen_is_left_out(tmp_path):
    teacher = teacher_of("dinov2", tmp_path)
    mask = seen(36, 11)
    part, whole = (teacher(clips(), each, [3]) for each in (mask, torch.ones_like(mask)))
    torch.testing.assert_close(part.layers[0], whole.layers[0][mask].view(2, 11, 24))
    torch.testing.assert_close(part.saliency, whole.saliency[mask].view(2, 11))


def test_videomae_on_its_own_grid_is_the_model_with_masked_positions(tmp_path):
    teacher = teacher_of("videomae", tmp_path)
    pixels, mask = clips(frames=2), seen(18, 11)
    output = teacher(pixels, mask, [2, 3])
    tubes = for_teacher(pixels)[:, [0, 1, 1, 1]]  # The tube of the last frame has no frame after it.
    with torch.no_grad():
        direct = teacher.model(resize_frames(tubes, 24, 24), bool_masked_pos=~mask, output_hidden_states=True)
    for number, layer in zip((2, 3), output.layers, strict=True):
        torch.testing.assert_close(layer, unit(direct.hidden_states[number]))
    pooled = direct.last_hidden_state.mean(1)
    torch.testing.assert_close(output.pooled, unit(pooled))
    torch.testing.assert_close(output.saliency, likeness(direct.last_hidden_state, pooled))


def test_videomae_on_another_grid_is_the_model_of_that_size(tmp_path):
    teacher = teacher_of("videomae", tmp_path)
    pixels, mask = clips(frames=3, size=56), seen(48, 20)
    larger = VideoMAEModel(VideoMAEConfig(**IMAGE | {"image_size": 32}, num_frames=6, tubelet_size=2)).eval()
    larger.load_state_dict(teacher.model.state_dict())
    table = teacher.model.embeddings.position_embeddings
    larger.embeddings.position_embeddings = resample_tokens(table, (2, 3, 3), (3, 4, 4))
    with torch.no_grad():
        tubes = for_teacher(pixels)[:, [0, 1, 1, 2, 2, 2]]
        direct = larger(resize_frames(tubes, 32, 32), bool_masked_pos=~mask, output_hidden_states=True)
    torch.testing.assert_close(teacher(pixels, mask, [3]).layers[0], unit(direct.hidden_states[3]))


@pytest.mark.parametrize("name", ["videomae", "fluxvit"])
def test_cost_is_that_of_the_seen_tokens_on_every_grid(name, tmp_path):
    """All multiply-adds but those of the patch embedding, which takes every patch, and of the resizing."""
    if name == "fluxvit":
        mean, std = tiny_pretraining.MEAN, tiny_pretraining.STD
        folder = str(tiny_pretraining.teacher_folder(tmp_path))
        teacher = load_teacher(folder, patch_size=14, image_mean=mean, image_std=std)
    else:
        teacher = teacher_of(name, tmp_path)
    flops = []
    for frames, size in ((4, 42), (8, 56)):
        look = clips(frames, size), seen(frames * (size // 14) ** 2, 24), [3]
        teacher(*look)  # keeps the positions of the grid
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            teacher(*look)
        counted = counter.get_flop_counts()["Global"]
        flops.append({str(name): count for name, count in counted.items() if "convolution" not in str(name)})
    assert flops[0] == flops[1] and sum(flops[0].values()) > 0


def test_another_fluxvit_sees_the_kept_tokens_alone(tmp_path):
    folder = str(tiny_pretraining.teacher_folder(tmp_path))
    mean, std = tiny_pretraining.MEAN, tiny_pretraining.STD
    teacher = load_teacher(folder, patch_size=14, image_mean=mean, image_std=std)
    mask = seen(36, 13)
    output = teacher(clips(), mask, [2, 4])
    model = FluxViTModel.from_pretrained(folder).eval()
    own = (clips() * torch.tensor(std)[:, None, None] + torch.tensor(mean)[:, None, None] - 0.5) / 0.25
    with torch.no_grad():
        direct = model(resize_frames(own, 21, 21), keep_mask=mask, output_hidden_states=True)
        attention = model.poolers[1].attention(direct.last_hidden_state)[:, 1:]
    for number, layer in zip((2, 4), output.layers, strict=True):
        torch.testing.assert_close(layer, unit(direct.hidden_states[number][:, 1:]))
    torch.testing.assert_close(output.pooled, unit(direct.pooler_output))
    torch.testing.assert_close(output.saliency.exp(), attention)


def test_a_teacher_in_bf16_is_close(tmp_path):
    exact = teacher_of("dinov2", tmp_path)
    options = {"patch_size": 14, "image_mean": tiny_pretraining.MEAN, "image_std": tiny_pretraining.STD}
    short = load_teacher(str(tmp_path), **options, bf16=True)
    assert {parameter.dtype for parameter in short.model.parameters()} == {torch.bfloat16}
    one, other = (each(clips(), seen(36, 20), [3]) for each in (exact, short))
    assert one.layers[0].dtype == other.layers[0].dtype == torch.float32
    assert F.cosine_similarity(one.layers[0], other.layers[0], dim=-1).min() > 0.99


def test_models_that_are_no_teachers(tmp_path):
    options = {"patch_size": 14, "image_mean": tiny_pretraining.MEAN, "image_std": tiny_pretraining.STD}
    folder = saved(ViTModel(ViTConfig(**IMAGE)), tmp_path / "vit")
    with pytest.raises(ValueError, match="is a vit without code; there are: fluxvit, videomae"):
        load_teacher(folder, **options)
    MODELS["dinov2"]().save_pretrained(tmp_path / "bare")
    with pytest.raises(ValueError, match="image_mean"):
        load_teacher(str(tmp_path / "bare"), **options)


@pytest.mark.parametrize(
    ("layers", "student", "teacher", "expected"),
    [
        ([7, 8, 9, 10, 11, 12], 12, 40, [24, 27, 30, 34, 37, 40]),
        ([19, 20, 21, 22, 23, 24], 24, 40, [24, 27, 30, 34, 37, 40]),
        ([7, 8, 9, 10, 11, 12], 12, 24, [14, 16, 18, 20, 22, 24]),
        ([6, 12, 18, 24], 24, 40, [10, 20, 30, 40]),
        ([3, 4, 5], 5, 8, [5, 7, 8]),
        ([1], 1, 3, [3]),
        ([1, 2], 12, 3, [1, 1]),
    ],
)
def test_layers_at_the_same_depth(layers, student, teacher, expected):
    assert matching_layers(layers, student, teacher) == expected


@pytest.mark.parametrize("student", [12, 24])
def test_default_layers_are_those_of_the_official_distillation(student):
    """6 layers, each time `depth - int(i * interval)` from 1: 1 for the student, 3.34 for a teacher of 40 layers."""
    layers = default_aligned_layers(student)
    assert layers == sorted(student - i for i in range(6))
    assert matching_layers(layers, student, 40) == sorted(40 - int(i * 3.34) for i in range(6))


def test_renormalised_pixels():
    raw = torch.rand(2, 3, 4, 4)
    mean, std = torch.tensor([0.1, 0.2, 0.3])[:, None, None], torch.tensor([0.5, 0.6, 0.7])[:, None, None]
    own_mean, own_std = torch.tensor(OWN_MEAN)[:, None, None], torch.tensor(OWN_STD)[:, None, None]
    found = renormalize((raw - mean) / std, [0.1, 0.2, 0.3], [0.5, 0.6, 0.7], OWN_MEAN, OWN_STD)
    torch.testing.assert_close(found, (raw - own_mean) / own_std)


@pytest.mark.parametrize(
    ("frames", "count", "expected"), [(4, 4, [0, 1, 2, 3]), (4, 2, [1, 3]), (2, 4, [0, 0, 1, 1]), (6, 4, [0, 2, 3, 5])]
)
def test_frames_of_another_number(frames, count, expected):
    pixels = torch.arange(frames).view(1, frames, 1, 1, 1).float()
    assert resample_frames(pixels, count).flatten().tolist() == expected


def test_tokens_on_another_grid():
    times, rows, columns = torch.meshgrid(torch.arange(2.0), torch.arange(4.0), torch.arange(4.0), indexing="ij")
    tokens = torch.stack([times, rows, columns], -1).view(1, 32, 3)
    same = resample_tokens(tokens, (2, 4, 4), (2, 4, 4))
    torch.testing.assert_close(same, tokens)
    coarse = resample_tokens(tokens, (2, 4, 4), (1, 2, 2)).view(2, 2, 3)
    assert coarse[:, :, 0].unique().tolist() == [0.5]
    assert coarse[:, 0, 1].tolist() == [0.5, 2.5]
    assert coarse[0, :, 2].tolist() == [0.5, 2.5]

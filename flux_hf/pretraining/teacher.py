"""Frozen teachers: models of Transformers that give tokens of chosen layers, a pooled feature and a saliency."""

from dataclasses import dataclass

import torch
from torch import nn
from transformers import AttentionInterface, AutoConfig, AutoModel, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.models.auto.image_processing_auto import get_image_processor_config
from transformers.models.auto.video_processing_auto import get_video_processor_config

from flux_hf.modeling.modeling_fluxvit import FluxViTModel
from flux_hf.modeling.token_selection_fluxvit import kept_positions
from flux_hf.pretraining.resampling import renormalize, resample_frames, resample_tokens, resize_frames

CLS_ATTENTION = "flux_hf_cls_attention"


@dataclass
class TeacherOutput:
    """
    Attributes:
        layers: for every layer asked for unit vectors (batch, seen tokens, width).
        pooled: unit vectors (batch, pooled width).
        saliency: logarithm of each token's weight (batch, seen tokens), float32; students see salient tokens more
            often.
    """

    layers: list[torch.Tensor]
    pooled: torch.Tensor
    saliency: torch.Tensor


class Teacher:
    """A frozen model, outside of optimiser, DDP and checkpoints. Families are its subclasses, made by [`load_teacher`].

    Attributes:
        depth: number of layers.
        width: of their tokens.
        pooled_width: of the pooled feature.
    """

    def __init__(self, model: PreTrainedModel, normalization: tuple, patch_size: int):
        self.model = model.eval().requires_grad_(False)
        self.normalization, self.patch_size = normalization, patch_size
        self.depth, self.width = model.config.num_hidden_layers, model.config.hidden_size
        self.pooled_width = model.config.hidden_size

    def to(self, device: torch.device) -> "Teacher":
        self.model.to(device)
        return self

    @torch.no_grad()
    def __call__(self, pixel_values_videos: torch.Tensor, seen: torch.Tensor, layers: list[int]) -> TeacherOutput:
        """
        Args:
            pixel_values_videos: the student's input (batch, frames, channels, height, width), normalised for it.
            seen: bool (batch, frames * rows * columns) on the student's patch grid, the same count in every row.
            layers: numbers of layers, from 1; the outputs of others are not kept in memory.
        """
        self.model.eval()
        rows, columns = (side // self.patch_size for side in pixel_values_videos.shape[-2:])
        pixels = renormalize(pixel_values_videos, *self.normalization)
        found, pooled, saliency = self.look(pixels, seen, layers, (rows, columns))
        unit = [nn.functional.normalize(tokens.float(), dim=-1) for tokens in found]
        return TeacherOutput(unit, nn.functional.normalize(pooled.float(), dim=-1), saliency.float())

    def look(self, pixels, seen, layers, grid):
        """Tokens of the layers at the positions that are seen, pooled feature and saliency, for pixels normalised for
        this teacher; `grid` is the student's (rows, columns)."""
        raise NotImplementedError


class FluxTeacher(Teacher):
    """Another FluxViT. It sees the chosen tokens alone, on the student's patch grid; saliency is the attention of its
    pooling head, its pooled feature that head's output."""

    def __init__(self, model: FluxViTModel, normalization: tuple, patch_size: int):
        super().__init__(model, normalization, patch_size)
        self.pooled_width = model.config.projection_dim

    def look(self, pixels, seen, layers, grid):
        model, size = self.model, self.model.config.patch_size
        pixels = resize_frames(pixels, grid[0] * size, grid[1] * size)
        output = model(pixels.to(model.dtype), keep_mask=seen, output_hidden_states=layers)
        pooler = model.poolers[model.resolve_head(output.last_hidden_state.shape[1] - 1)]
        saliency = pooler.attention(output.last_hidden_state)[:, 1:].log()
        return [output.hidden_states[layer][:, 1:] for layer in layers], output.pooler_output, saliency


class ImageTeacher(Teacher):
    """An image model (CLIP, SigLIP, DINOv2), frame by frame, each resized so that it has the student's patch grid. It
    sees whole frames. The pooled feature is the mean over the frames of the model's own; saliency is the attention of
    the last layer's cls token within its frame or, without cls, the likeness to the pooled feature."""

    def look(self, pixels, seen, layers, grid):
        batch, frames = pixels.shape[:2]
        model, size = self.model, self.model.config.patch_size
        pixels = resize_frames(pixels, grid[0] * size, grid[1] * size).flatten(0, 1).to(model.dtype)
        options = {"interpolate_pos_encoding": True} if model.config.model_type not in SELF_INTERPOLATING else {}
        output = model(pixel_values=pixels, output_hidden_states=layers, output_attentions=True, **options)
        others = output.last_hidden_state.shape[1] - grid[0] * grid[1]
        found = [output.hidden_states[layer][:, others:].reshape(batch, -1, self.width) for layer in layers]
        pooled = output.pooler_output
        if pooled is None:
            pooled = output.last_hidden_state.mean(1)
        if others:
            saliency = output.attentions[-1].float().mean(1)[:, 0, others:].clamp(min=1e-12).log()
        else:
            saliency = likeness(output.last_hidden_state, pooled)
        positions = kept_positions(seen, int(seen[0].sum()))
        return (
            [_take(tokens, positions) for tokens in found],
            pooled.reshape(batch, frames, -1).float().mean(1),
            saliency.reshape(batch, -1).gather(1, positions),
        )


class VideoTeacher(Teacher):
    """A video model with a grid of its own (VideoMAE, V-JEPA 2). Frames and pixels are resampled to that grid and its
    tokens back to the student's by linear interpolation. It sees whole clips; the pooled feature is the mean of its
    last tokens, saliency the likeness to it."""

    def look(self, pixels, seen, layers, grid):
        config, frames = self.model.config, pixels.shape[1]
        side = getattr(config, "crop_size", None) or config.image_size
        count = -(-frames // config.tubelet_size) * config.tubelet_size
        if config.model_type == "videomae":
            count = config.num_frames
        pixels = resize_frames(resample_frames(pixels, count), side, side).to(self.model.dtype)
        options = {"skip_predictor": True} if config.model_type == "vjepa2" else {}
        output = self.model(pixels, output_hidden_states=layers, **options)
        own = (count // config.tubelet_size, side // config.patch_size, side // config.patch_size)
        last = resample_tokens(output.last_hidden_state, own, (frames, *grid))
        pooled = output.last_hidden_state.float().mean(1)
        positions = kept_positions(seen, int(seen[0].sum()))
        found = [resample_tokens(output.hidden_states[layer], own, (frames, *grid)) for layer in layers]
        return [_take(tokens, positions) for tokens in found], pooled, likeness(last, pooled).gather(1, positions)


FAMILIES = {"fluxvit": FluxTeacher, "videomae": VideoTeacher, "vjepa2": VideoTeacher} | dict.fromkeys(
    ("clip", "clip_vision_model", "siglip", "siglip_vision_model", "dinov2", "dinov2_with_registers"), ImageTeacher
)
SELF_INTERPOLATING = ("dinov2", "dinov2_with_registers")


def load_teacher(
    checkpoint: str,
    *,
    patch_size: int,
    image_mean: list[float],
    image_std: list[float],
    bf16: bool = False,
) -> Teacher:
    """The teacher in a checkpoint.

    Args:
        checkpoint: folder or Hub id of a FluxViT, CLIP, SigLIP, DINOv2, VideoMAE or V-JEPA 2 with its image or video
            processor, whose mean and standard deviation are used.
        patch_size, image_mean, image_std: of the student, whose pixels the teacher is given.
        bf16: hold its weights in bf16.

    Raises:
        ValueError: the model is of another kind, or the checkpoint holds no processor.
    """
    config = AutoConfig.from_pretrained(checkpoint)
    if config.model_type not in FAMILIES:
        raise ValueError(f"the teacher {checkpoint} is a {config.model_type}; there are: {', '.join(FAMILIES)}")
    processor = get_video_processor_config(checkpoint) or get_image_processor_config(checkpoint)
    if not {"image_mean", "image_std"} <= processor.keys():
        raise ValueError(
            f"the teacher {checkpoint} lacks a preprocessor_config.json or video_preprocessor_config.json with "
            "image_mean and image_std; save its processor there"
        )
    normalization = (image_mean, image_std, processor["image_mean"], processor["image_std"])
    family = FAMILIES[config.model_type]
    model = AutoModel.from_pretrained(
        checkpoint,
        dtype=torch.bfloat16 if bf16 else torch.float32,
        attn_implementation=CLS_ATTENTION if family is ImageTeacher else "sdpa",
    )
    return family(getattr(model, "vision_model", model), normalization, patch_size)


def matching_layers(student_layers: list[int], student_depth: int, teacher_depth: int) -> list[int]:
    """The teacher's layer for each of the student's: that at the same share of the depth. Layers 7 to 12 of 12 match
    23, 27, 30, 33, 37 and 40 of 40, the distances of InternVideo2."""
    return [max(1, round(layer / student_depth * teacher_depth)) for layer in student_layers]


def likeness(tokens: torch.Tensor, pooled: torch.Tensor) -> torch.Tensor:
    """Cosine of every token (batch, tokens, width) to the pooled feature (batch, width), standardised in each row to
    mean 0 and standard deviation 1: (batch, tokens)."""
    cosine = nn.functional.cosine_similarity(tokens.float(), pooled.float()[:, None], dim=-1)
    return (cosine - cosine.mean(1, keepdim=True)) / cosine.std(1, keepdim=True).clamp(min=1e-6)


def cls_attention_forward(module, query, key, value, attention_mask, scaling=None, **kwargs):
    """As transformers' sdpa attention; in the place of all weights it gives those of the first token, float32 (batch,
    heads, 1, tokens), which is all that saliency takes."""
    kwargs.pop("output_attentions", None)
    output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = query[:, :, :1].float() @ key.float().transpose(-2, -1) * scale
    return output, scores.softmax(-1)


AttentionInterface.register(CLS_ATTENTION, cls_attention_forward)


def _take(tokens: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    return tokens.gather(1, positions[..., None].expand(-1, -1, tokens.shape[-1]))

"""Frozen teachers: models of Transformers that give tokens of chosen layers, a pooled feature and a saliency."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from transformers import AttentionInterface, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.models.auto.image_processing_auto import get_image_processor_config
from transformers.models.auto.video_processing_auto import get_video_processor_config

from flux_hf.checkpoints import checkpoint_path, reading_weights
from flux_hf.modeling.modeling_fluxvit import FluxViTModel
from flux_hf.modeling.token_selection_fluxvit import kept_positions
from flux_hf.options.pretraining import OPTICAL_FLOW
from flux_hf.pretraining.resampling import renormalize, resample_frames, resample_tokens, resize_frames
from flux_hf.processing.grid_fluxvit import as_grid
from flux_hf.provenance import model_hash

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
    """What students are aligned to, outside of optimiser, DDP and checkpoints. Families are its subclasses, made by
    [`load_teacher`].

    Attributes:
        depth: number of layers.
        width: of their tokens.
        pooled_width: of the pooled feature.
    """

    depth: int
    width: int
    pooled_width: int

    def __init__(self, normalization: tuple, patch_size: int):
        self.normalization, self.patch_size = normalization, patch_size

    def to(self, device: torch.device) -> "Teacher":
        return self

    def description(self) -> str:
        """All that its outputs depend on, but for the clip and what is asked of it: two teachers with the same one can
        share a cache."""
        return f"{type(self).__name__} {self.source()} {self.normalization} {self.patch_size}"

    def source(self) -> str:
        """Its part of the description."""
        raise NotImplementedError

    @torch.no_grad()
    def __call__(self, pixel_values_videos: torch.Tensor, seen: torch.Tensor, layers: list[int]) -> TeacherOutput:
        """
        Args:
            pixel_values_videos: the student's input (batch, frames, channels, height, width), normalised for it.
            seen: bool (batch, times * rows * columns) on the student's patch grid, the same count in every row; a token
                of the student covers frames / times frames.
            layers: numbers of layers, from 1; the outputs of others are not kept in memory.
        """
        _, frames, _, *size = pixel_values_videos.shape
        patch_grid = as_grid((frames, size)).patch_grid(self.patch_size)
        pixels = renormalize(pixel_values_videos, *self.normalization)
        found, pooled, saliency = self.look(pixels, seen, layers, patch_grid)
        unit = [nn.functional.normalize(tokens.float(), dim=-1) for tokens in found]
        return TeacherOutput(unit, nn.functional.normalize(pooled.float(), dim=-1), saliency.float())

    def look(self, pixels, seen, layers, patch_grid):
        """Tokens of the layers at the positions that are seen, pooled feature and saliency, for pixels normalised for
        this teacher; `patch_grid` is the student's (rows, columns)."""
        raise NotImplementedError


class ModelTeacher(Teacher):
    """A frozen model of Transformers."""

    def __init__(self, model: PreTrainedModel, normalization: tuple, patch_size: int):
        super().__init__(normalization, patch_size)
        self.model = model.eval().requires_grad_(False)
        self.depth, self.width = model.config.num_hidden_layers, model.config.hidden_size
        self.pooled_width = model.config.hidden_size

    def to(self, device: torch.device) -> "Teacher":
        self.model.to(device)
        return self

    def source(self) -> str:
        return f"{model_hash(self.model)} {self.model.config.to_json_string()}"

    def __call__(self, pixel_values_videos: torch.Tensor, seen: torch.Tensor, layers: list[int]) -> TeacherOutput:
        self.model.eval()
        return super().__call__(pixel_values_videos, seen, layers)


class FluxTeacher(ModelTeacher):
    """Another FluxViT. It sees the chosen tokens alone, on the student's patch grid; saliency is the attention of its
    pooling head, its pooled feature that head's output."""

    def __init__(self, model: FluxViTModel, normalization: tuple, patch_size: int):
        super().__init__(model, normalization, patch_size)
        self.pooled_width = model.config.projection_dim

    def look(self, pixels, seen, layers, patch_grid):
        model, size = self.model, self.model.config.patch_size
        if pixels.shape[1] != model.config.tubelet_size * times_of(seen, patch_grid):
            raise ValueError(
                f"the teacher's tokens cover {model.config.tubelet_size} frames (tubelet_size), the student's "
                f"{pixels.shape[1] // times_of(seen, patch_grid)}: a FluxViT teaches students of its own tubelet_size"
            )
        pixels = resize_frames(pixels, patch_grid[0] * size, patch_grid[1] * size)
        with _outputs_of(model.encoder.layers, layers) as found:
            output = model(pixels.to(model.dtype), keep_mask=seen)
        pooler = model.poolers[model.resolve_head(output.last_hidden_state.shape[1] - 1)]
        saliency = pooler.attention(output.last_hidden_state)[:, 1:].log()
        return [found[layer][:, 1:] for layer in layers], output.pooler_output, saliency


class ImageTeacher(ModelTeacher):
    """An image model (CLIP, SigLIP, DINOv2), frame by frame, each resized so that it has the student's patch grid. It
    sees whole frames; where a token of the student covers several, its target is their mean. The pooled feature is the
    mean over the frames of the model's own; saliency is the attention of the last layer's cls token within its frame
    or, without cls, the likeness to the pooled feature."""

    def look(self, pixels, seen, layers, patch_grid):
        batch, frames = pixels.shape[:2]
        model, size = self.model, self.model.config.patch_size
        pixels = resize_frames(pixels, patch_grid[0] * size, patch_grid[1] * size).flatten(0, 1).to(model.dtype)
        options = {"interpolate_pos_encoding": True} if model.config.model_type not in SELF_INTERPOLATING else {}
        blocks = model.encoder.layer if model.config.model_type in SELF_INTERPOLATING else model.encoder.layers
        with _outputs_of(blocks, layers) as states:
            output = model(pixel_values=pixels, output_attentions=True, **options)
        others = output.last_hidden_state.shape[1] - patch_grid[0] * patch_grid[1]
        times = times_of(seen, patch_grid)
        found = [
            states[layer][:, others:].reshape(batch, times, frames // times, -1, self.width).mean(2).flatten(1, 2)
            for layer in layers
        ]
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
            saliency.reshape(batch, times, frames // times, -1).mean(2).flatten(1).gather(1, positions),
        )


class VideoMAETeacher(ModelTeacher):
    """VideoMAE on the student's patch grid. It computes the chosen tokens alone. A token's tube is the `tubelet_size`
    frames that begin with the first it covers; at the end of the clip the last frame is repeated. The position table is
    interpolated linearly. The pooled feature is the mean of the last tokens, saliency the likeness to it."""

    def look(self, pixels, seen, layers, patch_grid):
        model, config, frames = self.model, self.model.config, pixels.shape[1]
        times = times_of(seen, patch_grid)
        size, tube, embeddings = config.patch_size, config.tubelet_size, self.model.embeddings
        pixels = resize_frames(pixels, patch_grid[0] * size, patch_grid[1] * size).to(model.dtype)
        places = torch.arange(0, frames, frames // times)[:, None] + torch.arange(tube)
        tubes = pixels[:, places.clamp(max=frames - 1).flatten()].transpose(1, 2)
        own_grid = (config.num_frames // tube, config.image_size // size, config.image_size // size)
        table = embeddings.position_embeddings.to(pixels.device)
        tokens = embeddings.patch_embeddings.projection(tubes).flatten(2).transpose(1, 2)
        tokens = tokens + resample_tokens(table, own_grid, (times, *patch_grid)).to(tokens.dtype)
        tokens, found = _take(tokens, kept_positions(seen, int(seen[0].sum()))), {}
        for number, layer in enumerate(model.encoder.layer, start=1):
            tokens = layer(tokens)
            if number in layers:
                found[number] = tokens
        last = tokens if model.layernorm is None else model.layernorm(tokens)
        pooled = last.float().mean(1)
        return [found[number] for number in layers], pooled, likeness(last, pooled)


class VJEPA2Teacher(ModelTeacher):
    """V-JEPA 2 on a grid of its own: pixels are resized to its `crop_size`, and its tokens, one for `tubelet_size`
    frames, interpolated linearly to the student's grid. It sees whole clips; the pooled feature is the mean of its last
    tokens, saliency the likeness to it."""

    def look(self, pixels, seen, layers, patch_grid):
        config, frames = self.model.config, pixels.shape[1]
        times, side = -(-frames // config.tubelet_size), config.crop_size
        pixels = resize_frames(resample_frames(pixels, times * config.tubelet_size), side, side).to(self.model.dtype)
        with _outputs_of(self.model.encoder.layer, layers) as states:
            output = self.model(pixels, skip_predictor=True)
        own_grid = (times, side // config.patch_size, side // config.patch_size)
        found = [states[layer] for layer in layers]
        return _on_students_grid(found, output.last_hidden_state, own_grid, seen, patch_grid)


class RemoteTeacher(ModelTeacher):
    """A video model whose code comes with its checkpoint, for instance InternVideo2. It is given the clip resampled to
    `num_frames` frames of `image_size`^2 pixels as its first argument, and `output_hidden_states=True`.

    `hidden_states` of its output must hold the embedded patches and the output of each of `num_hidden_layers` layers:
    (batch, `num_frames` / `tubelet_size` * (`image_size` / `patch_size`)^2, `hidden_size`) in the order of times, rows,
    columns, or one token more, which is taken for cls and comes first. The names are those of its configuration, all
    integers. The order of the clip's axes, (batch, frames, channels, height, width) or else (batch, channels, frames,
    height, width), is the first with which a black clip gives this.

    The pooled feature is the output's `pooler_output` or, without, the mean of the last patch tokens; saliency the
    likeness to that mean."""

    def __init__(self, model: PreTrainedModel, normalization: tuple, patch_size: int):
        config = model.config
        if missing := [name for name in REMOTE_SETTINGS if not isinstance(getattr(config, name, None), int)]:
            raise ValueError(f"the teacher's config.json must give {', '.join(missing)} as integers")
        super().__init__(model, normalization, patch_size)
        rows = config.image_size // config.patch_size
        self.own_grid = (config.num_frames // config.tubelet_size, rows, rows)
        self.channels_first, self.pooled_width = self._try_orders()

    def _try_orders(self) -> tuple[bool, int]:
        """Whether channels come before frames, and the width of the pooled feature."""
        config, failures = self.model.config, []
        black = torch.zeros(1, config.num_frames, 3, config.image_size, config.image_size, dtype=self.model.dtype)
        for channels_first in (False, True):
            try:
                return channels_first, self._run(black, channels_first)[1].shape[-1]
            except Exception as error:  # Foreign code may raise anything on an order that it does not expect.
                failures.append(f"{type(error).__name__}: {error}")
        raise ValueError(
            "the teacher's code cannot serve. Given (batch, frames, channels, height, width): "
            f"{failures[0]}. Given (batch, channels, frames, height, width): {failures[1]}"
        )

    def _run(self, pixels: torch.Tensor, channels_first: bool) -> tuple[list[torch.Tensor], torch.Tensor]:
        output = self.model(pixels.transpose(1, 2) if channels_first else pixels, output_hidden_states=True)
        states, patches = getattr(output, "hidden_states", None) or (), math.prod(self.own_grid)
        if len(states) != self.depth + 1:
            raise ValueError(f"{len(states)} hidden_states, expected {self.depth + 1} (num_hidden_layers + 1)")
        shapes = [(len(pixels), count, self.width) for count in (patches, patches + 1)]
        if wrong := [tuple(state.shape) for state in states if tuple(state.shape) not in shapes]:
            raise ValueError(f"hidden_states of shape {wrong[0]}, expected {shapes[0]}, or {shapes[1]} with cls")
        tokens = [state[:, -patches:] for state in states]
        pooled = getattr(output, "pooler_output", None)
        return tokens, tokens[-1].float().mean(1) if pooled is None else pooled

    def look(self, pixels, seen, layers, patch_grid):
        config = self.model.config
        pixels = resample_frames(pixels, config.num_frames)
        pixels = resize_frames(pixels, config.image_size, config.image_size).to(self.model.dtype)
        tokens, pooled = self._run(pixels, self.channels_first)
        found, _, saliency = _on_students_grid(
            [tokens[layer] for layer in layers], tokens[-1], self.own_grid, seen, patch_grid
        )
        return found, pooled, saliency


FAMILIES = {"fluxvit": FluxTeacher, "videomae": VideoMAETeacher, "vjepa2": VJEPA2Teacher} | dict.fromkeys(
    ("clip", "clip_vision_model", "siglip", "siglip_vision_model", "dinov2", "dinov2_with_registers"), ImageTeacher
)
SELF_INTERPOLATING = ("dinov2", "dinov2_with_registers")
REMOTE_SETTINGS = ("hidden_size", "num_hidden_layers", "num_frames", "tubelet_size", "image_size", "patch_size")


def load_teacher(
    checkpoint: str,
    *,
    patch_size: int,
    image_mean: list[float],
    image_std: list[float],
    bf16: bool = False,
    trust_remote_code: bool = False,
) -> Teacher:
    """The teacher in a checkpoint, or optical flow.

    Args:
        checkpoint: folder or Hub id of a FluxViT, CLIP, SigLIP, DINOv2, VideoMAE or V-JEPA 2, or of a video model with
            its own code (see [`RemoteTeacher`]), with its image or video processor, whose mean and standard deviation
            are used; `default` is the checkpoint of the package. `optical_flow` is no checkpoint but
            [`OpticalFlowTeacher`](flow_teacher.py); a folder of that name is `./optical_flow`.
        patch_size, image_mean, image_std: of the student, whose pixels the teacher is given.
        bf16: hold its weights in bf16; optical flow has none.
        trust_remote_code: run the code in the checkpoint, if the model is none of those named.

    Raises:
        ValueError: the model is of another kind or has code that is not trusted or cannot serve, or the checkpoint
            holds no processor.
        ImportError: optical flow without OpenCV.
    """
    if checkpoint == OPTICAL_FLOW:
        return optical_flow_family()(image_mean, image_std, patch_size)
    checkpoint = checkpoint_path(checkpoint)
    config, _ = PreTrainedConfig.get_config_dict(checkpoint)
    kind = config.get("model_type")
    if kind not in FAMILIES and "AutoModel" not in config.get("auto_map", {}):
        raise ValueError(f"the teacher {checkpoint} is a {kind} without code; there are: {', '.join(FAMILIES)}")
    if kind not in FAMILIES and not trust_remote_code:
        raise ValueError(
            f"the teacher {checkpoint} ({kind}) comes with code of its own: give --trust_remote_code to run it"
        )
    processor = get_video_processor_config(checkpoint) or get_image_processor_config(checkpoint)
    if not {"image_mean", "image_std"} <= processor.keys():
        raise ValueError(
            f"the teacher {checkpoint} lacks a preprocessor_config.json or video_preprocessor_config.json with "
            "image_mean and image_std; save its processor there"
        )
    normalization = (image_mean, image_std, processor["image_mean"], processor["image_std"])
    family = FAMILIES.get(kind, RemoteTeacher)
    options = {"dtype": torch.bfloat16 if bf16 else torch.float32}
    if family is RemoteTeacher:
        options |= {"trust_remote_code": True}
    else:
        options |= {"attn_implementation": CLS_ATTENTION if family is ImageTeacher else "sdpa"}
    with reading_weights(checkpoint):
        model = AutoModel.from_pretrained(checkpoint, **options)
    return family(getattr(model, "vision_model", model), normalization, patch_size)


def optical_flow_family() -> type[Teacher]:
    """The class of the teacher `optical_flow`. Raises ImportError without OpenCV."""
    try:
        from flux_hf.pretraining.flow_teacher import OpticalFlowTeacher
    except ImportError as error:
        raise ImportError(f'{error}; the teacher {OPTICAL_FLOW} needs OpenCV: pip install "flux_hf[flow]"') from error
    return OpticalFlowTeacher


def matching_layers(student_layers: list[int], student_depth: int, teacher_depth: int) -> list[int]:
    """The teacher's layer for each of the student's, from 1: that at the same share of the depth, rounded up. The last
    6 layers of a student with more than 12 count as if it had 12.

    These are InternVideo2's for 6 layers: 24, 27, 30, 34, 37 and 40 of 40, whether the student has 12 layers or 24."""
    counted = student_depth if min(student_layers) <= student_depth - 6 else min(student_depth, 12)
    return [teacher_depth - (student_depth - layer) * teacher_depth // counted for layer in student_layers]


def times_of(seen: torch.Tensor, patch_grid: tuple[int, int]) -> int:
    """Tokens of the student's grid one after the other in time."""
    return seen.shape[1] // math.prod(patch_grid)


def likeness(tokens: torch.Tensor, pooled: torch.Tensor) -> torch.Tensor:
    """Cosine of every token (batch, tokens, width) to the pooled feature (batch, width), standardised in each row to
    mean 0 and standard deviation 1: (batch, tokens)."""
    cosine = nn.functional.cosine_similarity(tokens.float(), pooled.float()[:, None], dim=-1)
    return (cosine - cosine.mean(1, keepdim=True)) / cosine.std(1, keepdim=True).clamp(min=1e-6)


def cls_attention_forward(module, query, key, value, attention_mask, scaling=None, **kwargs):
    """As transformers' sdpa attention, but of all weights it returns only those of the first token, float32 (batch,
    heads, 1, tokens): saliency takes no others."""
    kwargs.pop("output_attentions", None)
    output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    with torch.autocast(query.device.type, enabled=False):
        scores = query[:, :, :1].float() @ key.float().transpose(-2, -1) * scale
    return output, scores.softmax(-1)


@contextmanager
def _outputs_of(blocks: nn.ModuleList, layers: list[int]) -> Iterator[dict[int, torch.Tensor]]:
    """A dictionary of what these layers, counted from 1, give in the forward passes of the block. Transformers' own
    `output_hidden_states` keeps all layers, or counts from 0 or 1, with its version."""
    outputs = {}

    def hook_of(layer: int):
        def hook(module, args, output):
            outputs[layer] = output[0] if isinstance(output, tuple) else output

        return hook

    handles = [blocks[layer - 1].register_forward_hook(hook_of(layer)) for layer in layers]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def _on_students_grid(
    found: list[torch.Tensor], last: torch.Tensor, own_grid: tuple, seen: torch.Tensor, patch_grid: tuple
):
    """What `look` returns, from tokens of a whole clip on `own_grid`."""
    wanted = (times_of(seen, patch_grid), *patch_grid)
    positions = kept_positions(seen, int(seen[0].sum()))
    pooled = last.float().mean(1)
    layers = [_take(resample_tokens(tokens, own_grid, wanted), positions) for tokens in found]
    return layers, pooled, likeness(resample_tokens(last, own_grid, wanted), pooled).gather(1, positions)


AttentionInterface.register(CLS_ATTENTION, cls_attention_forward)


def _take(tokens: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    return tokens.gather(1, positions[..., None].expand(-1, -1, tokens.shape[-1]))

"""TimeSformer with joint space-time attention and token selection."""

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers import TimesformerConfig, TimesformerForVideoClassification, TimesformerModel
from transformers.models.timesformer.modeling_timesformer import TimesformerEmbeddings

from .flux_video_model import (
    FluxSettings,
    FluxVideoClassifier,
    FluxVideoModel,
    UnsupportedModelError,
    family,
    height_and_width,
    square_patch,
    tokens_of_native_grid,
)
from .token_selection_fluxvit import take_tokens


@strict
class FluxTimesformerConfig(FluxSettings, TimesformerConfig):
    """See [`FluxSettings`] and `TimesformerConfig`."""

    model_type = "flux_timesformer"


class FluxTimesformerEmbeddings(TimesformerEmbeddings):
    """Lets tokens pass that are embedded and have their positions already."""

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens


class FluxTimesformerModel(FluxVideoModel, TimesformerModel):
    """Inside, the frames of a place follow each other, as in the stock model; masks are in the order frames, rows,
    columns. On other grids than its own the tables of space and time are interpolated as the stock model does it: the
    nearest entry counts."""

    config_class = FluxTimesformerConfig
    prefix_tokens = 1

    @classmethod
    def check_model(cls, model):
        kind = model.config.attention_type
        if kind != "joint_space_time":
            raise UnsupportedModelError(
                f"{type(model).__name__} with attention_type={kind!r}: its layers see space and time apart and need "
                "all tokens of the grid; only 'joint_space_time' can leave tokens out"
            )

    @property
    def patch_shape(self) -> tuple[int, int]:
        return 1, square_patch(self.config.patch_size)

    @property
    def native_grid(self) -> tuple[int, int, int]:
        return self.config.num_frames, *height_and_width(self.config.image_size)

    def embed_patches(self, pixel_values_videos: torch.Tensor) -> torch.Tensor:
        images = self.embeddings.patch_embeddings.projection(pixel_values_videos.flatten(0, 1))
        return images.permute(0, 2, 3, 1).unflatten(0, pixel_values_videos.shape[:2])

    def encode_tokens(self, tokens, positions, grid, **kwargs):
        frames, rows, columns = grid
        if positions is None:
            positions = torch.arange(tokens.shape[1], device=tokens.device).expand(tokens.shape[0], -1)
        frame, place = positions // (rows * columns), positions % (rows * columns)
        order = (place * frames + frame).argsort(dim=1)
        frame, place, tokens = frame.gather(1, order), place.gather(1, order), take_tokens(tokens, order)

        embeddings, (_, *stored) = self.embeddings, tokens_of_native_grid(self)
        cls_position, space = embeddings.position_embeddings.split([1, stored[0] * stored[1]], dim=1)
        if [rows, columns] != stored:
            image = space.transpose(1, 2).unflatten(2, stored)
            space = nn.functional.interpolate(image, size=(rows, columns), mode="nearest").flatten(2).transpose(1, 2)
        time = embeddings.time_embeddings
        if frames != time.shape[1]:
            time = nn.functional.interpolate(time.transpose(1, 2), size=frames, mode="nearest").transpose(1, 2)
        cls = embeddings.pos_drop(embeddings.cls_token + cls_position).expand(tokens.shape[0], -1, -1)
        tokens = embeddings.pos_drop(tokens + space[0, place])
        tokens = embeddings.time_drop(tokens + time[0, frame])
        return TimesformerModel.forward(self, torch.cat([cls, tokens], dim=1), **kwargs | {"return_dict": True})


class FluxTimesformerForVideoClassification(FluxVideoClassifier, TimesformerForVideoClassification):
    config_class = FluxTimesformerConfig
    check_model = FluxTimesformerModel.check_model
    layers_path, embeddings_paths = "timesformer.encoder.layer", ("timesformer.embeddings",)

    def pool_tokens(self, hidden_states, head):
        return hidden_states[:, 0]


CLASSES = family(
    {
        TimesformerForVideoClassification: FluxTimesformerForVideoClassification,
        TimesformerModel: FluxTimesformerModel,
        TimesformerEmbeddings: FluxTimesformerEmbeddings,
    }
)

__all__ = ["FluxTimesformerConfig", "FluxTimesformerForVideoClassification", "FluxTimesformerModel"]

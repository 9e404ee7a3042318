"""VideoMAE with token selection."""

import torch
from huggingface_hub.dataclasses import strict
from transformers import VideoMAEConfig, VideoMAEForVideoClassification, VideoMAEModel
from transformers.models.videomae.modeling_videomae import VideoMAEEmbeddings

from .flux_video_model import (
    FluxSettings,
    FluxVideoClassifier,
    FluxVideoModel,
    family,
    height_and_width,
    on_grid,
    square_patch,
    tokens_of_native_grid,
)
from .position_embedding_fluxvit import interpolate_positions


@strict
class FluxVideoMAEConfig(FluxSettings, VideoMAEConfig):
    """See [`FluxSettings`] and `VideoMAEConfig`."""

    model_type = "flux_videomae"


class FluxVideoMAEEmbeddings(VideoMAEEmbeddings):
    """Lets chosen tokens pass, which are embedded already."""

    def forward(self, tokens: torch.Tensor, bool_masked_pos: torch.Tensor | None = None) -> torch.Tensor:
        if bool_masked_pos is not None:
            raise ValueError("with token selection on, give keep_mask=~bool_masked_pos instead of bool_masked_pos")
        return tokens


class FluxVideoMAEModel(FluxVideoModel, VideoMAEModel):
    """Its position table holds sines and cosines of the flat number of a token: interpolated to another grid than its
    own it is a mere start for training."""

    config_class = FluxVideoMAEConfig

    @classmethod
    def check_model(cls, model):
        square_patch(model.config.patch_size)

    @property
    def patch_shape(self) -> tuple[int, int]:
        return self.config.tubelet_size, square_patch(self.config.patch_size)

    @property
    def native_grid(self) -> tuple[int, int, int]:
        return self.config.num_frames, *height_and_width(self.config.image_size)

    def embed_patches(self, pixel_values_videos: torch.Tensor) -> torch.Tensor:
        cubes = self.embeddings.patch_embeddings.projection(pixel_values_videos.transpose(1, 2))
        return cubes.permute(0, 2, 3, 4, 1)

    def encode_tokens(self, tokens, positions, grid, **kwargs):
        embeddings = self.embeddings
        if tokens.is_cuda and not torch.compiler.is_compiling():
            # No buffer, so it did not follow the model to the GPU: copied at every call, it would be waited for.
            embeddings.position_embeddings = embeddings.position_embeddings.to(tokens.device)
        stored = embeddings.position_embeddings[0].detach().to(tokens.device)
        table = interpolate_positions(stored, tokens_of_native_grid(self), grid).to(tokens.dtype)
        return VideoMAEModel.forward(self, tokens + on_grid(table, positions), return_dict=True, **kwargs)


class FluxVideoMAEForVideoClassification(FluxVideoClassifier, VideoMAEForVideoClassification):
    config_class = FluxVideoMAEConfig
    check_model = FluxVideoMAEModel.check_model
    head_modules = ("fc_norm", "classifier")
    layers_path, embeddings_paths = "videomae.encoder.layer", ("videomae.embeddings",)

    def pool_tokens(self, hidden_states, head):
        return hidden_states[:, 0] if head.fc_norm is None else head.fc_norm(hidden_states.mean(1))


CLASSES = family(
    {
        VideoMAEForVideoClassification: FluxVideoMAEForVideoClassification,
        VideoMAEModel: FluxVideoMAEModel,
        VideoMAEEmbeddings: FluxVideoMAEEmbeddings,
    }
)

__all__ = ["FluxVideoMAEConfig", "FluxVideoMAEForVideoClassification", "FluxVideoMAEModel"]

"""ViViT (its first model, joint space-time attention) with token selection."""

import torch
from huggingface_hub.dataclasses import strict
from transformers import VivitConfig, VivitForVideoClassification, VivitModel
from transformers.models.vivit.modeling_vivit import VivitEmbeddings

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
class FluxVivitConfig(FluxSettings, VivitConfig):
    """See [`FluxSettings`] and `VivitConfig`."""

    model_type = "flux_vivit"


class FluxVivitEmbeddings(VivitEmbeddings):
    """Lets tokens pass that are embedded and have their positions already."""

    def forward(self, tokens: torch.Tensor, interpolate_pos_encoding: bool = False) -> torch.Tensor:
        return self.dropout(tokens)


class FluxVivitModel(FluxVideoModel, VivitModel):
    """On other grids than its own the learned table is interpolated, linearly in time and bicubically in space."""

    config_class = FluxVivitConfig
    prefix_tokens = 1

    @classmethod
    def check_model(cls, model):
        square_patch(model.config.tubelet_size[1:])

    @property
    def patch_shape(self) -> tuple[int, int]:
        return self.config.tubelet_size[0], square_patch(self.config.tubelet_size[1:])

    @property
    def native_grid(self) -> tuple[int, int, int]:
        return self.config.num_frames, *height_and_width(self.config.image_size)

    def embed_patches(self, pixel_values_videos: torch.Tensor) -> torch.Tensor:
        cubes = self.embeddings.patch_embeddings.projection(pixel_values_videos.transpose(1, 2))
        return cubes.permute(0, 2, 3, 4, 1)

    def encode_tokens(self, tokens, positions, grid, **kwargs):
        stored = self.embeddings.position_embeddings[0]
        table = interpolate_positions(stored[1:], tokens_of_native_grid(self), grid)
        cls = (self.embeddings.cls_token + stored[:1]).expand(tokens.shape[0], -1, -1)
        tokens = torch.cat([cls, tokens + on_grid(table, positions)], dim=1)
        return VivitModel.forward(self, tokens, return_dict=True, **kwargs)


class FluxVivitForVideoClassification(FluxVideoClassifier, VivitForVideoClassification):
    config_class = FluxVivitConfig
    check_model = FluxVivitModel.check_model
    layers_path, embeddings_paths = "vivit.layers", ("vivit.embeddings",)

    def pool_tokens(self, hidden_states, head):
        return hidden_states[:, 0]


CLASSES = family(
    {
        VivitForVideoClassification: FluxVivitForVideoClassification,
        VivitModel: FluxVivitModel,
        VivitEmbeddings: FluxVivitEmbeddings,
    }
)

__all__ = ["FluxVivitConfig", "FluxVivitForVideoClassification", "FluxVivitModel"]

"""V-JEPA 2 with token selection, on any grid."""

import torch
from huggingface_hub.dataclasses import strict
from transformers import VJEPA2Config, VJEPA2ForVideoClassification, VJEPA2Model
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.vjepa2.modeling_vjepa2 import VJEPA2Encoder, VJEPA2RopeAttention

from .flux_video_model import FluxSettings, FluxVideoClassifier, FluxVideoModel, family


@strict
class FluxVJEPA2Config(FluxSettings, VJEPA2Config):
    """See [`FluxSettings`] and `VJEPA2Config`."""

    model_type = "flux_vjepa2"
    # The stock pipeline asks for it; None leaves the number to the processor.
    num_frames = None


class FluxVJEPA2RopeAttention(VJEPA2RopeAttention):
    """Takes the places of tokens instead of their numbers on the grid of the configuration, which the stock class
    decodes whatever grid they are from."""

    def get_position_ids(self, x: torch.Tensor, masks: torch.Tensor | None = None):
        """`masks`: frame, row and column of every token, (3, batch or 1, 1, tokens)."""
        if masks is None or masks.ndim != 4:
            return super().get_position_ids(x, masks)
        return masks.unbind(0)


class FluxVJEPA2Encoder(VJEPA2Encoder):
    """Encodes embedded tokens, whose places its layers are told."""

    def forward(self, pixel_values_videos: torch.Tensor, token_places: torch.Tensor, **kwargs) -> BaseModelOutput:
        hidden_states = pixel_values_videos
        for layer in self.layer:
            hidden_states = layer(hidden_states, token_places, **kwargs)[0]
        return BaseModelOutput(last_hidden_state=self.layernorm(hidden_states))


class FluxVJEPA2Model(FluxVideoModel, VJEPA2Model):
    """The encoder; the predictor is left out."""

    config_class = FluxVJEPA2Config

    @property
    def patch_shape(self) -> tuple[int, int]:
        return self.config.tubelet_size, self.config.patch_size

    @property
    def native_grid(self) -> tuple[int, int, int]:
        return self.config.frames_per_clip, self.config.crop_size, self.config.crop_size

    @property
    def num_channels(self) -> int:
        return self.config.in_chans

    def embed_patches(self, pixel_values_videos: torch.Tensor) -> torch.Tensor:
        cubes = self.encoder.embeddings.patch_embeddings.proj(pixel_values_videos.transpose(1, 2))
        return cubes.permute(0, 2, 3, 4, 1)

    def encode_tokens(self, tokens, positions, grid, skip_predictor: bool = True, **kwargs):
        if not skip_predictor or any(kwargs.get(mask) is not None for mask in ("context_mask", "target_mask")):
            raise ValueError("the predictor needs all tokens: disable_flux gives the model that has it")
        _, rows, columns = grid
        if positions is None:
            positions = torch.arange(tokens.shape[1], device=tokens.device)[None]
        numbers = positions[:, None]  # one place for all heads
        places = torch.stack([numbers // (rows * columns), numbers // columns % rows, numbers % columns])
        return VJEPA2Model.forward(self, tokens, skip_predictor=True, token_places=places, return_dict=True, **kwargs)

    def get_vision_features(self, pixel_values_videos: torch.Tensor) -> torch.Tensor:
        return self(pixel_values_videos).last_hidden_state


class FluxVJEPA2ForVideoClassification(FluxVideoClassifier, VJEPA2ForVideoClassification):
    config_class = FluxVJEPA2Config
    head_modules = ("pooler", "classifier")
    layers_path, embeddings_paths = "vjepa2.encoder.layer", ("vjepa2.encoder.embeddings",)

    def pool_tokens(self, hidden_states, head):
        return head.pooler(hidden_states)


CLASSES = family(
    {
        VJEPA2ForVideoClassification: FluxVJEPA2ForVideoClassification,
        VJEPA2Model: FluxVJEPA2Model,
        VJEPA2Encoder: FluxVJEPA2Encoder,
        VJEPA2RopeAttention: FluxVJEPA2RopeAttention,
    }
)

__all__ = ["FluxVJEPA2Config", "FluxVJEPA2ForVideoClassification", "FluxVJEPA2Model"]

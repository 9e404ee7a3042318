"""timm's VisionTransformer on clips: their frames are joined into one sequence, of which tokens are selected.

Every frame has the positions of an image. Without training the model has no notion of time: the order of the frames
changes nothing but what is selected.
"""

import torch
from timm.layers import PatchEmbed, resample_abs_pos_embed
from timm.models import VisionTransformer, checkpoint_seq
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.timm_wrapper.modeling_timm_wrapper import TimmWrapperForImageClassification

from .configuration_flux_timm import FluxTimmConfig
from .flux_video_model import (
    FluxOneModuleClassifier,
    FluxVideoClassifier,
    UnsupportedModelError,
    family,
    on_grid,
    square_patch,
)


class FluxVisionTransformer(FluxOneModuleClassifier, VisionTransformer):
    head_modules = ("attn_pool", "fc_norm", "head")
    layers_path = "blocks"
    embeddings_paths = ("patch_embed", "cls_token", "reg_token", "pos_embed", "norm_pre")

    @classmethod
    def check_model(cls, model):
        if type(model.patch_embed) is not PatchEmbed:
            raise UnsupportedModelError(
                f"patches are embedded by {type(model.patch_embed).__name__}, not by one convolution"
            )
        square_patch(model.patch_embed.patch_size)
        if not model.global_pool:
            raise UnsupportedModelError("global_pool='' leaves tokens unpooled: there is no feature to classify")

    @property
    def patch_shape(self) -> tuple[int, int]:
        return 1, square_patch(self.patch_embed.patch_size)

    @property
    def native_grid(self) -> tuple[int, int, int]:
        return 1, *self.patch_embed.img_size

    @property
    def num_channels(self) -> int:
        return self.patch_embed.proj.in_channels

    @property
    def prefix_tokens(self) -> int:
        return self.num_prefix_tokens

    def embed_patches(self, pixel_values_videos: torch.Tensor) -> torch.Tensor:
        images = self.patch_embed.proj(pixel_values_videos.flatten(0, 1)).permute(0, 2, 3, 1)
        return self.patch_embed.norm(images).unflatten(0, pixel_values_videos.shape[:2])

    def encode_tokens(self, tokens, positions, grid, output_hidden_states: bool = False):
        """`hidden_states` are the outputs of all blocks, tokens and what is before them."""
        x = self.patch_drop(self._with_positions(tokens, positions, grid))
        x, hidden_states = self.norm_pre(x), []
        if output_hidden_states:
            for block in self.blocks:
                x = block(x)
                hidden_states.append(x)
        elif self.grad_checkpointing:
            x = checkpoint_seq(self.blocks, x)
        else:
            x = self.blocks(x)
        return BaseModelOutput(
            last_hidden_state=self.norm(x), hidden_states=tuple(hidden_states) if output_hidden_states else None
        )

    def _with_positions(self, tokens, positions, grid) -> torch.Tensor:
        """Tokens with their positions, behind class and register tokens with theirs."""
        prefix = [
            token.expand(tokens.shape[0], -1, -1) for token in (self.cls_token, self.reg_token) if token is not None
        ]
        if self.pos_embed is None:
            return torch.cat([*prefix, tokens], dim=1)
        frames, *shape = grid
        before = 0 if self.no_embed_class else self.num_prefix_tokens
        table = resample_abs_pos_embed(
            self.pos_embed, new_size=shape, old_size=self.patch_embed.grid_size, num_prefix_tokens=before
        )[0]
        of_prefix, table = table[:before], table[before:].repeat(frames, 1)
        tokens = tokens + on_grid(table, positions)
        if prefix:
            prefix = torch.cat(prefix, dim=1)
            tokens = torch.cat([prefix + of_prefix if before else prefix, tokens], dim=1)
        return self.pos_drop(tokens)

    def pool_tokens(self, hidden_states, head):
        if head.attn_pool is None:
            pooled = VisionTransformer.pool(self, hidden_states)
        else:
            pooled = head.attn_pool(
                hidden_states if self.pool_include_prefix else hidden_states[:, self.prefix_tokens :]
            )
        return self.head_drop(head.fc_norm(pooled))


class FluxTimmForVideoClassification(FluxVideoClassifier, TimmWrapperForImageClassification):
    """The same behind the wrapper of Transformers."""

    config_class = FluxTimmConfig
    head_modules = FluxVisionTransformer.head_modules
    layers_path = f"timm_model.{FluxVisionTransformer.layers_path}"
    embeddings_paths = tuple(f"timm_model.{path}" for path in FluxVisionTransformer.embeddings_paths)

    @classmethod
    def check_model(cls, model):
        if type(model.timm_model) not in (VisionTransformer, FluxVisionTransformer):
            raise UnsupportedModelError(
                f"{type(model.timm_model).__name__} of timm: only its VisionTransformer is known"
            )
        FluxVisionTransformer.check_model(model.timm_model)

    @property
    def head_owner(self):
        return self.timm_model

    def make_heads(self) -> None:
        self.timm_model._flux_settings = self.config
        super().make_heads()

    def pool_tokens(self, hidden_states, head):
        return self.timm_model.pool_tokens(hidden_states, head)


CLASSES = family(
    {
        TimmWrapperForImageClassification: FluxTimmForVideoClassification,
        VisionTransformer: FluxVisionTransformer,
    }
)

__all__ = ["FluxTimmForVideoClassification", "FluxVisionTransformer"]

"""The layers of FluxViT: norms, patch embedding, attention, MLP, encoder, pooling head, classifiers, decoder."""

from collections.abc import Callable

import torch
from torch import nn
from torchvision.ops import stochastic_depth
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs

from .configuration_fluxvit import FluxViTConfig


class FluxViTRMSNorm(nn.RMSNorm):
    """RMS norm in the type of its input: under autocast the weight takes it, too, because mixed types have no
    fused kernel."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


class ChannelAffine(nn.Module):
    """A scale and a shift per channel, identity at first."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.addcmul(self.bias, x, self.weight)


class LayerScale(nn.Module):
    """A small learned scale per channel on a residual branch."""

    def __init__(self, config: FluxViTConfig):
        super().__init__()
        self.weight = nn.Parameter(torch.full((config.hidden_size,), config.layer_scale_init))

    def forward(self, hidden_states: torch.Tensor, branch: torch.Tensor) -> torch.Tensor:
        """`hidden_states` plus the scaled `branch`, in one pass."""
        return torch.addcmul(hidden_states, branch, self.weight)


class FluxViTPatchEmbedding(nn.Module):
    """Cuts a clip into patches of `tubelet_size` frames and embeds them between two RMS norms (dual patch norm)."""

    def __init__(self, config: FluxViTConfig):
        super().__init__()
        self.patch_size, self.tubelet_size = config.patch_size, config.tubelet_size
        self.num_channels = config.num_channels
        self.norm_before = FluxViTRMSNorm(config.values_of_patch, eps=config.layer_norm_eps)
        self.projection = nn.Linear(config.values_of_patch, config.hidden_size)
        self.norm_after = FluxViTRMSNorm(config.hidden_size, eps=config.layer_norm_eps)

    def patchify(self, pixel_values_videos: torch.Tensor) -> torch.Tensor:
        """(batch, frames, channels, height, width) -> (batch, frames / tubelet_size, rows, columns, tubelet_size *
        patch_size**2 * channels)"""
        if pixel_values_videos.ndim != 5 or pixel_values_videos.shape[2] != self.num_channels:
            raise ValueError(
                f"pixel_values_videos must be (batch, frames, {self.num_channels}, height, width), "
                f"got {tuple(pixel_values_videos.shape)}"
            )
        batch, frames, channels, height, width = pixel_values_videos.shape
        size = self.patch_size
        if height % size or width % size:
            raise ValueError(f"height and width must be multiples of the patch size {size}, got {height} x {width}")
        if frames % self.tubelet_size:
            raise ValueError(f"frames must be a multiple of tubelet_size {self.tubelet_size}, got {frames}")
        rows, columns = height // size, width // size
        if self.tubelet_size == 1:
            patches = pixel_values_videos.reshape(batch, frames, channels, rows, size, columns, size)
            patches = patches.permute(0, 1, 3, 5, 4, 6, 2)
        else:
            patches = pixel_values_videos.reshape(batch, -1, self.tubelet_size, channels, rows, size, columns, size)
            patches = patches.permute(0, 1, 4, 6, 2, 5, 7, 3)
        return patches.flatten(4).to(next(self.parameters()).dtype)

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """What `patchify` gives, or some of it: (..., values of a patch) -> (..., hidden_size)"""
        embedded = self.projection(self.norm_before(patches))
        return self.norm_after(embedded.to(patches.dtype))


def eager_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention with explicit weights, in the signature that transformers' attention functions share."""
    weights = (query * scaling) @ key.transpose(-2, -1)
    if attention_mask is not None:
        weights = weights + attention_mask
    weights = weights.softmax(dim=-1, dtype=torch.float32).to(query.dtype)
    output = nn.functional.dropout(weights, dropout, module.training) @ value
    return output.transpose(1, 2), weights


class FluxViTAlias(nn.Module):
    """Says `qkv` to one projection of an attention: reading `qkv` gives `attention.<name>`, and setting it sets that.
    Made when it is asked for, because one that stayed would be a cycle, which keeps a deleted model in memory."""

    def __init__(self, attention: nn.Module, name: str):
        super().__init__()
        self._original = (attention, name)  # in a tuple, which torch does not register

    @property
    def qkv(self) -> nn.Module:
        return getattr(*self._original)

    def __setattr__(self, name: str, value) -> None:
        if name == "qkv":
            setattr(*self._original, value)
        else:
            super().__setattr__(name, value)


class FluxViTAttention(nn.Module):
    """Self-attention with RMS norm of queries and keys over the full width and, added to its output, the local
    position embedding: an affine map of the values.

    `query_as.qkv`, `key_as.qkv` and `value_as.qkv` are second names of `query`, `key` and `value`, for tools such as
    peft that look for modules called qkv, as most ViTs have them. In `named_modules()` they are empty modules, so that
    what goes through all modules meets each projection once, by its own name; a hook on an empty one never fires.
    """

    query_as = property(lambda self: FluxViTAlias(self, "query"))
    key_as = property(lambda self: FluxViTAlias(self, "key"))
    value_as = property(lambda self: FluxViTAlias(self, "value"))

    def __init__(self, config: FluxViTConfig):
        super().__init__()
        self.config = config
        self.head_dim = config.hidden_size // config.num_attention_heads
        self.scaling = self.head_dim**-0.5
        self.is_causal = False
        self.query = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.key = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.value = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.query_norm = FluxViTRMSNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.key_norm = FluxViTRMSNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.local_position = ChannelAffine(config.hidden_size)
        self.output = nn.Linear(config.hidden_size, config.hidden_size)
        for alias in ("query_as", "key_as", "value_as"):
            self._modules[alias] = nn.ModuleDict({"qkv": nn.Module()})

    def forward(
        self, hidden_states: torch.Tensor, **kwargs: Unpack[TransformersKwargs]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        query, key, value = self.query(hidden_states), self.key(hidden_states), self.value(hidden_states)
        attend: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        heads = (*hidden_states.shape[:-1], -1, self.head_dim)
        attended, weights = attend(
            self,
            self.query_norm(query).view(heads).transpose(1, 2),
            self.key_norm(key).view(heads).transpose(1, 2),
            value.view(heads).transpose(1, 2),
            None,
            scaling=self.scaling,
            dropout=0.0,
            **kwargs,
        )
        attended = attended.reshape(hidden_states.shape)
        return self.output(attended + self.local_position(value)), weights

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        """As in torch; takes the three projections also as the one of files, for runs of the Trainer that go on."""
        if (fused := state_dict.pop(f"{prefix}qkv.weight", None)) is not None:
            names = (f"{prefix}{name}.weight" for name in ("query", "key", "value"))
            state_dict.update(zip(names, fused.chunk(3), strict=True))
        super()._load_from_state_dict(state_dict, prefix, *args)


class FluxViTMLP(nn.Module):
    def __init__(self, config: FluxViTConfig):
        super().__init__()
        width = int(config.hidden_size * config.mlp_ratio)
        self.up = nn.Linear(config.hidden_size, width)
        self.activation = ACT2FN[config.hidden_act]
        self.down = nn.Linear(width, config.hidden_size)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.down(self.activation(self.up(hidden_states)))


class FluxViTLayer(GradientCheckpointingLayer):
    """Pre-norm attention and MLP, each with LayerScale and stochastic depth."""

    def __init__(self, config: FluxViTConfig, layer_index: int):
        super().__init__()
        self.drop_path_rate = config.drop_path_rate * layer_index / max(config.num_hidden_layers - 1, 1)
        self.attention_norm = FluxViTRMSNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attention = FluxViTAttention(config)
        self.attention_scale = LayerScale(config)
        self.mlp_norm = FluxViTRMSNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = FluxViTMLP(config)
        self.mlp_scale = LayerScale(config)
        for residual_output in (self.attention.output, self.mlp.down):
            residual_output.init_scale = (2 * (layer_index + 1)) ** -0.5

    def forward(self, hidden_states: torch.Tensor, **kwargs: Unpack[TransformersKwargs]) -> torch.Tensor:
        attended, _ = self.attention(self.attention_norm(hidden_states), **kwargs)
        hidden_states = self.attention_scale(hidden_states, self._drop_path(attended))
        return self.mlp_scale(hidden_states, self._drop_path(self.mlp(self.mlp_norm(hidden_states))))

    def _drop_path(self, branch: torch.Tensor) -> torch.Tensor:
        return stochastic_depth(branch, self.drop_path_rate, mode="row", training=self.training)


class FluxViTEncoder(nn.Module):
    def __init__(self, config: FluxViTConfig):
        super().__init__()
        self.layers = nn.ModuleList([FluxViTLayer(config, index) for index in range(config.num_hidden_layers)])
        self.gradient_checkpointing = False

    def forward(self, hidden_states: torch.Tensor, **kwargs: Unpack[TransformersKwargs]) -> torch.Tensor:
        if self.gradient_checkpointing and self.training and any(p.requires_grad for p in self.parameters()):
            # Re-entrant checkpoints give no gradients, an adapter's neither, where no input asks for one.
            hidden_states.requires_grad_()
        for layer in self.layers:
            hidden_states = layer(hidden_states, **kwargs)
        return hidden_states


class FluxViTPooler(nn.Module):
    """Attention pooling: the mean token asks, all tokens answer."""

    def __init__(self, config: FluxViTConfig):
        super().__init__()
        width = config.hidden_size
        self.num_heads = config.pooler_num_attention_heads
        self.query_norm = nn.LayerNorm(width)
        self.key_norm = nn.LayerNorm(width)
        self.value_norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, config.projection_dim)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(batch, tokens, hidden_size) -> (batch, projection_dim)"""
        query = self._split(self.query(self.query_norm(tokens.mean(1, keepdim=True))))
        key = self._split(self.key(self.key_norm(tokens)))
        value = self._split(self.value(self.value_norm(tokens)))
        pooled = nn.functional.scaled_dot_product_attention(query, key, value)
        return self.output(pooled.transpose(1, 2).flatten(1))

    def attention(self, tokens: torch.Tensor) -> torch.Tensor:
        """How much each token weighs in the pooled feature, mean over the heads: (batch, tokens, hidden_size) ->
        float32 (batch, tokens), rows sum to 1."""
        query = self._split(self.query(self.query_norm(tokens.mean(1, keepdim=True))))
        key = self._split(self.key(self.key_norm(tokens)))
        with torch.autocast(tokens.device.type, enabled=False):
            scores = (query.float() @ key.float().transpose(-2, -1)) * query.shape[-1] ** -0.5
        return scores.softmax(-1).mean(1).squeeze(1)

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class FluxViTClassifier(nn.Module):
    """A linear classifier for each pooling head: pooled features (batch, projection_dim) -> (batch, num_labels)."""

    def __init__(self, config: FluxViTConfig):
        super().__init__()
        self.heads = nn.ModuleList(
            [nn.Linear(config.projection_dim, config.num_labels) for _ in config.head_token_budgets]
        )

    def forward(self, features: torch.Tensor, head_index: int) -> torch.Tensor:
        return self.heads[head_index](features)


class FeatureDecoder(nn.Module):
    """Maps features onto those they are trained to resemble: linear, layer norm, unit length (the alignment decoders of
    the official code). The target is the pooled feature of the largest budget, or a feature of a teacher."""

    def __init__(self, width: int, target_width: int):
        super().__init__()
        self.projection = nn.Linear(width, target_width)
        self.norm = nn.LayerNorm(target_width)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(..., width) -> float32 unit vectors (..., target_width)"""
        return nn.functional.normalize(self.norm(self.projection(features)).float(), dim=-1)


__all__ = [
    "ChannelAffine",
    "FeatureDecoder",
    "FluxViTAlias",
    "FluxViTAttention",
    "FluxViTClassifier",
    "FluxViTEncoder",
    "FluxViTLayer",
    "FluxViTMLP",
    "FluxViTPatchEmbedding",
    "FluxViTPooler",
    "FluxViTRMSNorm",
    "LayerScale",
    "eager_attention_forward",
]

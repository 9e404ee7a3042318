"""FluxViT: a video transformer that takes any sampling grid and keeps only a budget of tokens.

Described in "Make Your Training Flexible: Towards Deployment-Efficient Video Models" (arXiv 2503.14237). Patch
embedding is patchify + linear and the paper's "depth-wise convolutions" are per-channel affine maps, which is what
their 1x1x1 kernels compute.
"""

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torchvision.ops import stochastic_depth
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.core_model_loading import Chunk, WeightConverter, WeightRenaming
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs, logging
from transformers.utils.generic import can_return_tuple
from transformers.utils.output_capturing import capture_outputs

from .configuration_fluxvit import FluxViTConfig
from .flux_model_fluxvit import (
    FluxModel,
    FluxViTClassifierOutput,
    FluxViTMultiBudgetOutput,
    as_token_budget,
    check_token_budgets,
    tokens_per_row,
)
from .position_embedding_fluxvit import PositionEmbedding, sine_cosine_table
from .token_selection_fluxvit import keep_masks_at, kept_positions, take_tokens

logger = logging.get_logger(__name__)


@dataclass
class FluxViTModelOutput(ModelOutput):
    """
    Args:
        last_hidden_state: tokens after the last layer, cls first, (batch, 1 + kept tokens, hidden_size).
        pooler_output: clip feature of the pooling head in use, (batch, projection_dim).
        keep_mask: bool (batch, frames * rows * columns), True = kept; None when every token was kept.
        hidden_states: input of the first layer and output of every layer, each like `last_hidden_state`.
        attentions: attention weights of every layer, (batch, heads, 1 + kept, 1 + kept); eager attention only.
    """

    last_hidden_state: torch.FloatTensor | None = None
    pooler_output: torch.FloatTensor | None = None
    keep_mask: torch.BoolTensor | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None


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
    """Cuts every frame into patches and embeds them between two RMS norms (dual patch norm)."""

    def __init__(self, config: FluxViTConfig):
        super().__init__()
        self.patch_size = config.patch_size
        self.num_channels = config.num_channels
        patch_dim = config.patch_size**2 * config.num_channels
        self.norm_before = FluxViTRMSNorm(patch_dim, eps=config.layer_norm_eps)
        self.projection = nn.Linear(patch_dim, config.hidden_size)
        self.norm_after = FluxViTRMSNorm(config.hidden_size, eps=config.layer_norm_eps)

    def patchify(self, pixel_values_videos: torch.Tensor) -> torch.Tensor:
        """(batch, frames, channels, height, width) -> (batch, frames, rows, columns, patch_size**2 * channels)"""
        if pixel_values_videos.ndim != 5 or pixel_values_videos.shape[2] != self.num_channels:
            raise ValueError(
                f"pixel_values_videos must be (batch, frames, {self.num_channels}, height, width), "
                f"got {tuple(pixel_values_videos.shape)}"
            )
        batch, frames, channels, height, width = pixel_values_videos.shape
        size = self.patch_size
        if height % size or width % size:
            raise ValueError(f"height and width must be multiples of the patch size {size}, got {height} x {width}")
        patches = pixel_values_videos.reshape(batch, frames, channels, height // size, size, width // size, size)
        return patches.permute(0, 1, 3, 5, 4, 6, 2).flatten(4).to(next(self.parameters()).dtype)

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """What `patchify` gives, or some of it: (..., patch_size**2 * channels) -> (..., hidden_size)"""
        embedded = self.projection(self.norm_before(patches))
        return self.norm_after(embedded.to(patches.dtype))


class FluxViTEmbeddings(nn.Module):
    """Patch embedding, token selection, cls token and positions."""

    def __init__(self, config: FluxViTConfig):
        super().__init__()
        self.patch_embedding = FluxViTPatchEmbedding(config)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.hidden_size))
        self.position_embedding = PositionEmbedding(config)

    def forward(
        self,
        pixel_values_videos: torch.Tensor,
        token_budgets: tuple[int | None, ...] = (None,),
        keep_masks: tuple[torch.Tensor, ...] | None = None,
    ) -> tuple[list[torch.Tensor], list[torch.Tensor | None]]:
        """For each of the descending budgets the tokens that enter the encoder, cls first (batch, 1 + kept,
        hidden_size), and the mask of those kept (None when all are). `keep_masks`, each a part of the one before,
        replace budgets and selector.

        Patches are embedded and scored once for all budgets: what is kept for a smaller budget is part of what is kept
        for a larger one. With gradients the kept patches of the largest are embedded once more, which is cheaper than
        a backward pass through all patches; with masks given, only those are embedded."""
        patches = self.patch_embedding.patchify(pixel_values_videos)
        batch, frames, rows, columns, _ = patches.shape
        total = frames * rows * columns
        if keep_masks is not None:
            counts = _tokens_kept(keep_masks, batch, total)
        else:
            counts = [total if budget is None else min(budget, total) for budget in token_budgets]
        cls_position, positions = self.position_embedding(frames, rows, columns)

        tokens = None
        if counts[0] == total:
            tokens = self.patch_embedding(patches)
        elif keep_masks is None:
            with torch.no_grad():
                tokens = self.patch_embedding(patches)
        if keep_masks is not None:
            masks = [mask if count < total else None for mask, count in zip(keep_masks, counts, strict=True)]
        else:
            masks = keep_masks_at(tokens, counts)

        if masks[0] is None:
            largest = tokens.flatten(1, 3) + positions
        else:
            kept = kept_positions(masks[0], counts[0])
            if tokens is None or torch.is_grad_enabled():
                tokens = self.patch_embedding(take_tokens(patches.flatten(1, 3), kept))
            else:
                tokens = take_tokens(tokens.flatten(1, 3), kept)
            largest = tokens + positions[kept]

        cls = (self.cls_token + cls_position).expand(batch, -1, -1).to(largest.dtype)
        sequences = []
        for count, mask in zip(counts, masks, strict=True):
            sequence = largest
            if count < counts[0]:
                among_largest = mask if masks[0] is None else mask.gather(1, kept)
                sequence = take_tokens(largest, kept_positions(among_largest, count))
            sequences.append(torch.cat([cls, sequence], dim=1))
        return sequences, masks


def _tokens_kept(keep_masks: tuple[torch.Tensor, ...], batch: int, total: int) -> list[int]:
    counts = [tokens_per_row(mask, batch, total) for mask in keep_masks]
    if not counts or any((mask & ~larger).any() for larger, mask in itertools.pairwise(keep_masks)):
        raise ValueError("keep_masks must hold at least one mask, each a part of what the one before keeps")
    return counts


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


# Files keep one matrix for query, key and value, and the name `classifiers`: transformers converts in both directions.
register_checkpoint_conversion_mapping(
    FluxViTConfig.model_type,
    [
        WeightConverter(
            "attention.qkv.weight",
            ["attention.query.weight", "attention.key.weight", "attention.value.weight"],
            operations=[Chunk(dim=0)],
        ),
    ],
    overwrite=True,
)
register_checkpoint_conversion_mapping(
    "FluxViTForVideoClassification",
    [WeightRenaming(r"^classifiers\.", "classifier.heads.")],
    overwrite=True,
)


class FluxViTPreTrainedModel(FluxModel, PreTrainedModel):
    config: FluxViTConfig
    config_class = FluxViTConfig
    base_model_prefix = "fluxvit"
    main_input_name = "pixel_values_videos"
    input_modalities = ("video",)
    supports_gradient_checkpointing = True
    _no_split_modules = ["FluxViTEmbeddings", "FluxViTLayer", "FluxViTPooler"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_record_outputs = {"hidden_states": FluxViTLayer, "attentions": FluxViTAttention}
    # The losses are means over the batch, whatever the Trainer accumulates.
    accepts_loss_kwargs = False
    # What belongs to one head, and in it the bias that is zero until a step trains the head.
    _parts_of_head = ("fluxvit.poolers.{}.",)
    _bias_of_head = "fluxvit.poolers.{}.output.bias"

    def save_pretrained(self, save_directory, is_main_process=True, state_dict=None, *args, **kwargs):
        """As in transformers. A head that was never trained, though another one was, is saved as a copy of the trained
        one with the nearest budget (ties: the larger), and the log says so."""
        if copies := self._copies_for_idle_heads(self.state_dict() if state_dict is None else state_dict):
            state_dict = (self.state_dict() if state_dict is None else state_dict) | copies
        super().save_pretrained(save_directory, is_main_process, state_dict, *args, **kwargs)

    def _copies_for_idle_heads(self, state_dict: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        budgets, copies = self.config.head_token_budgets, {}
        biases = [state_dict.get(self._bias_of_head.format(head)) for head in range(len(budgets))]
        if any(bias is None or bias.is_meta for bias in biases):  # gathered by another process, or offloaded
            return {}
        trained = [head for head, bias in enumerate(biases) if bias.any()]
        for head in set(range(len(budgets))) - set(trained) if trained else ():
            nearest = min(trained, key=lambda other: abs(budgets[other] - budgets[head]))  # noqa: B023 (at once)
            for part in self._parts_of_head:
                old, new = part.format(nearest), part.format(head)
                copies |= {
                    name.replace(old, new, 1): tensor.clone()
                    for name, tensor in state_dict.items()
                    if name.startswith(old)
                }
            logger.warning_once(
                f"the head for {budgets[head]} tokens was not trained: it is saved as a copy of that for "
                f"{budgets[nearest]}"
            )
        return copies

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Truncated normal linear layers, the output layers of layer i (from 1) divided by sqrt(2 i), LayerScale at its
        initial value, sine-cosine position table (`models/fluxvit.py` of the official repository)."""
        std = self.config.initializer_range
        if isinstance(module, nn.Linear):
            init.trunc_normal_(module.weight, std=std * getattr(module, "init_scale", 1.0))
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm | nn.RMSNorm | ChannelAffine):
            init.ones_(module.weight)
            if getattr(module, "bias", None) is not None:
                init.zeros_(module.bias)
        elif isinstance(module, LayerScale):
            init.constant_(module.weight, self.config.layer_scale_init)
        elif isinstance(module, PositionEmbedding):
            init.zeros_(module.cls)
            init.ones_(module.weight)
            init.zeros_(module.bias)
            init.copy_(module.table, sine_cosine_table(module.stored_grid, self.config.hidden_size))
        elif isinstance(module, FluxViTEmbeddings):
            init.trunc_normal_(module.cls_token, std=std)


class FluxViTModel(FluxViTPreTrainedModel):
    """The encoder with its pooling heads: tokens and one feature per clip."""

    # What the models around it have on top.
    _keys_to_ignore_on_load_unexpected = [
        r"^classifier",
        r"^alignment_decoders\.",
        r"^layer_decoders\.",
        r"^pooled_dec",
    ]

    _parts_of_head = ("poolers.{}.",)
    _bias_of_head = "poolers.{}.output.bias"

    def __init__(self, config: FluxViTConfig):
        super().__init__(config)
        self.embeddings = FluxViTEmbeddings(config)
        self.encoder = FluxViTEncoder(config)
        self.poolers = nn.ModuleList([FluxViTPooler(config) for _ in config.head_token_budgets])
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings.patch_embedding

    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        pixel_values_videos: torch.FloatTensor,
        token_budget: int | torch.Tensor | None = None,
        keep_mask: torch.BoolTensor | None = None,
        head_index: int | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> FluxViTModelOutput:
        """
        Args:
            pixel_values_videos: normalised frames (batch, frames, channels, height, width), height and width multiples
                of the patch size; any number of frames.
            token_budget: tokens to keep (cls not counted), default `config.token_budget`; None there keeps all. A
                tensor must hold equal entries. A budget above the grid's tokens keeps all.
            keep_mask: bool (batch, frames * rows * columns), True = kept, the same count in every row. Overrides the
                selector.
            head_index: pooling head, default the one whose budget is nearest to the tokens kept (ties: the larger).

        Raises:
            ValueError: on a shape, budget, mask or head that does not fit.
        """
        [hidden_states], [keep_mask] = self.embeddings(
            pixel_values_videos,
            (as_token_budget(token_budget, self.config.token_budget),),
            None if keep_mask is None else (keep_mask,),
        )
        head_index = self.resolve_head(hidden_states.shape[1] - 1, head_index)
        hidden_states = self.encoder(hidden_states, **kwargs)
        return FluxViTModelOutput(
            last_hidden_state=hidden_states, pooler_output=self.poolers[head_index](hidden_states), keep_mask=keep_mask
        )

    def encode_budgets(
        self, pixel_values_videos: torch.FloatTensor, token_budgets: list[int], **kwargs: Unpack[TransformersKwargs]
    ) -> list[FluxViTModelOutput]:
        """The same clips at several budgets: for each what `forward` gives at that budget. Patches are embedded and
        scored once, and budgets that keep the same number of tokens, because the grid has no more, share one pass
        through the encoder.

        Raises:
            ValueError: unless `token_budgets` are at least 1 and descending.
        """
        sequences, masks = self.embeddings(pixel_values_videos, tuple(check_token_budgets(token_budgets)))
        outputs, hidden_states = [], None
        for sequence, mask in zip(sequences, masks, strict=True):
            if hidden_states is None or sequence.shape != hidden_states.shape:
                hidden_states = self.encoder(sequence, **kwargs)
            pooled = self.poolers[self.resolve_head(sequence.shape[1] - 1)](hidden_states)
            outputs.append(FluxViTModelOutput(last_hidden_state=hidden_states, pooler_output=pooled, keep_mask=mask))
        return outputs

    def resolve_head(self, num_tokens: int, head_index: int | None = None) -> int:
        """The pooling head and classifier for `num_tokens` kept tokens: `head_index` when given, else the one with the
        nearest budget (ties: the larger budget)."""
        budgets = self.config.head_token_budgets
        if head_index is None:
            distances = [abs(budget - num_tokens) for budget in budgets]
            return distances.index(min(distances))
        if not 0 <= head_index < len(budgets):
            raise ValueError(f"head_index must be in 0..{len(budgets) - 1} (budgets {budgets}), got {head_index}")
        return head_index


class FluxViTForVideoClassification(FluxViTPreTrainedModel):
    """FluxViT with one classifier per pooling head. Logits and features come from the head of the budget in use."""

    # A checkpoint of FluxViTForPreTraining has them.
    _keys_to_ignore_on_load_unexpected = [r"^layer_decoders\.", r"^pooled_decoder\."]
    _parts_of_head = ("fluxvit.poolers.{}.", "classifier.heads.{}.")
    _bias_of_head = "classifier.heads.{}.bias"

    def __init__(self, config: FluxViTConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.fluxvit = FluxViTModel(config)
        self.classifier_norm = nn.LayerNorm(config.projection_dim)
        self.classifier = FluxViTClassifier(config)
        width = config.projection_dim
        self.alignment_decoders = nn.ModuleList([FeatureDecoder(width, width) for _ in config.head_token_budgets[1:]])
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.fluxvit.get_input_embeddings()

    def load_state_dict(self, state_dict, *args, **kwargs):
        """As in torch; also takes the names in files, for runs of the Trainer that go on."""
        renamed = {re.sub(r"^classifiers\.", "classifier.heads.", name): tensor for name, tensor in state_dict.items()}
        return super().load_state_dict(renamed, *args, **kwargs)

    @can_return_tuple
    def forward(
        self,
        pixel_values_videos: torch.FloatTensor,
        token_budget: int | torch.Tensor | None = None,
        keep_mask: torch.BoolTensor | None = None,
        head_index: int | None = None,
        labels: torch.Tensor | None = None,
        token_budgets: list[int] | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> FluxViTClassifierOutput | FluxViTMultiBudgetOutput:
        """
        Args:
            pixel_values_videos, token_budget, keep_mask, head_index: see [`FluxViTModel.forward`].
            labels: class indices (batch,), or float targets (batch, num_labels) for multi-label classification, or
                (batch,) / (batch, num_labels) for regression, as `config.problem_type` says. In training mode, unless
                there is a `head_index`, all heads learn from the tokens kept, so that the model can answer at every
                budget it names; the value of the loss, and what the encoder learns, are those of the head in use.
            token_budgets: descending budgets to answer at in one call, for each what `token_budget` gives; patches are
                embedded and scored once. Gives a [`FluxViTMultiBudgetOutput`] without a loss, and excludes the
                arguments that a single budget takes.
        """
        if token_budgets is not None:
            if not (token_budget is keep_mask is head_index is labels is None):
                raise ValueError("token_budgets excludes token_budget, keep_mask, head_index and labels")
            return self._forward_budgets(pixel_values_videos, token_budgets, **kwargs)
        outputs: FluxViTModelOutput = self.fluxvit(pixel_values_videos, token_budget, keep_mask, head_index, **kwargs)
        head = self.fluxvit.resolve_head(outputs.last_hidden_state.shape[1] - 1, head_index)
        logits = self.classifier(self.classifier_norm(outputs.pooler_output), head)
        loss = None
        if labels is not None:
            loss = self.loss_function(labels, logits, self.config, **kwargs)
            if self.training and head_index is None:
                for answer in self._answers_of_others(outputs.last_hidden_state.detach(), head):
                    other = self.loss_function(labels, answer, self.config, **kwargs)
                    loss = loss + (other - other.detach())
        return FluxViTClassifierOutput(
            loss=loss,
            logits=logits,
            pooler_output=outputs.pooler_output,
            keep_mask=outputs.keep_mask,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def _answers_of_others(self, tokens: torch.Tensor, head_index: int) -> list[torch.Tensor]:
        """Logits of every head but one."""
        return [
            self.classifier(self.classifier_norm(pooler(tokens)), head)
            for head, pooler in enumerate(self.fluxvit.poolers)
            if head != head_index
        ]

    def _forward_budgets(self, pixel_values_videos, token_budgets, **kwargs) -> FluxViTMultiBudgetOutput:
        kwargs.pop("return_dict", None)
        outputs = self.fluxvit.encode_budgets(pixel_values_videos, token_budgets, **kwargs)
        heads = [self.fluxvit.resolve_head(output.last_hidden_state.shape[1] - 1) for output in outputs]
        pooled = [output.pooler_output for output in outputs]
        return FluxViTMultiBudgetOutput(
            logits=tuple(
                self.classifier(self.classifier_norm(feature), head)
                for head, feature in zip(heads, pooled, strict=True)
            ),
            pooler_output=tuple(pooled),
            aligned=tuple(
                nn.functional.normalize(feature.float(), dim=-1)
                if head == heads[0]
                else self.alignment_decoders[head - 1](feature)
                for head, feature in zip(heads[1:], pooled[1:], strict=True)
            ),
            keep_mask=tuple(output.keep_mask for output in outputs),
        )


__all__ = ["FluxViTForVideoClassification", "FluxViTModel", "FluxViTPreTrainedModel"]

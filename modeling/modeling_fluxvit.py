"""FluxViT: a video transformer that takes any sampling grid and keeps only a budget of tokens.

Described in "Make Your Training Flexible: Towards Deployment-Efficient Video Models" (arXiv 2503.14237). Patch
embedding is patchify + linear and the paper's "depth-wise convolutions" are per-channel affine maps, which is what
their 1x1x1 kernels compute.
"""

import itertools
import re
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.core_model_loading import Chunk, WeightConverter, WeightRenaming
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs, logging
from transformers.utils.generic import can_return_tuple
from transformers.utils.output_capturing import capture_outputs

from .adaptive_budget_fluxvit import AUTO, listened, settings_of_call, sure_answers
from .configuration_fluxvit import FluxViTConfig
from .flux_model_fluxvit import (
    FluxModel,
    FluxViTClassifierOutput,
    FluxViTMultiBudgetOutput,
    as_token_budget,
    check_token_budgets,
    tokens_per_row,
)
from .layers_fluxvit import (
    ChannelAffine,
    FeatureDecoder,
    FluxViTAttention,
    FluxViTClassifier,
    FluxViTEncoder,
    FluxViTLayer,
    FluxViTPatchEmbedding,
    FluxViTPooler,
    LayerScale,
)
from .position_embedding_fluxvit import PositionEmbedding, sine_cosine_table
from .token_selection_fluxvit import (
    GROUP_DYNAMIC,
    SelectionRule,
    keep_masks_at,
    kept_positions,
    selection_rule,
    take_tokens,
)

logger = logging.get_logger(__name__)

_LAYER = re.compile(r"encoder\.layers\.(\d+)\.")
_BEFORE_LAYERS = re.compile(r"embeddings\.(patch_embedding\.|cls_token|position_embedding\.(cls|table))")


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
        token_selection: str | SelectionRule | Callable = GROUP_DYNAMIC,
    ) -> tuple[list[torch.Tensor], list[torch.Tensor | None]]:
        """For each of the descending budgets the tokens that enter the encoder, cls first (batch, 1 + kept,
        hidden_size), and the mask of those kept (None when all are). `keep_masks`, each a part of the one before,
        replace budgets and selector.

        Patches are embedded and scored once for all budgets. Where what is kept for a smaller budget is part of what is
        kept for a larger one, and there are gradients, the kept patches of the largest are embedded once more, which is
        cheaper than a backward pass through all patches; with masks given, only those are embedded."""
        patches = self.patch_embedding.patchify(pixel_values_videos)
        batch, frames, rows, columns, _ = patches.shape
        total = frames * rows * columns
        if keep_masks is not None:
            counts = _tokens_kept(keep_masks, batch, total)
        else:
            counts = [total if budget is None else min(budget, total) for budget in token_budgets]
        cls_position, positions = self.position_embedding(frames, rows, columns)

        rule = selection_rule(token_selection)
        from_all = counts[0] == total or (keep_masks is None and len(counts) > 1 and not rule.nested)
        tokens = None
        if from_all:
            tokens = self.patch_embedding(patches)
        elif keep_masks is None:
            with torch.no_grad():
                tokens = self.patch_embedding(patches)
        if keep_masks is not None:
            masks = [mask if count < total else None for mask, count in zip(keep_masks, counts, strict=True)]
        else:
            masks = keep_masks_at(tokens, counts, rule)

        if from_all:
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
            if count < largest.shape[1]:
                among_largest = mask if from_all else mask.gather(1, kept)
                sequence = take_tokens(largest, kept_positions(among_largest, count))
            sequences.append(torch.cat([cls, sequence], dim=1))
        return sequences, masks


def _tokens_kept(keep_masks: tuple[torch.Tensor, ...], batch: int, total: int) -> list[int]:
    counts = [tokens_per_row(mask, batch, total) for mask in keep_masks]
    if not counts or any((mask & ~larger).any() for larger, mask in itertools.pairwise(keep_masks)):
        raise ValueError("keep_masks must hold at least one mask, each a part of what the one before keeps")
    return counts


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


def _taken(modules: Sequence[nn.Module], sources: list[int]) -> nn.ModuleList:
    return nn.ModuleList(deepcopy(modules[source]) for source in sources)


def with_idle_heads_copied(
    state_dict: dict[str, torch.Tensor], budgets: list[int], bias_of_head: str, parts_of_head: tuple[str, ...]
) -> dict[str, torch.Tensor]:
    """The weights, with copies of the trained head of the nearest budget (ties: the larger) for heads that were never
    trained though another one was; the log says so.

    Args:
        bias_of_head: name of the bias of head {}, which is zero until a step trains the head.
        parts_of_head: what the names of all its weights begin with.
    """
    biases = [state_dict.get(bias_of_head.format(head)) for head in range(len(budgets))]
    if any(bias is None or bias.is_meta for bias in biases):  # gathered by another process, or offloaded
        return state_dict
    copies, trained = {}, [head for head, bias in enumerate(biases) if bias.any()]
    for head in set(range(len(budgets))) - set(trained) if trained else ():
        nearest = min(trained, key=lambda other: abs(budgets[other] - budgets[head]))  # noqa: B023 (at once)
        for part in parts_of_head:
            old, new = part.format(nearest), part.format(head)
            copies |= {
                name.replace(old, new, 1): tensor.clone() for name, tensor in state_dict.items() if name.startswith(old)
            }
        logger.warning_once(
            f"the head for {budgets[head]} tokens was not trained: it is saved as a copy of that for {budgets[nearest]}"
        )
    return state_dict | copies


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

    @property
    def patch_shape(self) -> tuple[int, int]:
        return self.config.tubelet_size, self.config.patch_size

    @property
    def native_grid(self) -> tuple[int, int, int]:
        return self.config.position_frames, self.config.position_size, self.config.position_size

    @property
    def token_budgets(self) -> list[int]:
        """Those of the heads."""
        return list(self.config.head_token_budgets)

    def set_token_budgets(self, token_budgets: list[int]) -> None:
        before, after = self.token_budgets, check_token_budgets(token_budgets)
        if after == before:
            return
        sources = [self.resolve_head(budget) for budget in after]
        self.config.head_token_budgets = after
        self.config.adaptive_budget = None  # calibrated with other heads
        if self.config.token_budget in set(before) - set(after):
            self.config.token_budget = after[0]
        self._take_heads(sources)

    def _take_heads(self, sources: list[int]) -> None:
        """Copies of the heads with these numbers take the place of all heads."""
        self.base_model.poolers = _taken(self.base_model.poolers, sources)

    def resolve_head(self, num_tokens: int, head_index: int | None = None) -> int:
        """The pooling head and classifier for `num_tokens` kept tokens: `head_index` when given, else the one with the
        nearest budget (ties: the larger budget)."""
        budgets = self.token_budgets
        if head_index is None:
            distances = [abs(budget - num_tokens) for budget in budgets]
            return distances.index(min(distances))
        if not 0 <= head_index < len(budgets):
            raise ValueError(f"head_index must be in 0..{len(budgets) - 1} (budgets {budgets}), got {head_index}")
        return head_index

    def head_budget(self, num_tokens: int) -> int:
        return self.token_budgets[self.resolve_head(num_tokens)]

    def parameter_layer(self, name: str) -> int:
        """The scale of the position table lies behind the encoder: it learns as fast as the heads (`optim_factory.py`
        of the official code)."""
        if layer := _LAYER.search(name):
            return int(layer[1]) + 1
        return 0 if _BEFORE_LAYERS.search(name) else self.num_layers + 1

    def freeze_encoder(self) -> None:
        encoder = self.base_model.encoder
        for part in (self.base_model.embeddings, encoder):
            part.requires_grad_(False)
        for layer in encoder.layers:
            layer.drop_path_rate = 0.0

    def save_pretrained(self, save_directory, is_main_process=True, state_dict=None, *args, **kwargs):
        """As in transformers. A head that was never trained, though another one was, is saved as a copy of the trained
        one with the nearest budget (ties: the larger), and the log says so."""
        state_dict = with_idle_heads_copied(
            self.state_dict() if state_dict is None else state_dict,
            self.token_budgets,
            self._bias_of_head,
            self._parts_of_head,
        )
        super().save_pretrained(save_directory, is_main_process, state_dict, *args, **kwargs)

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
        token_selection: str | SelectionRule | Callable | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> FluxViTModelOutput:
        """
        Args:
            pixel_values_videos: normalised frames (batch, frames, channels, height, width), height and width multiples
                of the patch size; any number of frames, or of whole tubelets where `tubelet_size` is not 1.
            token_budget: tokens to keep (cls not counted), default `config.token_budget`; None there keeps all. A
                tensor must hold equal entries. A budget above the grid's tokens keeps all.
            keep_mask: bool (batch, frames / tubelet_size * rows * columns), True = kept, the same count in every row.
                Overrides the selector.
            head_index: pooling head, default the one whose budget is nearest to the tokens kept (ties: the larger).
            token_selection: name of a rule, a `SelectionRule` or a function (scores, token_budget) -> mask that selects
                in this call. Default: the model's `token_selection`.

        Raises:
            ValueError: on a shape, budget, mask, head or rule that does not fit.
        """
        [hidden_states], [keep_mask] = self.embeddings(
            pixel_values_videos,
            (as_token_budget(token_budget, self.config.token_budget),),
            None if keep_mask is None else (keep_mask,),
            self.token_selection if token_selection is None else token_selection,
        )
        head_index = self.resolve_head(hidden_states.shape[1] - 1, head_index)
        hidden_states = self.encoder(hidden_states, **kwargs)
        return FluxViTModelOutput(
            last_hidden_state=hidden_states, pooler_output=self.poolers[head_index](hidden_states), keep_mask=keep_mask
        )

    def encode_budgets(
        self,
        pixel_values_videos: torch.FloatTensor,
        token_budgets: list[int],
        token_selection: str | SelectionRule | Callable | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> list[FluxViTModelOutput]:
        """The same clips at several budgets: for each what `forward` gives at that budget. Patches are embedded and
        scored once, and budgets that keep the same number of tokens, because the grid has no more, share one pass
        through the encoder.

        Raises:
            ValueError: unless `token_budgets` are at least 1 and descending.
        """
        sequences, masks = self.embeddings(
            pixel_values_videos,
            tuple(check_token_budgets(token_budgets)),
            token_selection=self.token_selection if token_selection is None else token_selection,
        )
        outputs, hidden_states = [], None
        for sequence, mask in zip(sequences, masks, strict=True):
            if hidden_states is None or sequence.shape != hidden_states.shape:
                hidden_states = self.encoder(sequence, **kwargs)
            pooled = self.poolers[self.resolve_head(sequence.shape[1] - 1)](hidden_states)
            outputs.append(FluxViTModelOutput(last_hidden_state=hidden_states, pooler_output=pooled, keep_mask=mask))
        return outputs


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

    def _take_heads(self, sources: list[int]) -> None:
        super()._take_heads(sources)
        self.classifier.heads = _taken(self.classifier.heads, sources)
        # Decoders map features to that of the first head, which has none.
        decoders = [self._new_decoder() if 0 in sources[1:] else None, *self.alignment_decoders]
        self.alignment_decoders = _taken(decoders, sources[1:])

    def _new_decoder(self) -> FeatureDecoder:
        width, like = self.config.projection_dim, self.classifier_norm.weight
        return FeatureDecoder(width, width).apply(self._init_weights).to(like.device, like.dtype)

    @torch.no_grad()
    def set_labels(self, label_names: list[str], rows: list[int] | None = None) -> None:
        names = dict(enumerate(label_names))
        if rows != list(range(self.num_labels)):
            self.config.adaptive_budget = None  # calibrated with other classes
        self.config.update({"id2label": names, "label2id": {name: index for index, name in names.items()}})
        self.num_labels = self.config.num_labels
        for place, old in enumerate(self.classifier.heads):
            if rows == list(range(old.out_features)):
                continue
            new = nn.Linear(old.in_features, self.num_labels, device=old.weight.device, dtype=old.weight.dtype)
            if rows is None:
                nn.init.trunc_normal_(new.weight, std=self.config.initializer_range)
                new.bias.zero_()
            else:
                new.weight.copy_(old.weight[rows])
                new.bias.copy_(old.bias[rows])
            self.classifier.heads[place] = new.train(old.training)

    def load_state_dict(self, state_dict, *args, **kwargs):
        """As in torch; also takes the names in files, for runs of the Trainer that go on."""
        renamed = {re.sub(r"^classifiers\.", "classifier.heads.", name): tensor for name, tensor in state_dict.items()}
        return super().load_state_dict(renamed, *args, **kwargs)

    @can_return_tuple
    def forward(
        self,
        pixel_values_videos: torch.FloatTensor,
        token_budget: int | torch.Tensor | str | None = None,
        keep_mask: torch.BoolTensor | None = None,
        head_index: int | None = None,
        labels: torch.Tensor | None = None,
        token_budgets: list[int] | None = None,
        token_selection: str | SelectionRule | Callable | None = None,
        num_views: int = 1,
        **kwargs: Unpack[TransformersKwargs],
    ) -> FluxViTClassifierOutput | FluxViTMultiBudgetOutput:
        """
        Args:
            pixel_values_videos, token_budget, keep_mask, head_index, token_selection: see [`FluxViTModel.forward`].
            token_budget="auto", num_views: see [`FluxModel`]. Excludes labels, keep_mask, head_index, token_budgets and
                outputs of the layers, whose lengths would differ.
            labels: class indices (batch,), or float targets (batch, num_labels) for multi-label classification, or
                (batch,) / (batch, num_labels) for regression, as `config.problem_type` says. In training mode, unless
                there is a `head_index`, all heads learn from the tokens kept, so that the model can answer at every
                budget it names; the value of the loss, and what the encoder learns, are those of the head in use.
            token_budgets: descending budgets to answer at in one call, for each what `token_budget` gives; patches are
                embedded and scored once. Gives a [`FluxViTMultiBudgetOutput`] without a loss, and excludes the
                arguments that a single budget takes.
        """
        if isinstance(token_budget, str) and token_budget == AUTO:
            excluded = {"keep_mask": keep_mask, "head_index": head_index, "labels": labels}
            return self._forward_auto(
                pixel_values_videos, token_selection, num_views, token_budgets=token_budgets, **excluded, **kwargs
            )
        if token_budgets is not None:
            if not (token_budget is keep_mask is head_index is labels is None):
                raise ValueError("token_budgets excludes token_budget, keep_mask, head_index and labels")
            return self._forward_budgets(pixel_values_videos, token_budgets, token_selection, **kwargs)
        outputs: FluxViTModelOutput = self.fluxvit(
            pixel_values_videos, token_budget, keep_mask, head_index, token_selection, **kwargs
        )
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

    def _forward_auto(self, pixel_values_videos, token_selection, num_views, **kwargs) -> FluxViTClassifierOutput:
        excluded = {name: kwargs.pop(name) for name in ("keep_mask", "head_index", "labels", "token_budgets")}
        for name in ("output_hidden_states", "output_attentions"):
            excluded[name] = kwargs.pop(name, getattr(self.config, name))
        kwargs.pop("return_dict", None)
        settings = settings_of_call(self, len(pixel_values_videos), num_views, **excluded)
        rule, scores = listened(self.token_selection if token_selection is None else token_selection)
        sequences, masks = self.fluxvit.embeddings(
            pixel_values_videos, settings.token_budgets[::-1], token_selection=rule
        )
        sequences.reverse()
        masks.reverse()

        def answer(place: int, rows: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
            sequence = sequences[place] if rows is None else sequences[place][rows]
            head = self.fluxvit.resolve_head(sequence.shape[1] - 1)
            pooled = self.fluxvit.poolers[head](self.fluxvit.encoder(sequence, **kwargs))
            return self.classifier(self.classifier_norm(pooled), head), pooled

        return FluxViTClassifierOutput(**sure_answers(settings, masks, next(iter(scores), None), answer, num_views))

    def _answers_of_others(self, tokens: torch.Tensor, head_index: int) -> list[torch.Tensor]:
        """Logits of every head but one."""
        return [
            self.classifier(self.classifier_norm(pooler(tokens)), head)
            for head, pooler in enumerate(self.fluxvit.poolers)
            if head != head_index
        ]

    def _forward_budgets(
        self, pixel_values_videos, token_budgets, token_selection, **kwargs
    ) -> FluxViTMultiBudgetOutput:
        kwargs.pop("return_dict", None)
        outputs = self.fluxvit.encode_budgets(pixel_values_videos, token_budgets, token_selection, **kwargs)
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

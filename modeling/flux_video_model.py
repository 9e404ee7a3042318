"""Token selection in front of the encoder of another video transformer: what the families have in common.

A family gives a class for the encoder, which says how patches are embedded and how chosen tokens are encoded, and one
for the classifier, which says how tokens are pooled; where encoder and head are one module, one class says it all. They
are subclasses of the stock classes and run the stock modules, so that parameters keep their names, and all tokens on
the native grid give the stock model's answer bit for bit. `family` tells them of each other.
"""

import itertools
import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass

import torch
from huggingface_hub.dataclasses import validated_field
from torch import nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput
from transformers.utils.output_capturing import _CAN_RECORD_REGISTRY

from .adaptive_budget_fluxvit import AUTO, check_adaptive_budget, listened, settings_of_call, sure_answers
from .flux_model_fluxvit import (
    FluxModel,
    FluxViTClassifierOutput,
    FluxViTMultiBudgetOutput,
    SelectsTokens,
    as_token_budget,
    check_token_budgets,
    tokens_per_row,
)
from .token_selection_fluxvit import GROUP_DYNAMIC, check_selection_name, keep_masks_at, kept_positions, take_tokens


class UnsupportedModelError(ValueError):
    """A model in whose encoder tokens cannot be left out; the message says why."""


def _budget(token_budget: int | None) -> None:
    as_token_budget(token_budget, None)


def _budgets(token_budgets: list[int] | None) -> None:
    if token_budgets is not None:
        check_token_budgets(token_budgets)


@dataclass(kw_only=True, repr=False, eq=False)
class FluxSettings:
    """What the configuration of a model with token selection holds beside that of its family.

    Args:
        token_budget: tokens the selector keeps when the forward is given no budget; None keeps all.
        token_budgets: budgets the model is, or is to be, trained at, descending; None: `token_budget` alone.
        heads_per_budget: a head for each of `token_budgets` instead of one for all.
        token_selection: name of the rule that selects tokens, see `selection_rules`.
        adaptive_budget: what `token_budget="auto"` answers by, see `AdaptiveBudget`; its `token_budgets`,
            `confidences` and `changes`. None: not calibrated.
    """

    token_budget: int | None = validated_field(_budget, default=None)
    token_budgets: list[int] | None = validated_field(_budgets, default=None)
    heads_per_budget: bool = False
    token_selection: str = validated_field(check_selection_name, default=GROUP_DYNAMIC)
    adaptive_budget: dict | None = validated_field(check_adaptive_budget, default=None)

    # The Trainer's predictions are the logits.
    keys_to_ignore_at_inference = ["pooler_output", "keep_mask", "answered_budgets", "changes"]


@dataclass
class FluxVideoModelOutput(ModelOutput):
    """
    Args:
        last_hidden_state: tokens after the encoder (batch, kept tokens, hidden_size), in the order of the stock model;
            families with a cls token have it first.
        pooler_output: as the stock model gives it.
        keep_mask: bool (batch, frames * rows * columns), True = kept; None when every token was kept.
        hidden_states, attentions: as the stock model gives them.
    """

    last_hidden_state: torch.FloatTensor | None = None
    pooler_output: torch.FloatTensor | None = None
    keep_mask: torch.BoolTensor | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None


class _FluxVideoModule(SelectsTokens):
    """What encoder and classifier have in common."""

    main_input_name = "pixel_values_videos"
    flux_classes: Mapping[type, type] = {}

    @property
    def flux_settings(self) -> FluxSettings:
        """The configuration, or, where the model has none of Transformers', what `enable_flux` was given."""
        config = getattr(self, "config", None)
        return config if isinstance(config, FluxSettings) else self._flux_settings

    @classmethod
    def check_model(cls, model: nn.Module) -> None:
        """Raise UnsupportedModelError for a stock model of this family in which tokens cannot be left out."""

    def post_init(self) -> None:
        """Transformers calls it at the end of a model's `__init__`."""
        super().post_init()
        self.check_model(self)
        swap_classes(self, self.flux_classes)

    def _as_asked(self, output: ModelOutput, return_dict: bool | None) -> ModelOutput | tuple:
        if return_dict is None:
            return_dict = getattr(self.flux_settings, "return_dict", True)
        return output if return_dict else output.to_tuple()


class FluxVideoModel(_FluxVideoModule):
    """An encoder that is given chosen tokens. A family's class has it before the stock class and gives `patch_shape`,
    `native_grid`, `embed_patches` and `encode_tokens`."""

    # Tokens before those of the grid: cls and the like.
    prefix_tokens = 0

    @property
    def patch_shape(self) -> tuple[int, int]:
        """(frames, pixels): what a token covers in time, and the side of the square that it covers."""
        raise NotImplementedError

    @property
    def native_grid(self) -> tuple[int, int, int]:
        """(frames, height, width) in frames and pixels of the clips that the stock model takes."""
        raise NotImplementedError

    @property
    def num_channels(self) -> int:
        """Colour channels of the frames."""
        return self.config.num_channels

    def embed_patches(self, pixel_values_videos: torch.Tensor) -> torch.Tensor:
        """(batch, frames, channels, height, width), which divide by `patch_shape` -> patch embeddings before positions
        (batch, frames / patch frames, rows, columns, hidden_size)"""
        raise NotImplementedError

    def encode_tokens(
        self, tokens: torch.Tensor, positions: torch.Tensor | None, grid: tuple[int, int, int], **kwargs
    ) -> ModelOutput:
        """The stock forward from here on.

        Args:
            tokens: embedded patches (batch, kept, hidden_size), without positions.
            positions: which of the grid's tokens, in the order frames, rows, columns, they are, (batch, kept)
                ascending; None: all.
            grid: (frames, rows, columns) in tokens.

        Returns:
            An output with `last_hidden_state`, and `hidden_states` and `attentions` if they were asked for.
        """
        raise NotImplementedError

    def forward(
        self,
        pixel_values_videos: torch.Tensor | None = None,
        *,
        token_budget: int | torch.Tensor | None = None,
        token_budgets: list[int] | None = None,
        keep_mask: torch.BoolTensor | None = None,
        token_selection=None,
        pixel_values: torch.Tensor | None = None,
        return_dict: bool | None = None,
        **kwargs,
    ) -> FluxVideoModelOutput | tuple:
        """
        Args:
            pixel_values_videos, token_budget, keep_mask, token_selection: see [`FluxModel`]. `pixel_values` is another
                name for the pixels.
            token_budgets: descending budgets; gives a tuple of outputs, one for each. Patches are embedded and scored
                once.
            return_dict: False gives tuples instead of outputs; default the configuration's.
            kwargs: of the stock forward.
        """
        pixels = _one_of(pixel_values_videos, pixel_values)
        if token_budgets is not None:
            if not (token_budget is keep_mask is None):
                raise ValueError("token_budgets excludes token_budget and keep_mask")
            budgets = check_token_budgets(token_budgets)
        else:
            budgets = [as_token_budget(token_budget, self.flux_settings.token_budget)]
        tokens, selected = self.select_tokens(pixels, budgets, keep_mask, token_selection)
        outputs = []
        for index, (count, mask) in enumerate(selected):
            if index and mask is None:  # the grid has no more tokens
                outputs.append(outputs[-1])
                continue
            outputs.append(self.encode_selected(tokens, count, mask, **kwargs))
        outputs = tuple(self._as_asked(output, return_dict) for output in outputs)
        return outputs[0] if token_budgets is None else outputs

    def select_tokens(
        self,
        pixels: torch.Tensor,
        token_budgets: list[int | None],
        keep_mask: torch.BoolTensor | None = None,
        token_selection=None,
    ) -> tuple[torch.Tensor, list[tuple[int, torch.BoolTensor | None]]]:
        """Embedded patches (batch, frames, rows, columns, hidden_size) and, for each of the descending budgets or for
        `keep_mask` alone, how many of them are kept and the mask of these (None: all). They are scored once."""
        tokens = self.embed_patches(self._checked(pixels))
        if self._checkpoints_what_learns():
            # Re-entrant checkpoints give no gradients, an adapter's neither, where no input asks for one.
            tokens.requires_grad_()
        batch, *grid, _ = tokens.shape
        total = math.prod(grid)
        if keep_mask is not None:
            count = tokens_per_row(keep_mask, batch, total)
            return tokens, [(count, keep_mask if count < total else None)]
        counts = [total if budget is None else min(budget, total) for budget in token_budgets]
        masks = keep_masks_at(tokens, counts, token_selection or self.token_selection)
        return tokens, list(zip(counts, masks, strict=True))

    def encode_selected(
        self, tokens: torch.Tensor, count: int, mask: torch.BoolTensor | None, **kwargs
    ) -> FluxVideoModelOutput:
        """What the encoder makes of the tokens that are kept, both as [`select_tokens`] gives them."""
        grid, tokens = tuple(tokens.shape[1:4]), tokens.flatten(1, 3)
        positions = None if mask is None else kept_positions(mask, count)
        kept = tokens if positions is None else take_tokens(tokens, positions)
        encoded = self.encode_tokens(kept, positions, grid, **kwargs)
        return FluxVideoModelOutput(
            last_hidden_state=encoded.last_hidden_state,
            pooler_output=encoded.get("pooler_output"),
            keep_mask=mask,
            hidden_states=encoded.get("hidden_states"),
            attentions=encoded.get("attentions"),
        )

    def _checkpoints_what_learns(self) -> bool:
        checkpoints = (getattr(module, "gradient_checkpointing", False) for module in self.modules())
        return self.training and any(checkpoints) and any(parameter.requires_grad for parameter in self.parameters())

    def _checked(self, pixels: torch.Tensor) -> torch.Tensor:
        """The pixels in the type of the weights; raises ValueError unless they divide into patches."""
        frames, size = self.patch_shape
        if pixels.ndim != 5 or pixels.shape[2] != self.num_channels:
            raise ValueError(
                f"pixel_values_videos must be (batch, frames, {self.num_channels}, height, width), "
                f"got {tuple(pixels.shape)}"
            )
        if pixels.shape[1] % frames or pixels.shape[3] % size or pixels.shape[4] % size:
            raise ValueError(
                f"frames must be multiples of {frames}, height and width of {size} (what a token covers), got "
                f"{pixels.shape[1]} frames of {pixels.shape[3]} x {pixels.shape[4]}"
            )
        return pixels.to(next(self.parameters()).dtype)


class FluxHead(nn.Module):
    """The head of one budget: modules under the names that they have in the model."""

    def __init__(self, modules: Mapping[str, nn.Module | None]):
        super().__init__()
        for name, module in modules.items():
            setattr(self, name, module)


class FluxVideoClassifier(_FluxVideoModule, FluxModel):
    """A classifier on such an encoder, its `base_model`. A family's class has it before the stock class and gives
    `pool_tokens` and the names below."""

    # Names of the modules behind the encoder, in `head_owner`; those of a budget's own head are copies of them. The
    # last one is the linear classifier.
    head_modules = ("classifier",)
    # Where, in this model, the layers of the encoder are, and what lies before them.
    layers_path = ""
    embeddings_paths: tuple[str, ...] = ()

    # The losses are means over the batch, whatever the Trainer accumulates.
    accepts_loss_kwargs = False

    def pool_tokens(self, hidden_states: torch.Tensor, head: nn.Module) -> torch.Tensor:
        """Tokens after the encoder -> feature (batch, width). `head` has the modules that `head_modules` names: it is
        `head_owner` or a `FluxHead`."""
        raise NotImplementedError

    @property
    def flux_encoder(self) -> FluxVideoModel:
        return self.base_model

    @property
    def head_owner(self) -> nn.Module:
        """The module that has `head_modules`."""
        return self

    @property
    def patch_shape(self) -> tuple[int, int]:
        return self.flux_encoder.patch_shape

    @property
    def native_grid(self) -> tuple[int, int, int]:
        """(frames, height, width) in frames and pixels of the clips that the stock model takes."""
        return self.flux_encoder.native_grid

    @property
    def num_channels(self) -> int:
        return self.flux_encoder.num_channels

    @property
    def token_budgets(self) -> list[int]:
        if self.flux_settings.token_budgets is not None:
            return list(self.flux_settings.token_budgets)
        if self.flux_settings.token_budget is not None:
            return [self.flux_settings.token_budget]
        return [math.prod(tokens_of_native_grid(self))]

    def set_token_budgets(self, token_budgets: list[int]) -> None:
        budgets, before = check_token_budgets(token_budgets), self.token_budgets
        if self.flux_settings.heads_per_budget and budgets != before:
            self._set_heads([self._modules_of_head(self._head(budget)) for budget in budgets])
        if self.flux_settings.token_budget in set(before) - set(budgets):
            self.flux_settings.token_budget = budgets[0]
        if budgets != before:
            self.flux_settings.adaptive_budget = None  # calibrated at others
        self.flux_settings.token_budgets = budgets

    def head_budget(self, num_tokens: int) -> int | None:
        if not self.flux_settings.heads_per_budget:
            return None
        return min(self.token_budgets, key=lambda budget: abs(budget - num_tokens))

    @property
    def label_names(self) -> list[str]:
        if hasattr(self.flux_settings, "id2label"):
            return super().label_names
        classes = getattr(self.head_owner, self.head_modules[-1]).out_features
        return [f"LABEL_{index}" for index in range(classes)]  # as Transformers names them

    def set_labels(self, label_names: list[str], rows: list[int] | None = None) -> None:
        if rows != list(range(len(self.label_names))):
            self.flux_settings.adaptive_budget = None  # calibrated with other classes
        for head in self._heads():
            old = getattr(head, self.head_modules[-1])
            if not isinstance(old, nn.Linear):
                raise ValueError(f"{type(self).__name__} has no classifier: make it with a number of labels")
            like = old.weight
            new = nn.Linear(
                old.in_features, len(label_names), bias=old.bias is not None, device=like.device, dtype=like.dtype
            )
            with torch.no_grad():
                if rows is None:
                    if isinstance(self, PreTrainedModel):
                        self._init_weights(new)
                else:
                    new.weight.copy_(like[rows])
                    if new.bias is not None:
                        new.bias.copy_(old.bias[rows])
            setattr(head, self.head_modules[-1], new)
        self.rename_labels(label_names)
        self.num_labels = len(label_names)

    @property
    def num_layers(self) -> int:
        return len(self.get_submodule(self.layers_path))

    def parameter_layer(self, name: str) -> int:
        if name.startswith(f"{self.layers_path}."):
            return int(name.removeprefix(f"{self.layers_path}.").partition(".")[0]) + 1
        before = any(name == path or name.startswith(f"{path}.") for path in self.embeddings_paths)
        return 0 if before else self.num_layers + 1

    def freeze_encoder(self) -> None:
        behind = {id(parameter) for head in self._heads() for parameter in _parameters_of(head, self.head_modules)}
        for parameter in self.parameters():
            if id(parameter) not in behind:
                parameter.requires_grad_(False)
        for module in self.flux_encoder.modules():
            if hasattr(module, "drop_prob"):
                module.drop_prob = 0.0

    def post_init(self) -> None:
        super().post_init()
        self.make_heads()

    def make_heads(self) -> None:
        """The heads that the settings ask for, copies of the model's."""
        if self.flux_settings.heads_per_budget:
            self.budget_heads = nn.ModuleList(
                FluxHead(self._modules_of_head(self.head_owner)) for _ in self.token_budgets[1:]
            )

    def forward(
        self,
        pixel_values_videos: torch.Tensor | None = None,
        *,
        token_budget: int | torch.Tensor | str | None = None,
        token_budgets: list[int] | None = None,
        keep_mask: torch.BoolTensor | None = None,
        token_selection=None,
        num_views: int = 1,
        labels: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        return_dict: bool | None = None,
        **kwargs,
    ) -> FluxViTClassifierOutput | FluxViTMultiBudgetOutput | tuple:
        """See [`FluxModel`]; `pixel_values` is another name for the pixels, `return_dict=False` gives a tuple, `kwargs`
        are those of the stock forward."""
        pixels = _one_of(pixel_values_videos, pixel_values)
        if isinstance(token_budget, str) and token_budget == AUTO:
            excluded = {"token_budgets": token_budgets, "keep_mask": keep_mask, "labels": labels}
            settings = settings_of_call(self, len(pixels), num_views, **excluded, **self._layers_asked_for(kwargs))
            return self._as_asked(
                self._answer_by_budget(settings, pixels, token_selection, num_views, **kwargs), return_dict
            )
        if token_budgets is not None and labels is not None:
            raise ValueError("token_budgets excludes labels")
        outputs = self._encoded(
            pixels,
            token_budget=token_budget,
            token_budgets=token_budgets,
            keep_mask=keep_mask,
            token_selection=token_selection,
            return_dict=True,
            **kwargs,
        )
        if token_budgets is not None:
            heads = [self._head_for(output) for output in outputs]
            pooled = [self.pool_tokens(o.last_hidden_state, head) for o, head in zip(outputs, heads, strict=True)]
            several = FluxViTMultiBudgetOutput(
                logits=tuple(self._classify(feature, head) for feature, head in zip(pooled, heads, strict=True)),
                pooler_output=tuple(pooled),
                aligned=tuple(nn.functional.normalize(feature.float(), dim=-1) for feature in pooled[1:]),
                keep_mask=tuple(output.keep_mask for output in outputs),
            )
            return self._as_asked(several, return_dict)
        head = self._head_for(outputs)
        pooled = self.pool_tokens(outputs.last_hidden_state, head)
        logits, loss = self._classify(pooled, head), None
        if labels is not None:
            loss = self._loss(labels, logits)
            if self.training:
                for other in self._heads():
                    if other is not head:  # learns, too; the value of the loss is that of the head in use
                        answer = self._classify(self.pool_tokens(outputs.last_hidden_state.detach(), other), other)
                        learnt = self._loss(labels, answer)
                        loss = loss + (learnt - learnt.detach())
        output = FluxViTClassifierOutput(
            loss=loss,
            logits=logits,
            pooler_output=pooled,
            keep_mask=outputs.keep_mask,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )
        return self._as_asked(output, return_dict)

    def _layers_asked_for(self, kwargs: dict) -> dict[str, bool | None]:
        """Outputs of the layers that a call or the configuration asks for; taken out of the call's."""
        names = ("output_hidden_states", "output_attentions")
        return {name: kwargs.pop(name, getattr(self.flux_settings, name, None)) for name in names}

    def _answer_by_budget(self, settings, pixels, token_selection, num_views, **kwargs) -> FluxViTClassifierOutput:
        encoder = self.flux_encoder
        rule, scores = listened(token_selection or encoder.token_selection)
        tokens, selected = encoder.select_tokens(pixels, settings.token_budgets[::-1], None, rule)
        selected.reverse()
        masks = [mask for _, mask in selected]

        def answer(place: int, rows: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
            count, mask = selected[place]
            chosen = tokens
            if rows is not None:
                chosen, mask = tokens[rows], None if mask is None else mask[rows]
            encoded = encoder.encode_selected(chosen, count, mask, **kwargs)
            head = self._head_for(encoded)
            pooled = self.pool_tokens(encoded.last_hidden_state, head)
            return self._classify(pooled, head), pooled

        return FluxViTClassifierOutput(**sure_answers(settings, masks, next(iter(scores), None), answer, num_views))

    def _encoded(self, pixels: torch.Tensor, **kwargs) -> FluxVideoModelOutput | tuple[FluxVideoModelOutput, ...]:
        encoder = self.flux_encoder
        if isinstance(encoder, FluxVideoClassifier):  # calling it would give logits
            return FluxVideoModel.forward(encoder, pixels, **kwargs)
        return encoder(pixels, **kwargs)

    def _loss(self, labels: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """That of Transformers, by `config.problem_type`; cross entropy in a model that is none of Transformers'."""
        if isinstance(self, PreTrainedModel):
            return self.loss_function(labels, logits, self.config)
        return nn.functional.cross_entropy(logits, labels)

    def _classify(self, pooled: torch.Tensor, head: nn.Module) -> torch.Tensor:
        return getattr(head, self.head_modules[-1])(pooled)

    def _heads(self) -> list[nn.Module]:
        """The heads in the order of the budgets."""
        return [self.head_owner, *(self.budget_heads if self.flux_settings.heads_per_budget else ())]

    def _head(self, num_tokens: int) -> nn.Module:
        if not self.flux_settings.heads_per_budget:
            return self.head_owner
        return self._heads()[self.token_budgets.index(self.head_budget(num_tokens))]

    def _head_for(self, output: FluxVideoModelOutput) -> nn.Module:
        return self._head(output.last_hidden_state.shape[1] - self.flux_encoder.prefix_tokens)

    def _modules_of_head(self, head: nn.Module) -> dict[str, nn.Module | None]:
        return {name: deepcopy(getattr(head, name)) for name in self.head_modules}

    def _set_heads(self, heads: list[dict[str, nn.Module | None]]) -> None:
        for name, module in heads[0].items():
            setattr(self.head_owner, name, module)
        self.budget_heads = nn.ModuleList(FluxHead(modules) for modules in heads[1:])


class FluxOneModuleClassifier(FluxVideoClassifier, FluxVideoModel):
    """A classifier that is its own encoder: layers and head are modules of one class, which gives what
    [`FluxVideoModel`] and [`FluxVideoClassifier`] ask for."""

    patch_shape = FluxVideoModel.patch_shape
    native_grid = FluxVideoModel.native_grid
    num_channels = FluxVideoModel.num_channels

    @property
    def flux_encoder(self) -> FluxVideoModel:
        return self


def family(classes: Mapping[type, type]) -> Mapping[type, type]:
    """Tell the models' classes of a family, class of a module -> its class with token selection, of the others."""
    for flux in classes.values():
        if issubclass(flux, FluxVideoModel | FluxVideoClassifier):
            flux.flux_classes = classes
    return classes


def swap_classes(model: nn.Module, classes: Mapping[type, type]) -> None:
    """Give every module of a class in `classes` the other class, in place."""
    names = {before.__name__: after.__name__ for before, after in classes.items()}
    for module in model.modules():
        if type(module) in classes:
            module.__class__ = classes[type(module)]
            if isinstance(module, PreTrainedModel):
                # Which outputs can be recorded is looked up by the name of the class, which `__init__` notes.
                dict.__setitem__(_CAN_RECORD_REGISTRY, str(type(module)), module._can_record_outputs)
                # By these names FSDP and device maps find what to keep whole.
                module._no_split_modules = {names.get(name, name) for name in module._no_split_modules or ()}


def on_grid(table: torch.Tensor, positions: torch.Tensor | None) -> torch.Tensor:
    """The rows of a grid's position table (tokens, channels) for chosen tokens: (1, tokens, channels) or (batch, kept,
    channels)."""
    return table[None] if positions is None else table[positions]


def square_patch(size: int | list[int] | tuple[int, ...]) -> int:
    """The side of a patch in pixels; raises UnsupportedModelError for one that is no square."""
    sides = {size} if isinstance(size, int) else set(size)
    if len(sides) > 1:
        raise UnsupportedModelError(f"patches must be squares, the model has {size}")
    return sides.pop()


def tokens_of_native_grid(model: FluxVideoModel) -> tuple[int, int, int]:
    """The native grid in tokens: (frames, rows, columns)."""
    (frames, height, width), (duration, size) = model.native_grid, model.patch_shape
    return frames // duration, height // size, width // size


def height_and_width(size: int | list[int] | tuple[int, ...]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else tuple(size)


def _parameters_of(head: nn.Module, names: tuple[str, ...]):
    modules = (getattr(head, name) for name in names)
    return itertools.chain.from_iterable(module.parameters() for module in modules if module is not None)


def _one_of(pixel_values_videos: torch.Tensor | None, pixel_values: torch.Tensor | None) -> torch.Tensor:
    if (pixel_values_videos is None) == (pixel_values is None):
        raise ValueError("give the frames as pixel_values_videos or as pixel_values")
    return pixel_values if pixel_values_videos is None else pixel_values_videos


__all__ = [
    "FluxOneModuleClassifier",
    "FluxSettings",
    "FluxVideoClassifier",
    "FluxVideoModel",
    "FluxVideoModelOutput",
    "UnsupportedModelError",
    "family",
    "height_and_width",
    "on_grid",
    "square_patch",
    "swap_classes",
    "tokens_of_native_grid",
]

"""`enable_flux` and `disable_flux`: token selection switched on and off in a model, in place."""

from copy import deepcopy
from dataclasses import fields

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

from flux_hf.modeling.flux_model_fluxvit import as_token_budget, check_token_budgets
from flux_hf.modeling.flux_video_model import FluxSettings, FluxVideoClassifier, FluxVideoModel, swap_classes
from flux_hf.modeling.token_selection_fluxvit import GROUP_DYNAMIC, selection_name, selection_rule
from flux_hf.plugin.adapters import classes_for, stock_classes_of

logger = logging.get_logger(__name__)


def enable_flux(
    model: nn.Module,
    token_budget: int | None = None,
    *,
    token_budgets: list[int] | None = None,
    heads_per_budget: bool = False,
    token_selection=GROUP_DYNAMIC,
) -> nn.Module:
    """Switch token selection on in a video transformer, in place: its forward then takes any grid that divides into its
    patches, and `token_budget`, `token_budgets`, `keep_mask` and `token_selection`, as [`FluxModel`] says. Its
    parameters and their names stay. With all tokens kept, on the grid it was made for, it answers as before.

    Args:
        model: a video transformer of a known family (`register_flux_adapter` adds one), not wrapped.
        token_budget: tokens to keep where a call does not say it; None keeps all.
        token_budgets: budgets the model is to be trained at, descending. Default: `token_budget` alone.
        heads_per_budget: give each of `token_budgets` a head of its own, which starts as a copy of the model's.
        token_selection: the rule that selects, a name or a function, see `register_selection_rule`.

    Returns:
        The model.

    Raises:
        UnsupportedModelError: tokens cannot be left out in this model, or nobody has said how; a ValueError.
        ValueError: a budget or rule makes no sense.
    """
    settings = FluxSettings(
        token_budget=as_token_budget(token_budget, None),
        token_budgets=None if token_budgets is None else check_token_budgets(token_budgets),
        heads_per_budget=heads_per_budget,
        token_selection=selection_name(selection_rule(token_selection)),
    )
    enabled = isinstance(model, FluxVideoModel | FluxVideoClassifier)
    classes = model.flux_classes if enabled else classes_for(model)
    flux_class = type(model) if enabled else classes[type(model)]
    flux_class.check_model(model)
    if heads_per_budget and not issubclass(flux_class, FluxVideoClassifier):
        raise ValueError(f"heads_per_budget: {type(model).__name__} has no head")
    if enabled:
        disable_flux(model)
    config = getattr(model, "config", None)
    if isinstance(config, PreTrainedConfig):
        _set_config(model, _with_settings(config, settings, flux_class))
    else:
        model._flux_settings = settings
    _swap(model, classes)
    model.token_selection = token_selection
    if isinstance(model, FluxVideoClassifier):
        model.make_heads()
    return model


def disable_flux(model: nn.Module) -> nn.Module:
    """Make a model on which `enable_flux` was called, or that was loaded with selection on, the stock model again, in
    place: what it saves is loaded by Transformers alone. Of several heads the one of the largest budget stays.

    Returns:
        The model.

    Raises:
        UnsupportedModelError: the model has no selection to switch off.
    """
    classes = stock_classes_of(model)
    if getattr(model, "budget_heads", None) is not None:
        logger.warning(f"the head for {model.token_budgets[0]} tokens stays, those for other budgets go")
        del model.budget_heads
    vars(getattr(model, "base_model", model)).pop("_own_selection", None)
    stock_class = classes[type(model)]
    if issubclass(stock_class, PreTrainedModel):
        _set_config(model, _without_settings(model.config, stock_class.config_class))
    _swap(model, classes)
    for module in model.modules():
        module.__dict__.pop("_flux_settings", None)
    return model


def _with_settings(config: PreTrainedConfig, settings: FluxSettings, flux_class: type) -> PreTrainedConfig:
    config = _as_class(config, flux_class.config_class)
    for field in fields(FluxSettings):
        setattr(config, field.name, getattr(settings, field.name))
    return config


def _without_settings(config: PreTrainedConfig, stock_config: type[PreTrainedConfig]) -> PreTrainedConfig:
    config = _as_class(config, stock_config)
    for name in [field.name for field in fields(FluxSettings)] + ["auto_map"]:
        config.__dict__.pop(name, None)
    return config


def _as_class(config: PreTrainedConfig, config_class: type[PreTrainedConfig]) -> PreTrainedConfig:
    config = deepcopy(config)
    config.__class__ = config_class
    config.__dict__.pop("model_type", None)  # one that was loaded has it from its file
    return config


def _swap(model: nn.Module, classes) -> None:
    """As `swap_classes`; without the names in the file that the model came from, which are those of the class it had:
    what it saves would be loaded as another class, which does not know them."""
    swap_classes(model, classes)
    model.__dict__.pop("_weight_conversions", None)


def _set_config(model: nn.Module, config: PreTrainedConfig) -> None:
    """Give the model, and what in it has the same one, this configuration. One that others share is not changed."""
    before = model.config
    for module in model.modules():
        if getattr(module, "config", None) is before:
            module.config = config

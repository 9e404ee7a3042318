"""Which class a model gets when Flux is switched on, and why some get none."""

from collections.abc import Mapping
from importlib import import_module

from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForVideoClassification,
    AutoVideoProcessor,
    PreTrainedModel,
)

from flux_hf.modeling.flux_video_model import (
    FluxSettings,
    FluxVideoClassifier,
    FluxVideoModel,
    UnsupportedModelError,
    family,
)
from flux_hf.processing.video_processing_fluxvit import FluxVideoProcessor

_OF_IMAGES = "it is a model of images, one at a time; timm's VisionTransformer of such weights takes clips"
UNSUPPORTED = {
    **dict.fromkeys(("FluxViTModel", "FluxViTForVideoClassification"), "it selects tokens by itself"),
    "videoprism": "its layers see space and time apart, frames as entries of the batch",
    "xclip": "its layers see one frame at a time",
    "VideoMAEForPreTraining": "it masks tokens itself (`bool_masked_pos`) and its decoder needs their places; enable "
    "Flux in a VideoMAEModel or VideoMAEForVideoClassification",
    "Eva": "its rotary positions have no adapter",
    **dict.fromkeys(
        ("beit", "clip", "clip_vision_model", "deit", "dinov2", "dinov2_with_registers", "dinov3_vit", "siglip"),
        _OF_IMAGES,
    ),
    **dict.fromkeys(("siglip_vision_model", "siglip2", "siglip2_vision_model", "vit", "vit_mae"), _OF_IMAGES),
}
"""model_type or name of a class -> why tokens of a clip cannot be left out in it."""

_WRAPPED = ("_orig_mod", "base_model", "module")
"""Where torch.compile, peft and the parallel classes of torch have the model."""

_FAMILIES: dict[type[nn.Module], Mapping[type, type]] = {}
"""stock class of a model -> its family"""


def register_flux_adapter(classes: Mapping[type[nn.Module], type[nn.Module]]) -> None:
    """Make a family of models known to `enable_flux`.

    Args:
        classes: class of a module -> its class with token selection, a subclass. Of these the models' are subclasses of
            `FluxVideoModel` (encoders) or `FluxVideoClassifier`; the others are of modules in them. Exactly these
            classes are meant, a subclass has an entry of its own. A model of Transformers needs a `config_class` of its
            own, a subclass of `FluxSettings` with its own `model_type`: the Auto classes load what it saves.

    Raises:
        TypeError: a class is no subclass of the one it replaces, none of them is a model's, or a `config_class` is no
            subclass of `FluxSettings`, or has the `model_type` of the stock one.
    """
    for stock, flux in classes.items():
        if not issubclass(flux, stock):
            raise TypeError(f"{flux.__name__} must be a subclass of {stock.__name__}, whose place it takes")
    models = {stock: flux for stock, flux in classes.items() if issubclass(flux, FluxVideoModel | FluxVideoClassifier)}
    if not models:
        raise TypeError("one of the classes must be a subclass of FluxVideoModel or FluxVideoClassifier")
    for stock, flux in models.items():
        if issubclass(flux, PreTrainedModel):
            _register_with_transformers(stock, flux)
        _FAMILIES[stock] = family(classes)


def _register_with_transformers(stock: type[PreTrainedModel], model: type[PreTrainedModel]) -> None:
    config, auto = model.config_class, AutoModel
    if not issubclass(config, FluxSettings) or config.model_type == stock.config_class.model_type:
        raise TypeError(
            f"{model.__name__}.config_class must be a subclass of FluxSettings with a model_type of its own, is "
            f"{config.__name__} with {config.model_type!r}"
        )
    if issubclass(model, FluxVideoClassifier):
        auto = AutoModelForVideoClassification
    AutoConfig.register(config.model_type, config, exist_ok=True)
    auto.register(config, model, exist_ok=True)
    AutoVideoProcessor.register(config, FluxVideoProcessor, exist_ok=True)
    config.register_for_auto_class("AutoConfig")
    model.register_for_auto_class(auto.__name__)


def classes_for(model: nn.Module) -> dict[type, type]:
    """The family's classes for a stock model.

    Raises:
        UnsupportedModelError: there are none; says why.
    """
    if type(model).__module__.startswith("timm.") or type(model).__name__.startswith("TimmWrapper"):
        register_flux_adapter(import_module("flux_hf.modeling.flux_timm").CLASSES)
    if type(model) in _FAMILIES:
        return _FAMILIES[type(model)]
    name = type(model).__name__
    inside = next((getattr(model, attribute) for attribute in _WRAPPED if hasattr(model, attribute)), None)
    if isinstance(inside, nn.Module) and not isinstance(model, PreTrainedModel):
        raise UnsupportedModelError(f"{name} is a wrapper around {type(inside).__name__}: enable Flux before wrapping")
    kind = getattr(getattr(model, "config", None), "model_type", None)
    reason = UNSUPPORTED.get(name) or UNSUPPORTED.get(kind)
    if reason is not None:
        raise UnsupportedModelError(f"{name}: {reason}")
    raise UnsupportedModelError(
        f"no adapter for {name}: there are adapters for {', '.join(known_models())} and timm's VisionTransformer; "
        "`register_flux_adapter` adds one"
    )


def stock_classes_of(model: nn.Module) -> dict[type, type]:
    """class with selection -> stock class, of the family of an enabled model."""
    if not isinstance(model, FluxVideoModel | FluxVideoClassifier):
        raise UnsupportedModelError(f"{type(model).__name__} is no model on which enable_flux was called")
    return {flux: stock for stock, flux in model.flux_classes.items()}


def known_models() -> list[str]:
    """Names of the models' classes that `enable_flux` takes, but for those of timm."""
    return sorted(stock.__name__ for stock in _FAMILIES)

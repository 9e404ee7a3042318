"""Which class a model gets when Flux is switched on, and why some get none."""

from collections.abc import Mapping

from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForVideoClassification,
    AutoVideoProcessor,
    PreTrainedModel,
)

from flux_hf.modeling.flux_video_model import FluxVideoClassifier, FluxVideoModel, UnsupportedModelError
from flux_hf.processing.video_processing_fluxvit import FluxVideoProcessor

UNSUPPORTED = {
    "videoprism": "its layers see space and time apart, frames as entries of the batch",
    "xclip": "its layers see one frame at a time",
}
"""model_type -> why tokens of a whole clip cannot be left out in its encoder."""

_FAMILIES: list[dict[type, type]] = []


def register_flux_adapter(classes: Mapping[type[nn.Module], type[nn.Module]]) -> None:
    """Make a family of models known to `enable_flux`.

    Args:
        classes: class of a module -> its class with token selection, a subclass. Of these the models' are subclasses of
            `FluxVideoModel` (encoders) or `FluxVideoClassifier`; the others are of modules in them. Exactly these
            classes are meant, a subclass has an entry of its own. Where a model's new class has a `config_class` of its
            own, a subclass of `FluxSettings` with its own `model_type`, the Auto classes load what it saves.

    Raises:
        TypeError: a class is no subclass of the one it replaces, or none of them is a model's.
    """
    for stock, flux in classes.items():
        if not issubclass(flux, stock):
            raise TypeError(f"{flux.__name__} must be a subclass of {stock.__name__}, whose place it takes")
    models = [flux for flux in classes.values() if issubclass(flux, FluxVideoModel | FluxVideoClassifier)]
    if not models:
        raise TypeError("one of the classes must be a subclass of FluxVideoModel or FluxVideoClassifier")
    for model in models:
        if issubclass(model, PreTrainedModel):
            _register_with_transformers(model)
    if dict(classes) not in _FAMILIES:
        _FAMILIES.append(dict(classes))


def _register_with_transformers(model: type[PreTrainedModel]) -> None:
    config, auto = model.config_class, AutoModel
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
    for classes in reversed(_FAMILIES):
        flux = classes.get(type(model))
        if flux is not None and issubclass(flux, FluxVideoModel | FluxVideoClassifier):
            return classes
    name, kind = type(model).__name__, getattr(getattr(model, "config", None), "model_type", None)
    if kind in UNSUPPORTED:
        raise UnsupportedModelError(f"{name}: {UNSUPPORTED[kind]}, so that tokens of a clip cannot be left out")
    raise UnsupportedModelError(
        f"no adapter for {name}: there are adapters for {', '.join(sorted(known_models()))}; `register_flux_adapter` "
        "adds one, and a model that is wrapped (by peft, torch.compile, ...) is enabled before"
    )


def stock_classes_of(model: nn.Module) -> dict[type, type]:
    """class with selection -> stock class, of the family of an enabled model."""
    for classes in _FAMILIES:
        if type(model) in classes.values():
            return {flux: stock for stock, flux in classes.items()}
    raise UnsupportedModelError(f"{type(model).__name__} is no model on which enable_flux was called")


def known_models() -> list[str]:
    """Names of the models' classes that `enable_flux` takes."""
    return [
        stock.__name__
        for classes in _FAMILIES
        for stock, flux in classes.items()
        if issubclass(flux, FluxVideoModel | FluxVideoClassifier)
    ]

"""Loading any checkpoint of a video classifier as a model with token selection."""

from pathlib import Path

from transformers import AutoConfig, AutoModelForImageClassification, AutoModelForVideoClassification
from transformers.utils import logging

from flux_hf.modeling.flux_model_fluxvit import FluxModel
from flux_hf.modeling.flux_video_model import FluxSettings, UnsupportedModelError
from flux_hf.plugin.adapters import UNSUPPORTED
from flux_hf.plugin.enabling import enable_flux
from flux_hf.processing.grid_fluxvit import as_grid
from flux_hf.processing.video_processing_fluxvit import FluxVideoProcessor

logger = logging.get_logger(__name__)

CONFIGURATION_SETTINGS = ("cache_dir", "revision", "subfolder", "token", "trust_remote_code")
"""Settings of `from_pretrained` that also say where the configuration is, and whether code may come with it."""


def load_video_classifier(checkpoint: str | Path, **settings) -> FluxModel:
    """A classifier of any family: FluxViT, one that was saved with selection on, or a stock model, in which selection
    is switched on (the log says so) with all tokens kept where a call names no budget.

    Args:
        checkpoint: folder or Hub id.
        settings: of `from_pretrained`.

    Raises:
        UnsupportedModelError: it has no classes, or tokens cannot be left out in this model; a ValueError.
    """
    of_configuration = {name: settings[name] for name in CONFIGURATION_SETTINGS if name in settings}
    config = AutoConfig.from_pretrained(checkpoint, **of_configuration)
    if config.model_type == "fluxvit_clip":
        raise UnsupportedModelError(
            f"{checkpoint}: it compares videos with sentences and has no classes of its own; what can be done with it: "
            "flux-hf evaluate --zero_shot, evaluate-retrieval, optimize-tokens --score, embed and search"
        )
    if config.model_type in UNSUPPORTED:
        reason = UNSUPPORTED[config.model_type]
        raise UnsupportedModelError(f"{checkpoint}: a model of the type {config.model_type}: {reason}")
    auto = AutoModelForImageClassification if config.model_type == "timm_wrapper" else AutoModelForVideoClassification
    model = auto.from_pretrained(checkpoint, **settings)
    if not isinstance(model, FluxModel):
        name = type(model).__name__
        try:
            enable_flux(model)
        except UnsupportedModelError as error:
            raise UnsupportedModelError(f"{checkpoint}: {error}") from error
        logger.warning(f"{checkpoint} is a {name} without token selection: it is switched on")
    return model


def load_video_processor(checkpoint: str | Path, model: FluxModel, **settings) -> FluxVideoProcessor:
    """The processor saved in the checkpoint, or, where that is none of ours, one for the model. A warning names grids
    that stock weights do not know.

    Args:
        settings: options of the processor, which win over saved ones.
    """
    try:
        saved, _ = FluxVideoProcessor.get_video_processor_dict(checkpoint)
    except OSError:
        saved = {}
    if saved.get("video_processor_type") == FluxVideoProcessor.__name__:
        processor = FluxVideoProcessor.from_pretrained(checkpoint, **settings)
    else:
        processor = FluxVideoProcessor.for_model(model, **settings)
    if isinstance(model.config, FluxSettings) and model.config.token_budget is model.config.token_budgets is None:
        _warn_of_new_grids(checkpoint, model, processor)
    return processor


def _warn_of_new_grids(checkpoint: str | Path, model: FluxModel, processor: FluxVideoProcessor) -> None:
    frames, *size = model.native_grid
    native = as_grid((frames, size))
    grids = {processor.choose_grid(budget) for budget in (None, *(processor.grids or {}))}
    if new := sorted(map(str, grids - {native})):
        logger.warning(f"{checkpoint}: stock weights know the grid {native} alone, clips come out on {', '.join(new)}")

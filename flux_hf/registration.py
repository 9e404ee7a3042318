"""Make the model type ``fluxvit`` known to the Auto classes of Transformers."""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForPreTraining,
    AutoModelForVideoClassification,
    AutoVideoProcessor,
)

from flux_hf.modeling.configuration_fluxvit import FluxViTConfig
from flux_hf.modeling.modeling_fluxvit import FluxViTForVideoClassification, FluxViTModel
from flux_hf.modeling.modeling_fluxvit_pretraining import FluxViTForPreTraining
from flux_hf.processing.video_processing_fluxvit import FluxVideoProcessor


def register() -> None:
    """Register configuration, models and video processor; calling it again changes nothing.

    Besides the lookup by model type, every class is marked for saving: ``save_pretrained`` then puts its source file
    beside the weights, and the saved folder also loads with ``trust_remote_code=True`` where flux_hf is not installed.
    The mark has to be there in every process, for a checkpoint that is loaded and saved again without it keeps its
    ``auto_map`` but loses the files this points to.
    """
    AutoConfig.register(FluxViTConfig.model_type, FluxViTConfig, exist_ok=True)
    AutoModel.register(FluxViTConfig, FluxViTModel, exist_ok=True)
    AutoModelForVideoClassification.register(FluxViTConfig, FluxViTForVideoClassification, exist_ok=True)
    AutoModelForPreTraining.register(FluxViTConfig, FluxViTForPreTraining, exist_ok=True)
    AutoVideoProcessor.register(FluxViTConfig, FluxVideoProcessor, exist_ok=True)

    FluxViTConfig.register_for_auto_class("AutoConfig")
    FluxViTModel.register_for_auto_class("AutoModel")
    FluxViTForVideoClassification.register_for_auto_class("AutoModelForVideoClassification")
    FluxViTForPreTraining.register_for_auto_class("AutoModelForPreTraining")
    FluxVideoProcessor.register_for_auto_class("AutoVideoProcessor")

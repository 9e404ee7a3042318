"""FluxViT video models for Transformers: classify a video at whatever token budget you can afford.

Importing this package registers the model type ``fluxvit`` with the Auto classes, so that
``AutoModelForVideoClassification``, ``AutoVideoProcessor`` and ``pipeline("video-classification")`` know it. The import
itself is light: where Transformers is not imported yet, registering is the last act of its import.
"""

from importlib import import_module as _import_module
from pathlib import Path as _Path
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if not (_Path(__file__).parent / "modeling").is_dir():
    # A source checkout: modeling/, processing/ and scripts/ lie beside this folder instead of inside it.
    __path__.append(str(_Path(__file__).resolve().parent.parent))

_HOME_OF = {
    "FluxVideoClassificationPipeline": "flux_hf.processing.pipeline_fluxvit",
    "FluxVideoProcessor": "flux_hf.processing.video_processing_fluxvit",
    "FluxViTClipConfig": "flux_hf.modeling.configuration_fluxvit_clip",
    "FluxViTClipModel": "flux_hf.modeling.modeling_fluxvit_clip",
    "FluxViTClipProcessor": "flux_hf.processing.processing_fluxvit_clip",
    "FluxViTConfig": "flux_hf.modeling.configuration_fluxvit",
    "FluxViTForPreTraining": "flux_hf.modeling.modeling_fluxvit_pretraining",
    "FluxViTForVideoClassification": "flux_hf.modeling.modeling_fluxvit",
    "FluxViTModel": "flux_hf.modeling.modeling_fluxvit",
    "FluxZeroShotVideoClassificationPipeline": "flux_hf.processing.zero_shot_pipeline_fluxvit",
    "SelectionRule": "flux_hf.modeling.token_selection_fluxvit",
    "UnsupportedModelError": "flux_hf.modeling.flux_video_model",
    "VideoDecodeError": "flux_hf.processing.video_source_fluxvit",
    "default_checkpoint": "flux_hf.checkpoints",
    "disable_flux": "flux_hf.plugin",
    "enable_flux": "flux_hf.plugin",
    "register_flux_adapter": "flux_hf.plugin",
    "register_selection_rule": "flux_hf.modeling.token_selection_fluxvit",
}

__all__ = [
    "FluxVideoClassificationPipeline",
    "FluxVideoProcessor",
    "FluxViTClipConfig",
    "FluxViTClipModel",
    "FluxViTClipProcessor",
    "FluxViTConfig",
    "FluxViTForPreTraining",
    "FluxViTForVideoClassification",
    "FluxViTModel",
    "FluxZeroShotVideoClassificationPipeline",
    "SelectionRule",
    "UnsupportedModelError",
    "VideoDecodeError",
    "__version__",
    "default_checkpoint",
    "disable_flux",
    "enable_flux",
    "register_flux_adapter",
    "register_selection_rule",
]

if TYPE_CHECKING:
    from flux_hf.checkpoints import default_checkpoint
    from flux_hf.modeling.configuration_fluxvit import FluxViTConfig
    from flux_hf.modeling.configuration_fluxvit_clip import FluxViTClipConfig
    from flux_hf.modeling.flux_video_model import UnsupportedModelError
    from flux_hf.modeling.modeling_fluxvit import FluxViTForVideoClassification, FluxViTModel
    from flux_hf.modeling.modeling_fluxvit_clip import FluxViTClipModel
    from flux_hf.modeling.modeling_fluxvit_pretraining import FluxViTForPreTraining
    from flux_hf.modeling.token_selection_fluxvit import SelectionRule, register_selection_rule
    from flux_hf.plugin import disable_flux, enable_flux, register_flux_adapter
    from flux_hf.processing.pipeline_fluxvit import FluxVideoClassificationPipeline
    from flux_hf.processing.processing_fluxvit_clip import FluxViTClipProcessor
    from flux_hf.processing.video_processing_fluxvit import FluxVideoProcessor
    from flux_hf.processing.video_source_fluxvit import VideoDecodeError
    from flux_hf.processing.zero_shot_pipeline_fluxvit import FluxZeroShotVideoClassificationPipeline


def __getattr__(name: str):
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(_import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF})


_import_module("flux_hf.registration").register_with_transformers()

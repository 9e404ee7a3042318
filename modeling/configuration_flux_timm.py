"""Configuration of a timm vision transformer with token selection; in a file that does not import timm."""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import AutoModelForVideoClassification, PreTrainedConfig
from transformers.utils import requires_backends

from .flux_video_model import FluxSettings


@strict
class FluxTimmConfig(FluxSettings, PreTrainedConfig):
    """See [`FluxSettings`] and `TimmWrapperConfig`, whose fields these are."""

    model_type = "flux_timm"

    architecture: str = "vit_base_patch16_224"
    initializer_range: float = 0.02
    do_pooling: bool = True
    model_args: dict[str, Any] | None = None

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs):
        """Also makes the model known to the Auto class, which would take an import of timm beforehand."""
        requires_backends(cls, ["timm"])
        from .flux_timm import FluxTimmForVideoClassification

        AutoModelForVideoClassification.register(cls, FluxTimmForVideoClassification, exist_ok=True)
        FluxTimmForVideoClassification.register_for_auto_class("AutoModelForVideoClassification")
        return super().from_dict(config_dict, **kwargs)


__all__ = ["FluxTimmConfig"]

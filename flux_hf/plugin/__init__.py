"""Flux for video transformers that people already run: `enable_flux` and what it needs."""

from flux_hf.modeling.flux_video_model import UnsupportedModelError
from flux_hf.plugin.adapters import register_flux_adapter
from flux_hf.plugin.enabling import disable_flux, enable_flux
from flux_hf.plugin.loading import load_video_classifier, load_video_processor

__all__ = [
    "UnsupportedModelError",
    "disable_flux",
    "enable_flux",
    "load_video_classifier",
    "load_video_processor",
    "register_flux_adapter",
]

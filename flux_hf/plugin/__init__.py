"""Flux for video transformers that people already run: `enable_flux` and what it needs."""

from flux_hf.modeling.flux_video_model import (
    FluxOneModuleClassifier,
    FluxSettings,
    FluxVideoClassifier,
    FluxVideoModel,
    UnsupportedModelError,
    on_grid,
    tokens_of_native_grid,
)
from flux_hf.modeling.position_embedding_fluxvit import interpolate_positions
from flux_hf.plugin.adapters import register_flux_adapter
from flux_hf.plugin.enabling import disable_flux, enable_flux
from flux_hf.plugin.loading import load_video_classifier, load_video_processor

__all__ = [
    "FluxOneModuleClassifier",
    "FluxSettings",
    "FluxVideoClassifier",
    "FluxVideoModel",
    "UnsupportedModelError",
    "disable_flux",
    "enable_flux",
    "interpolate_positions",
    "load_video_classifier",
    "load_video_processor",
    "on_grid",
    "register_flux_adapter",
    "tokens_of_native_grid",
]

"""Checkpoints on the Hub: the model card and the upload."""

from flux_hf.hub.model_card import build_model_card
from flux_hf.hub.push import PushOptions, push

__all__ = ["PushOptions", "build_model_card", "push"]

"""The models that are compared."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from flux_hf.modeling.configuration_fluxvit import FluxViTConfig
from flux_hf.modeling.modeling_fluxvit import FluxViTForVideoClassification

METHODS = ("plain", "flux_fixed", "flux_single", "flux_multi")


class NoLocalPosition(nn.Module):
    """Stands where the local position embedding was, and adds nothing."""

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(value)


def without_flux_modules(model: FluxViTForVideoClassification) -> FluxViTForVideoClassification:
    """The model as a plain ViT, changed in place: no norms around the patch projection (dual patch norm), no local
    position embedding in the attention, and a position table without scale and shift (global position embedding).

    Everything else, the RMS norms of the layers and the attention pooling, is the same as in FluxViT, so that a
    comparison is about the Flux modules alone. Checkpoints of such a model load only into such a model.
    """
    embedding = model.fluxvit.embeddings
    embedding.patch_embedding.norm_before = nn.Identity()
    embedding.patch_embedding.norm_after = nn.Identity()
    for parameter in (embedding.position_embedding.weight, embedding.position_embedding.bias):
        parameter.requires_grad_(False)  # 1 and 0
    for layer in model.fluxvit.encoder.layers:
        layer.attention.local_position = NoLocalPosition()
    return model


def build_model(method: str, config: FluxViTConfig) -> FluxViTForVideoClassification:
    """An untrained model of one of `METHODS`."""
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    model = FluxViTForVideoClassification(config)
    return without_flux_modules(model) if method == "plain" else model


def load_model(method: str, folder: str | Path) -> FluxViTForVideoClassification:
    """A trained model of one of `METHODS`, in eval mode. Raises RuntimeError when the weights are those of another."""
    model = build_model(method, FluxViTConfig.from_pretrained(folder))
    model.load_state_dict(load_file(Path(folder) / "model.safetensors"))
    return model.eval()

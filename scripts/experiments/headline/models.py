"""The models that are compared."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from flux_hf.modeling.configuration_fluxvit import FluxViTConfig
from flux_hf.modeling.modeling_fluxvit import FluxViTForVideoClassification
from flux_hf.training.starting_model import ModelChanges, starting_model

METHODS = ("plain", "flux_fixed", "flux_single", "flux_multi", "flux_few", "plain_few")
PLAIN = ("plain", "plain_few")


class NoLocalPosition(nn.Module):
    """Replaces the local position embedding and adds nothing."""

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(value)


@torch.no_grad()
def without_flux_modules(model: FluxViTForVideoClassification) -> FluxViTForVideoClassification:
    """The model as a plain ViT, changed in place: no norms around the patch projection (dual patch norm), no local
    position embedding in the attention, and a position table without scale and shift (global position embedding).

    Everything else, the RMS norms of the layers and the attention pooling, is the same as in FluxViT, so that a
    comparison is about the Flux modules alone. The scales of the norms go into the patch projection, those of the
    position table into the table. Checkpoints of such a model load only into such a model.
    """
    patches, positions = model.fluxvit.embeddings.patch_embedding, model.fluxvit.embeddings.position_embedding
    patches.projection.weight.mul_(patches.norm_before.weight * patches.norm_after.weight[:, None])
    patches.projection.bias.mul_(patches.norm_after.weight)
    patches.norm_before = patches.norm_after = nn.Identity()
    positions.table.mul_(positions.weight).add_(positions.bias)
    for parameter, value in ((positions.weight, 1.0), (positions.bias, 0.0)):
        parameter.requires_grad_(False).fill_(value)
    for layer in model.fluxvit.encoder.layers:
        layer.attention.local_position = NoLocalPosition()
    return model


def build_model(method: str, config: FluxViTConfig, start: str | None = None) -> FluxViTForVideoClassification:
    """The model of one of `METHODS` before training: random, or with the weights of the FluxViT checkpoint `start`, see
    `starting_model`, for the labels and the budgets of `config`."""
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    if start is None:
        model = FluxViTForVideoClassification(config)
    else:
        names = [config.id2label[index] for index in range(config.num_labels)]
        model = starting_model(
            names, checkpoint=start, changes=ModelChanges(head_token_budgets=config.head_token_budgets)
        )
        model.config.token_budget = config.token_budget
    return without_flux_modules(model) if method in PLAIN else model


def load_model(method: str, folder: str | Path) -> FluxViTForVideoClassification:
    """A trained model of one of `METHODS`, in eval mode. Raises RuntimeError when the weights are those of another."""
    model = build_model(method, FluxViTConfig.from_pretrained(folder))
    model.load_state_dict(load_file(Path(folder) / "model.safetensors"))
    return model.eval()

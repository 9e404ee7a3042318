"""Which parameters learn how fast and which decay."""

import re
from collections.abc import Iterable

from torch import nn

LAYER = re.compile(r"encoder\.layers\.(\d+)\.")
FIRST = ("embeddings.patch_embedding.", "embeddings.cls_token", "position_embedding.cls", "position_embedding.table")
WRAPPERS = re.compile(r"_fsdp_wrapped_module\.|_orig_mod\.|_checkpoint_wrapped_module\.|^module\.")


def parameter_groups(
    parameters: Iterable[tuple[str, nn.Parameter]],
    *,
    num_layers: int,
    learning_rate: float,
    weight_decay: float,
    layer_decay: float = 1.0,
) -> list[dict]:
    """Optimiser groups with a learning rate and a weight decay each.

    Layer i of n (from 1) learns with `learning_rate` * `layer_decay`^(n + 1 - i); patch embedding, cls token and
    positions are layer 0; pooling heads, classifiers and the scale of the position table learn at the full rate
    (`optim_factory.py` of the official code). Norms, biases, positions, the cls token and per-channel affine maps do
    not decay. (The official code decays the weights of the affine maps: it stores them as 5-dimensional kernels.)

    Args:
        parameters: names and parameters of the model, wrapped or not; frozen ones are left out.
    """
    groups = {}
    for name, parameter in parameters:
        if not parameter.requires_grad:
            continue
        name = WRAPPERS.sub("", name)
        layer = LAYER.search(name)
        depth = int(layer[1]) + 1 if layer else 0 if any(part in name for part in FIRST) else num_layers + 1
        decays = parameter.ndim > 1 and not name.endswith(("cls_token", "position_embedding.cls", "table"))
        group = groups.setdefault(
            (depth, decays),
            {
                "params": [],
                "lr": learning_rate * layer_decay ** (num_layers + 1 - depth),
                "weight_decay": weight_decay if decays else 0.0,
            },
        )
        group["params"].append(parameter)
    return list(groups.values())


def freeze_backbone(model: nn.Module) -> None:
    """Leave only pooling heads, classifiers and alignment to train, and drop no layers any more."""
    for part in (model.fluxvit.embeddings, model.fluxvit.encoder):
        part.requires_grad_(False)
    for layer in model.fluxvit.encoder.layers:
        layer.drop_path_rate = 0.0

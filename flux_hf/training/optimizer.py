"""Which parameters learn how fast and which decay."""

import re
from collections.abc import Iterable

from torch import nn

# What wrappers put into the names of a model's parameters.
WRAPPERS = re.compile(r"_fsdp_wrapped_module\.|_orig_mod\.|_checkpoint_wrapped_module\.|^module\.|^base_model\.model\.")


def parameter_groups(
    model: nn.Module,
    parameters: Iterable[tuple[str, nn.Parameter]],
    *,
    learning_rate: float,
    weight_decay: float,
    layer_decay: float = 1.0,
) -> list[dict]:
    """Optimiser groups with a learning rate and a weight decay each.

    Layer i of n (from 1) learns with `learning_rate` * `layer_decay`^(n + 1 - i); what comes before the encoder (patch
    embedding, cls token, positions) is layer 0; what lies behind it learns at the full rate (`optim_factory.py` of the
    official code). Weights that are matrices or kernels decay. Norms, biases, positions, cls tokens and per-channel
    affine maps do not. (The official code decays the weights of the affine maps: it stores them as 5-dimensional
    kernels.)

    Args:
        model: a [`FluxModel`], or an adapter around one.
        parameters: names and parameters of the model, wrapped or not; frozen ones are left out.
    """
    groups, last = {}, model.num_layers + 1
    for name, parameter in parameters:
        if not parameter.requires_grad:
            continue
        depth = model.parameter_layer(WRAPPERS.sub("", name))
        decays = parameter.ndim > 1 and name.endswith("weight")
        group = groups.setdefault(
            (depth, decays),
            {
                "params": [],
                "lr": learning_rate * layer_decay ** (last - depth),
                "weight_decay": weight_decay if decays else 0.0,
            },
        )
        group["params"].append(parameter)
    return list(groups.values())

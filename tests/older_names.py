"""The names of weights in files, which are older than those in the model."""

import torch


def with_older_names(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """One matrix for query, key and value, and `classifiers`."""
    older = {name.replace("classifier.heads.", "classifiers."): tensor for name, tensor in tensors.items()}
    for layer in [name.removesuffix("query.weight") for name in older if name.endswith("attention.query.weight")]:
        parts = [older.pop(f"{layer}{part}.weight") for part in ("query", "key", "value")]
        older[f"{layer}qkv.weight"] = torch.cat(parts)
    return older

"""Converts official FluxViT checkpoints, every tensor of them."""

import torch

from flux_hf.conversion.labels import name_classes
from flux_hf.conversion.names import our_tensors, position_grid
from flux_hf.modeling.configuration_fluxvit import FluxViTConfig
from flux_hf.modeling.modeling_fluxvit import FluxViTForVideoClassification


def convert_official_state_dict(
    state_dict: dict[str, torch.Tensor],
    *,
    num_attention_heads: int | None = None,
    pooler_num_attention_heads: int = 16,
    hidden_act: str = "gelu_pytorch_tanh",
    id2label: dict[int, str] | None = None,
) -> FluxViTForVideoClassification:
    """Build a model from an official FluxViT state dict (OpenGVLab/FluxViT, `single_modality`).

    All sizes are read from the tensors. The tensor of the position table only says how many rows it has: 24 x 18 x 18
    (S) and 32 x 20 x 20 (B) are known by their length. For another length that frames x side x side is taken whose
    sine-cosine initialisation is nearest to the table.

    Args:
        state_dict: tensors under the official names.
        num_attention_heads: default hidden size / 64, which both released sizes use.
        pooler_num_attention_heads: heads of the pooling attention.
        hidden_act: MLP activation. Released weights were trained with the fused MLP, whose GELU is the tanh form.
        id2label: class names, default `LABEL_0`, ….

    Returns:
        The model in eval mode; its `head_token_budgets` are 3072, 2048, 1024 (training engine of the official code;
        the reverse order in its script comments is wrong).

    Raises:
        ValueError: naming keys that are missing, unknown or of the wrong shape.
    """
    config = _read_config(state_dict, num_attention_heads, pooler_num_attention_heads, hidden_act)
    name_classes(config, config.num_labels, id2label)

    model = FluxViTForVideoClassification(config)
    converted, unknown = {}, []
    for key, tensor in state_dict.items():
        if key == "pos_embed":
            converted["fluxvit.embeddings.position_embedding.cls"] = tensor[:, :1]
            converted["fluxvit.embeddings.position_embedding.table"] = tensor[0, 1:]
        elif not (ours := our_tensors(key, tensor)):
            unknown.append(key)
        else:
            converted |= ours
    expected = model.state_dict()
    missing = sorted(expected.keys() - converted.keys())
    unexpected = sorted(unknown) + sorted(converted.keys() - expected.keys())
    if missing or unexpected:
        raise ValueError(f"not an official FluxViT state dict: missing {missing}, unknown {unexpected}")
    for name, tensor in converted.items():
        if tensor.shape != expected[name].shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected {tuple(expected[name].shape)}")
    model.load_state_dict(converted)
    return model.eval()


def _read_config(
    state_dict: dict[str, torch.Tensor],
    num_attention_heads: int | None,
    pooler_num_attention_heads: int,
    hidden_act: str,
) -> FluxViTConfig:
    needed = ["patch_embed.proj.weight", "pos_embed", "blocks.0.mlp.fc1.weight", "head.0.weight", "fc_norm.weight"]
    missing = [key for key in needed if key not in state_dict]
    if missing:
        raise ValueError(f"not an official FluxViT state dict: missing {missing}")
    hidden_size, num_channels, tubelet_size, patch_size, _ = state_dict["patch_embed.proj.weight"].shape
    if tubelet_size != 1:
        raise ValueError(f"not an official FluxViT state dict: a patch spans {tubelet_size} frames, expected 1")
    frames, side = position_grid(state_dict["pos_embed"][0, 1:].float())
    return FluxViTConfig(
        hidden_size=hidden_size,
        num_hidden_layers=1 + max(int(key.split(".")[1]) for key in state_dict if key.startswith("blocks.")),
        num_attention_heads=num_attention_heads or hidden_size // 64,
        mlp_ratio=state_dict["blocks.0.mlp.fc1.weight"].shape[0] / hidden_size,
        hidden_act=hidden_act,
        patch_size=patch_size,
        num_channels=num_channels,
        position_frames=frames,
        position_size=side * patch_size,
        projection_dim=state_dict["fc_norm.weight"].shape[0],
        pooler_num_attention_heads=pooler_num_attention_heads,
        num_labels=state_dict["head.0.weight"].shape[0],
    )

"""Official FluxViT checkpoints into ours: the names of the tensors and the few that change shape."""

import re

import torch

from flux_hf.modeling.configuration_fluxvit import FluxViTConfig
from flux_hf.modeling.modeling_fluxvit import FluxViTForVideoClassification
from flux_hf.modeling.position_embedding_fluxvit import sine_cosine_table

_RENAMES = [
    (r"cls_token", r"fluxvit.embeddings.cls_token"),
    (r"gpe_proj\.depthwise_conv\.(weight|bias)", r"fluxvit.embeddings.position_embedding.\1"),
    (r"patch_embed\.proj\.(weight|bias)", r"fluxvit.embeddings.patch_embedding.projection.\1"),
    (r"patch_embed\.norm\.weight", r"fluxvit.embeddings.patch_embedding.norm_after.weight"),
    (r"patch_embed\.norm_before\.weight", r"fluxvit.embeddings.patch_embedding.norm_before.weight"),
    (r"blocks\.(\d+)\.norm1\.weight", r"fluxvit.encoder.layers.\1.attention_norm.weight"),
    (r"blocks\.(\d+)\.norm2\.weight", r"fluxvit.encoder.layers.\1.mlp_norm.weight"),
    (r"blocks\.(\d+)\.ls1\.gamma", r"fluxvit.encoder.layers.\1.attention_scale.weight"),
    (r"blocks\.(\d+)\.ls2\.gamma", r"fluxvit.encoder.layers.\1.mlp_scale.weight"),
    (r"blocks\.(\d+)\.attn\.qkv\.weight", r"fluxvit.encoder.layers.\1.attention.qkv.weight"),
    (r"blocks\.(\d+)\.attn\.proj\.(weight|bias)", r"fluxvit.encoder.layers.\1.attention.output.\2"),
    (r"blocks\.(\d+)\.attn\.q_norm\.weight", r"fluxvit.encoder.layers.\1.attention.query_norm.weight"),
    (r"blocks\.(\d+)\.attn\.k_norm\.weight", r"fluxvit.encoder.layers.\1.attention.key_norm.weight"),
    (
        r"blocks\.(\d+)\.attn\.lpe\.depthwise_conv\.(weight|bias)",
        r"fluxvit.encoder.layers.\1.attention.local_position.\2",
    ),
    (r"blocks\.(\d+)\.mlp\.fc1\.(weight|bias)", r"fluxvit.encoder.layers.\1.mlp.up.\2"),
    (r"blocks\.(\d+)\.mlp\.fc2\.(weight|bias)", r"fluxvit.encoder.layers.\1.mlp.down.\2"),
    (r"clip_projector\.(\d+)\.norm1_q\.(weight|bias)", r"fluxvit.poolers.\1.query_norm.\2"),
    (r"clip_projector\.(\d+)\.norm1_k\.(weight|bias)", r"fluxvit.poolers.\1.key_norm.\2"),
    (r"clip_projector\.(\d+)\.norm1_v\.(weight|bias)", r"fluxvit.poolers.\1.value_norm.\2"),
    (r"clip_projector\.(\d+)\.cross_attn\.q(?:\.(weight)|_(bias))", r"fluxvit.poolers.\1.query.\2\3"),
    (r"clip_projector\.(\d+)\.cross_attn\.k(?:\.(weight)|_(bias))", r"fluxvit.poolers.\1.key.\2\3"),
    (r"clip_projector\.(\d+)\.cross_attn\.v(?:\.(weight)|_(bias))", r"fluxvit.poolers.\1.value.\2\3"),
    (r"clip_projector\.(\d+)\.cross_attn\.proj\.(weight|bias)", r"fluxvit.poolers.\1.output.\2"),
    (r"fc_norm\.(weight|bias)", r"classifier_norm.\1"),
    (r"head\.(\d+)\.(weight|bias)", r"classifiers.\1.\2"),
    (r"final_clip_decoder_for_projs\.(\d+)\.head\.(weight|bias)", r"alignment_decoders.\1.projection.\2"),
    (r"final_clip_decoder_for_projs\.(\d+)\.norm\.(weight|bias)", r"alignment_decoders.\1.norm.\2"),
]

_POSITION_GRIDS = {7776: (24, 18), 12800: (32, 20)}


def convert_official_state_dict(
    state_dict: dict[str, torch.Tensor],
    *,
    num_attention_heads: int | None = None,
    pooler_num_attention_heads: int = 16,
    hidden_act: str = "gelu_pytorch_tanh",
    id2label: dict[int, str] | None = None,
) -> FluxViTForVideoClassification:
    """Build a model from an official FluxViT state dict (OpenGVLab/FluxViT, `single_modality`).

    All sizes are read from the tensors. Of the position table a tensor holds only the number of rows: 24 x 18 x 18 (S)
    and 32 x 20 x 20 (B) are known by it, of other lengths the frames x side x side is taken whose sine-cosine
    initialisation is nearest to the table.

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
    if id2label is not None:
        if len(id2label) != config.num_labels:
            raise ValueError(f"id2label names {len(id2label)} classes, the classifier has {config.num_labels}")
        config.id2label = dict(id2label)
        config.label2id = {name: index for index, name in id2label.items()}

    model = FluxViTForVideoClassification(config)
    converted, unknown = {}, []
    for key, tensor in state_dict.items():
        if key == "pos_embed":
            converted["fluxvit.embeddings.position_embedding.cls"] = tensor[:, :1]
            converted["fluxvit.embeddings.position_embedding.table"] = tensor[0, 1:]
        elif (name := _our_name(key)) is None:
            unknown.append(key)
        else:
            converted[name] = _our_shape(name, tensor)
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


def _our_name(key: str) -> str | None:
    for pattern, replacement in _RENAMES:
        match = re.fullmatch(pattern, key)
        if match:
            return match.expand(replacement)
    return None


def _our_shape(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Convolution weights lose their kernel axes; a patch is (row, column, channel), as the official norm reads it."""
    if tensor.ndim == 5 and name.endswith("projection.weight"):
        return tensor[:, :, 0].permute(0, 2, 3, 1).flatten(1)
    return tensor.flatten() if tensor.ndim == 5 else tensor


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
    hidden_size, num_channels, _, patch_size, _ = state_dict["patch_embed.proj.weight"].shape
    frames, side = _position_grid(state_dict["pos_embed"][0, 1:].float())
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


def _position_grid(table: torch.Tensor) -> tuple[int, int]:
    length = len(table)
    if length in _POSITION_GRIDS:
        return _POSITION_GRIDS[length]
    sides = (side for side in range(1, int(length**0.5) + 1) if length % side**2 == 0)
    grids = [(length // side**2, side) for side in sides]
    return max(grids, key=lambda grid: (table * sine_cosine_table((*grid, grid[1]), table.shape[1])).sum().item())

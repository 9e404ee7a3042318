"""ViTs without the Flux modules as a start for fine-tuning and pre-training.

InternVideo2's distilled models have FluxViT's backbone but no dual patch norm, no GPE and LPE, and one pooling head.
UMT's and VideoMAE's ViTs also have LayerNorms and biases that we do not have, fixed positions and no cls token. What
has a place in a FluxViT is taken over. The rest of the backbone starts as neutral as it can: LPE at zero, LayerScale at
one where the source has none.
"""

import re

import torch
from torch import nn

from flux_hf.conversion.labels import name_classes
from flux_hf.conversion.names import our_tensors, position_grid
from flux_hf.conversion.report import ConversionReport
from flux_hf.modeling.configuration_fluxvit import FluxViTConfig
from flux_hf.modeling.modeling_fluxvit import FluxViTForVideoClassification
from flux_hf.modeling.position_embedding_fluxvit import interpolate_positions

_ALIASES = [
    (r"(?:encoder|backbone)\.(.*)", r"\1"),
    (r"blocks\.(\d+)\.gamma_([12])", r"blocks.\1.ls\2.gamma"),
]
_ONE_HEAD = r"^(head|clip_projector)\.([a-z].*)$"
_KNOWN_GRIDS = {frames * 256: (frames, 16) for frames in (4, 8, 16)}
_USUAL_GRID = (8, 16)


def initialize_from_state_dict(
    state_dict: dict[str, torch.Tensor],
    *,
    config: FluxViTConfig | None = None,
    num_attention_heads: int | None = None,
    pooler_num_attention_heads: int = 16,
    hidden_act: str | None = None,
    id2label: dict[int, str] | None = None,
) -> tuple[FluxViTForVideoClassification, ConversionReport]:
    """Build a FluxViT that starts from another ViT's weights.

    The one pooling head and classifier of InternVideo2 start all of ours; UMT and VideoMAE classify the mean of the
    tokens, so that their classifiers stay behind. Patches of another size are resized bicubically, patches over several
    frames summed over them; a learned position table is fitted to the config's by linear (time) and bicubic (space)
    interpolation.

    Args:
        state_dict: tensors under the names of InternVideo2, UMT or VideoMAE, with or without `encoder.` or `backbone.`.
        config: sizes of the model to build. Default: what the tensors say; positions that are not in the file get a
            table of 8 x 16 x 16.
        num_attention_heads: without `config`; default hidden size / 64.
        pooler_num_attention_heads: without `config`.
        hidden_act: without `config`; default the tanh GELU for InternVideo2 (its fused MLP), else "gelu".
        id2label: class names; as many as the source's classifier has, where that is taken over.

    Returns:
        The model in eval mode, and what became of every tensor.

    Raises:
        ValueError: no ViT in the tensors, a `config` of another width or depth, or names that do not fit.
    """
    tensors = {_official_name(key): tensor for key, tensor in state_dict.items()}
    for key in ("patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "blocks.0.mlp.fc1.weight"):
        if key not in tensors:
            raise ValueError(f"not a state dict of InternVideo2, UMT or VideoMAE: {key} is missing")
    pooled = any(key.startswith("clip_projector.") for key in tensors)
    report = ConversionReport("InternVideo2" if "blocks.0.attn.q_norm.weight" in tensors else "ViT")
    if config is None:
        act = hidden_act or ("gelu" if report.family == "ViT" else "gelu_pytorch_tanh")
        config = _config_of(tensors, num_attention_heads, pooler_num_attention_heads, act)
    _check_backbone(config, tensors)
    name_classes(config, len(tensors["head.weight"]) if pooled and "head.weight" in tensors else None, id2label)

    model = FluxViTForVideoClassification(config)
    expected, converted = model.state_dict(), {}
    for original, tensor in state_dict.items():
        targets, resized = _targets(_official_name(original), tensor.float(), config, pooled)
        if not targets:
            report.unused[original] = "no such part in a FluxViT"
        for name, value in targets.items():
            if value.shape != expected[name].shape:
                report.unused[original] = f"shape {tuple(value.shape)}, ours is {tuple(expected[name].shape)}"
            else:
                converted[name] = value
                if name in resized:
                    report.resized[name] = resized[name]
                else:
                    report.loaded.append(name)
    model.load_state_dict(converted, strict=False)
    report.new = _start_new(model, [name for name in expected if name not in converted])
    return model.eval(), report


def _official_name(key: str) -> str:
    for pattern, replacement in _ALIASES:
        key = re.sub(f"^{pattern}$", replacement, key)
    return key


def _targets(key: str, tensor: torch.Tensor, config: FluxViTConfig, pooled: bool) -> tuple[dict, dict]:
    """Our names of one source tensor -> values (several for what all heads share), and those resized -> how."""
    positions = "fluxvit.embeddings.position_embedding"
    if key == "pos_embed":
        fitted, how = _fit_positions(tensor[0, 1:], config)
        table = f"{positions}.table"
        return {f"{positions}.cls": tensor[:, :1], table: fitted}, {table: how} if how else {}
    heads = range(len(config.head_token_budgets))
    keys = [re.sub(_ONE_HEAD, rf"\1.{head}.\2", key) for head in heads] if re.match(_ONE_HEAD, key) else [key]
    how = None
    if key == "patch_embed.proj.weight":
        tensor, how = _fit_patches(tensor, config.patch_size)
    ours = {name: value for each in keys for name, value in our_tensors(each, tensor).items()}
    if not pooled:
        ours = {name: value for name, value in ours.items() if name.startswith("fluxvit.e")}
    return ours, {name: how for name in ours if how}


def _fit_positions(table: torch.Tensor, config: FluxViTConfig) -> tuple[torch.Tensor, str | None]:
    frames, side = position_grid(table, _KNOWN_GRIDS)
    ours = config.position_frames, config.position_size // config.patch_size
    if (frames, side) == ours:
        return table, None
    stored, grid = (frames, side, side), (*ours, ours[1])
    return interpolate_positions(table, stored, grid), f"{frames}x{side}x{side} to {ours[0]}x{ours[1]}x{ours[1]}"


def _fit_patches(kernel: torch.Tensor, patch_size: int) -> tuple[torch.Tensor, str | None]:
    """(width, channels, frames, size, size) -> one frame of patch_size; even areas keep their response."""
    before = tuple(kernel.shape[2:])
    if before == (1, patch_size, patch_size):
        return kernel, None
    kernel = kernel.sum(2)
    if before[1] != patch_size:
        kernel = nn.functional.interpolate(kernel, size=(patch_size, patch_size), mode="bicubic", antialias=True)
        kernel = kernel * (before[1] / patch_size) ** 2
    return kernel[:, :, None], f"patches {'x'.join(map(str, before))} to 1x{patch_size}x{patch_size}"


@torch.no_grad()
def _start_new(model: FluxViTForVideoClassification, names: list[str]) -> dict[str, str]:
    parameters, starts = dict(model.named_parameters()), {}
    for name in names:
        starts[name] = "initial values of a new model"
        if name.endswith("local_position.weight"):
            parameters[name].zero_()
            starts[name] = "0, so that it has no effect yet"
        elif name.endswith("_scale.weight"):
            parameters[name].fill_(1.0)
            starts[name] = "1, the source has no LayerScale"
    return starts


def _config_of(
    tensors: dict[str, torch.Tensor], num_attention_heads: int | None, pooler_num_attention_heads: int, hidden_act: str
) -> FluxViTConfig:
    hidden_size, num_channels, _, patch_size, _ = tensors["patch_embed.proj.weight"].shape
    grid = _USUAL_GRID
    if "pos_embed" in tensors:
        grid = position_grid(tensors["pos_embed"][0, 1:].float(), _KNOWN_GRIDS)
    pooled = tensors.get("clip_projector.cross_attn.proj.weight")
    return FluxViTConfig(
        hidden_size=hidden_size,
        num_hidden_layers=_depth(tensors),
        num_attention_heads=num_attention_heads or hidden_size // 64,
        mlp_ratio=tensors["blocks.0.mlp.fc1.weight"].shape[0] / hidden_size,
        hidden_act=hidden_act,
        patch_size=patch_size,
        num_channels=num_channels,
        position_frames=grid[0],
        position_size=grid[1] * patch_size,
        projection_dim=768 if pooled is None else pooled.shape[0],
        pooler_num_attention_heads=pooler_num_attention_heads,
    )


def _depth(tensors: dict[str, torch.Tensor]) -> int:
    return 1 + max(int(key.split(".")[1]) for key in tensors if key.startswith("blocks."))


def _check_backbone(config: FluxViTConfig, tensors: dict[str, torch.Tensor]) -> None:
    mlp_width, hidden_size = tensors["blocks.0.mlp.fc1.weight"].shape
    for option, found, asked in (
        ("hidden_size", hidden_size, config.hidden_size),
        ("num_hidden_layers", _depth(tensors), config.num_hidden_layers),
        ("MLP width (hidden_size * mlp_ratio)", mlp_width, int(config.hidden_size * config.mlp_ratio)),
        ("num_channels", tensors["patch_embed.proj.weight"].shape[1], config.num_channels),
    ):
        if found != asked:
            raise ValueError(f"the config's {option} is {asked}, the checkpoint's {found}")

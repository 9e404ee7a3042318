"""ViTs without the Flux modules as a start for fine-tuning and pre-training.

InternVideo2's distilled models have FluxViT's backbone but no dual patch norm, no GPE and LPE, and one pooling head.
UMT's and VideoMAE's ViTs also have LayerNorms and biases that we do not have, and no cls token. What has a place in a
FluxViT is taken over; biases that act as a constant go into the biases that we have. The rest of the backbone starts as
neutral as it can: LPE at zero, LayerScale at one where the source has none.
"""

import copy
import re

import torch
from torch import nn

from flux_hf.conversion.labels import name_classes
from flux_hf.conversion.names import our_tensors
from flux_hf.conversion.report import ConversionReport
from flux_hf.conversion.source_positions import SourcePositions, source_positions
from flux_hf.modeling.configuration_fluxvit import FluxViTConfig
from flux_hf.modeling.modeling_fluxvit import FluxViTForVideoClassification
from flux_hf.modeling.position_embedding_fluxvit import interpolate_positions

_ALIASES = [
    (r"(?:encoder|backbone|vision_encoder)\.(.*)", r"\1"),
    (r"blocks\.(\d+)\.gamma_([12])", r"blocks.\1.ls\2.gamma"),
]
_ONE_HEAD = r"^(head|clip_projector)\.([a-z].*)$"
_CONSTANT = r"blocks\.\d+\.(attn\.v_bias|attn\.qkv\.bias|norm[12]\.bias)"
_REASONS = {"q_bias": "our queries have no bias"}
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

    The one pooling head and classifier of InternVideo2 start all of ours. UMT and VideoMAE classify the mean of the
    tokens, and InternVideo2's "cat" models several features, so that their classifiers stay behind. Patches of another
    size are resized bicubically, patches over several frames summed over them. The position table is fitted to the
    config's by linear (time) and bicubic (space) interpolation, see [`source_positions`].

    Biases of norms and values are added to those of the attention's output and of the MLP, which gives the same
    function. Queries have no bias here: that of the source, and the part of the norm's in queries and keys, is lost.

    Args:
        state_dict: tensors under the names of InternVideo2, UMT or VideoMAE, with or without `encoder.`, `backbone.` or
            `vision_encoder.`.
        config: sizes of the model to build. Default: what the tensors say.
        num_attention_heads: without `config`; default hidden size / 64.
        pooler_num_attention_heads: without `config`.
        hidden_act: default what the weights were trained with, also where `config` says otherwise: the tanh GELU for
            InternVideo2 (its fused MLP), else "gelu".
        id2label: class names; as many as the source's classifier has, where that is taken over.

    Returns:
        The model in eval mode, and what became of every tensor.

    Raises:
        ValueError: no ViT in the tensors, positions that fit no grid, a `config` of another width or depth, or names
            that do not fit.
    """
    tensors = {_official_name(key): tensor.float() for key, tensor in state_dict.items()}
    if len(tensors) < len(state_dict):
        names = [_official_name(key) for key in state_dict]
        twice = next(name for name in names if names.count(name) > 1)
        keys = [key for key in state_dict if _official_name(key) == twice]
        raise ValueError(f"two tensors of the file are {twice}: {', '.join(keys)}")
    for key in ("patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "blocks.0.mlp.fc1.weight"):
        if key not in tensors:
            raise ValueError(f"not a state dict of InternVideo2, UMT or VideoMAE: {key} is missing")
    report = ConversionReport("InternVideo2" if "blocks.0.attn.q_norm.weight" in tensors else "ViT")
    act = hidden_act or ("gelu" if report.family == "ViT" else "gelu_pytorch_tanh")
    positions = source_positions(tensors)
    if config is None:
        config = _config_of(tensors, positions, num_attention_heads, pooler_num_attention_heads, act)
    elif config.hidden_act != act:
        report.settings["hidden_act"] = f"{act} instead of the config's {config.hidden_act}"
        config = copy.deepcopy(config)
        config.hidden_act = act
    _check_backbone(config, tensors)
    if config.tubelet_size != 1:
        raise ValueError(f"config must have tubelet_size 1 to take over a checkpoint, got {config.tubelet_size}")
    classified = _has_our_classifier(tensors, config)
    name_classes(config, len(tensors["head.weight"]) if classified else None, id2label)

    model = FluxViTForVideoClassification(config)
    expected = model.state_dict()
    folded = _fold_constants(tensors)
    values = tensors | folded
    converted = {} if positions is None else _position_tensors(positions, config, report)
    for original in state_dict:
        key = _official_name(original)
        if positions is not None and key in positions.keys:
            continue
        if re.fullmatch(_CONSTANT, key):
            report.folded[original] = "into biases that have the same effect"
            continue
        if key.startswith("head.") and not classified:
            report.unused[original] = "a classifier of other features than our pooled one"
            continue
        targets, resized = _targets(key, values[key], config)
        targets = {name: value for name, value in targets.items() if name in expected}
        if not targets:
            report.unused[original] = _REASONS.get(key.rpartition(".")[2], "no such part in a FluxViT")
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
    report.new |= _start_new(model, [name for name in expected if name not in converted])
    return model.eval(), report


def _official_name(key: str) -> str:
    for pattern, replacement in _ALIASES:
        key = re.sub(f"^{pattern}$", replacement, key)
    return key


def _has_our_classifier(tensors: dict[str, torch.Tensor], config: FluxViTConfig) -> bool:
    """Whether the classifier reads the pooled feature alone: not in UMT and VideoMAE, which have no pooling head, and
    not in InternVideo2's "cat" models, which also read the mean and the cls token, normalised by `down_norm`."""
    weight, pooled = tensors.get("head.weight"), tensors.get("clip_projector.cross_attn.proj.weight")
    if weight is None or pooled is None or any(key.startswith("down_norm.") for key in tensors):
        return False
    return weight.shape[1] == pooled.shape[0] == config.projection_dim


def _fold_constants(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The biases of attention outputs and MLPs with those of norms and values in them. Weights of attention sum to
    one, so what is added to every value is added to the output."""
    folded = {}
    for block in {key.split(".")[1] for key in tensors if re.fullmatch(_CONSTANT, key)}:
        part = {
            key.removeprefix(f"blocks.{block}."): tensors[key] for key in tensors if key.startswith(f"blocks.{block}.")
        }
        value = part["attn.qkv.weight"].chunk(3)[2] @ part.get("norm1.bias", torch.zeros(part["norm1.weight"].shape))
        if "attn.qkv.bias" in part:
            value = value + part["attn.qkv.bias"].chunk(3)[2]
        if "attn.v_bias" in part:
            value = value + part["attn.v_bias"]
        folded[f"blocks.{block}.attn.proj.bias"] = part["attn.proj.bias"] + part["attn.proj.weight"] @ value
        if "norm2.bias" in part:
            folded[f"blocks.{block}.mlp.fc1.bias"] = part["mlp.fc1.bias"] + part["mlp.fc1.weight"] @ part["norm2.bias"]
    return folded


def _targets(key: str, tensor: torch.Tensor, config: FluxViTConfig) -> tuple[dict, dict]:
    """Our names of one source tensor -> values (several for what all heads share), and those resized -> how."""
    heads = range(len(config.head_token_budgets))
    keys = [re.sub(_ONE_HEAD, rf"\1.{head}.\2", key) for head in heads] if re.match(_ONE_HEAD, key) else [key]
    how = None
    if key == "patch_embed.proj.weight":
        tensor, how = _fit_patches(tensor, config.patch_size)
    ours = {name: value for each in keys for name, value in our_tensors(each, tensor).items()}
    return ours, {name: how for name in ours if how}


def _position_tensors(positions: SourcePositions, config: FluxViTConfig, report: ConversionReport) -> dict:
    name = "fluxvit.embeddings.position_embedding"
    grid, ours = positions.grid, (config.position_frames, config.position_size // config.patch_size)
    sizes = [f"{frames}x{side}x{side}" for frames, side in (grid, ours)]
    table = positions.table
    if grid != ours:
        table = interpolate_positions(table, (*grid, grid[1]), (*ours, ours[1]))
    if not positions.keys:
        report.new[f"{name}.table"] = f"sines and cosines of the source, {' to '.join(dict.fromkeys(sizes))}"
    elif grid != ours:
        report.resized[f"{name}.table"] = " to ".join(sizes)
    else:
        report.loaded.append(f"{name}.table")
    if positions.cls is None:
        return {f"{name}.table": table}
    report.loaded.append(f"{name}.cls")
    return {f"{name}.table": table, f"{name}.cls": positions.cls}


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
    tensors: dict[str, torch.Tensor],
    positions: SourcePositions | None,
    num_attention_heads: int | None,
    pooler_num_attention_heads: int,
    hidden_act: str,
) -> FluxViTConfig:
    hidden_size, num_channels, _, patch_size, _ = tensors["patch_embed.proj.weight"].shape
    frames, side = _USUAL_GRID if positions is None else positions.grid
    pooled = tensors.get("clip_projector.cross_attn.proj.weight")
    return FluxViTConfig(
        hidden_size=hidden_size,
        num_hidden_layers=_depth(tensors),
        num_attention_heads=num_attention_heads or hidden_size // 64,
        mlp_ratio=tensors["blocks.0.mlp.fc1.weight"].shape[0] / hidden_size,
        hidden_act=hidden_act,
        patch_size=patch_size,
        num_channels=num_channels,
        position_frames=frames,
        position_size=side * patch_size,
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

"""The DINOv2 encoder inside an ONNX file as a checkpoint of Transformers.

Exporters keep the names of most parameters but not of matrices, which they transpose and name by number, may cut the
position table in two, and keep one of several equal parameters. Matrices are found by the module that their product is
named after.
"""

from pathlib import Path

import torch
from transformers import Dinov2Config, Dinov2Model

from flux_hf.files import write_json

CLS = "embeddings.cls_token"
POSITIONS = "embeddings.position_embeddings"
PATCHES = "embeddings.patch_embeddings.projection.weight"
MLP = "encoder.layer.0.mlp.fc1.bias"
SIZED = (PATCHES, POSITIONS, MLP)
"""Parameters whose sizes are the model's."""
HEAD_DIM = 64
"""Of all DINOv2 models; an ONNX file does not say it."""


def extract_dinov2(
    onnx_file: str, folder: str, image_mean: list[float], image_std: list[float], layers: int | None = None
) -> Dinov2Config:
    """Write the encoder of `onnx_file` to `folder`: `model.safetensors`, `config.json` and, with mean and standard
    deviation of its input, `preprocessor_config.json`. Returns its configuration.

    Args:
        layers: keep that many, the first; the final norm follows the last of them. Default: all.

    Raises:
        ValueError: there is not exactly one encoder with the names of Transformers, a parameter of it is missing, or it
            has fewer layers.
    """
    state = _parameters(onnx_file)
    if missing := [name for name in SIZED if name not in state]:
        raise ValueError(f"{onnx_file}: the encoder lacks {', '.join(missing)}")
    depth = len({name.split(".")[2] for name in state if name.startswith("encoder.layer.")})
    if layers is not None and not 1 <= layers <= depth:
        raise ValueError(f"{onnx_file}: layers must be from 1 to {depth}, got {layers}")
    depth = layers or depth
    state = {name: v for name, v in state.items() if ".layer." not in name or int(name.split(".")[2]) < depth}
    patch = state[PATCHES]
    width, rows = state[CLS].shape[-1], round((state[POSITIONS].shape[1] - 1) ** 0.5)
    config = Dinov2Config(
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=width // HEAD_DIM,
        mlp_ratio=state[MLP].shape[0] // width,
        image_size=rows * patch.shape[-1],
        patch_size=patch.shape[-1],
        architectures=["Dinov2Model"],
    )
    state = {name: value.clone() for name, value in state.items()}  # exporters keep one of several equal parameters
    # Knows the names of parameters from before Transformers 5, which most files have, beside those of today.
    model, found = Dinov2Model.from_pretrained(None, config=config, state_dict=state, output_loading_info=True)
    if wrong := sorted({*found["missing_keys"], *found["unexpected_keys"], *found["mismatched_keys"]}):
        raise ValueError(f"{onnx_file}: the encoder lacks parameters or has others: {', '.join(map(str, wrong[:4]))}")
    home = Path(folder)
    model.save_pretrained(home)
    normalization = {"image_mean": image_mean, "image_std": image_std}
    sizes = {"size": {"shortest_edge": config.image_size}, "do_center_crop": False}
    processor = {"image_processor_type": "BitImageProcessor", **sizes, **normalization}
    write_json(home / "preprocessor_config.json", processor)
    return config


def _parameters(onnx_file: str) -> dict[str, torch.Tensor]:
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError as error:
        raise ValueError('reading an ONNX file needs the package onnx: pip install "flux_hf[export]"') from error

    try:
        graph = onnx.load(onnx_file).graph
    except OSError:
        raise
    except Exception as error:  # of protobuf, which is onnx's dependency, not ours
        raise ValueError(f"{onnx_file} is no ONNX file: {error}") from error
    values = {entry.name: torch.from_numpy(numpy_helper.to_array(entry).copy()) for entry in graph.initializer}
    for node in graph.node:
        if node.op_type == "Identity" and node.input[0] in values:
            values[node.output[0]] = values[node.input[0]]
    encoders = [name.removesuffix(CLS) for name in values if name.endswith(CLS)]
    if len(encoders) != 1:
        raise ValueError(f"{onnx_file} must hold one DINOv2 encoder, found {len(encoders)} parameters named {CLS}")
    prefix = encoders[0]
    state = {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
    for node in graph.node:
        module = node.name.strip("/").replace("/", ".")
        matrices = [values[name] for name in node.input if name in values]
        if node.op_type == "MatMul" and matrices and module.startswith(prefix):
            state[module.removeprefix(prefix).removesuffix("MatMul") + "weight"] = matrices[0].T.contiguous()
    if POSITIONS not in state:
        width = state[CLS].shape[-1]
        parts = [v for name, v in values.items() if not name.startswith(prefix) and v.shape[::2] == (1, width)]
        if parts:
            state[POSITIONS] = torch.cat(sorted(parts, key=lambda part: part.shape[1]), 1)
    # Takes the place of patches that are hidden in training; exports do not have it.
    state.setdefault("embeddings.mask_token", torch.zeros(1, state[CLS].shape[-1]))
    return state

"""Ways to run a classifier on a CPU, and what each of them answers. A run is for one budget: pixels to logits."""

from collections import defaultdict
from collections.abc import Callable
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path

import torch
from datasets import Dataset

from flux_hf.evaluation.figures import wilson_interval
from flux_hf.export import ExportOptions, export, load_onnx
from flux_hf.modeling.modeling_fluxvit import FluxViTForVideoClassification
from flux_hf.processing.video_processing_fluxvit import FluxVideoProcessor
from flux_hf.processing.video_source_fluxvit import VideoDecodeError
from flux_hf.processing.views_fluxvit import Views, read_views

Run = Callable[[torch.Tensor], torch.Tensor]
"""Pixels (clips, frames, channels, height, width) -> float32 logits (clips, labels)"""

REFERENCE = "float32"
"""The run that the answers of all others are compared with."""


def in_float32(model: FluxViTForVideoClassification, token_budget: int) -> Run:
    """The model as it is."""
    return lambda pixels: model(pixels, token_budget=token_budget).logits


def compiled(model: FluxViTForVideoClassification, token_budget: int) -> Run:
    """One graph of `torch.compile`, made at the first call for the shape of its pixels."""
    forward = torch.compile(model, fullgraph=True, dynamic=False)
    return lambda pixels: forward(pixels, token_budget=token_budget).logits


def in_bfloat16_weights(model: FluxViTForVideoClassification, token_budget: int) -> Run:
    """A copy of the model in bf16, as `--dtype bfloat16` makes it."""
    coarse = deepcopy(model).to(torch.bfloat16)
    return lambda pixels: coarse(pixels, token_budget=token_budget).logits.float()


def in_bfloat16(model: FluxViTForVideoClassification, token_budget: int) -> Run:
    """Under autocast."""

    def run(pixels: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return model(pixels, token_budget=token_budget).logits.float()

    return run


def has_bfloat16() -> bool:
    """Whether this CPU has instructions for bf16."""
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()


def exported(checkpoint: str, folder: Path, token_budget: int) -> dict[str, Run]:
    """The files of `flux-hf export --int8` in ONNX Runtime, written to `folder`: "onnx" in float32 and "onnx int8",
    whose matrix products are quantised dynamically. They take clips on the budget's grid. With "openvino", where that
    is installed, which runs the first of the files in float32 or, where the processor has it, "openvino bf16"."""
    export(ExportOptions(checkpoint, str(folder), token_budget, int8=True))
    sessions = {"onnx": load_onnx(folder / "model.onnx"), "onnx int8": load_onnx(folder / "model_int8.onnx")}
    if find_spec("openvino"):
        sessions |= openvino_sessions(folder / "model.onnx")
    return {name: (lambda pixels, run=run: torch.from_numpy(run(pixels))) for name, run in sessions.items()}


def openvino_sessions(path: Path) -> dict[str, Callable]:
    """The file in OpenVINO, as `load_onnx` has it in ONNX Runtime: in float32, and in what OpenVINO takes itself for
    this CPU, with bf16 where that has it."""
    import openvino

    core = openvino.Core()
    sessions = {}
    for name, settings in (("openvino", {"INFERENCE_PRECISION_HINT": "f32"}), ("openvino bf16", {})):
        threads = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "PERFORMANCE_HINT": "LATENCY"}
        compiled = core.compile_model(path, "CPU", settings | threads)
        sessions[name] = lambda clip, compiled=compiled: compiled([clip.numpy()])[0]
    return sessions


def inference_options(
    model: FluxViTForVideoClassification, checkpoint: str, folder: Path, token_budget: int
) -> dict[str, Run]:
    """All of the above by name, `REFERENCE` first; "bf16", which is autocast, and "bf16 weights" where the CPU has it.
    `model` is that of `checkpoint`."""
    runs = {REFERENCE: in_float32(model, token_budget), "compiled": compiled(model, token_budget)}
    if has_bfloat16():
        runs["bf16"] = in_bfloat16(model, token_budget)
        runs["bf16 weights"] = in_bfloat16_weights(model, token_budget)
    return runs | exported(checkpoint, folder, token_budget)


@torch.inference_mode()
def accuracy_of_options(
    dataset: Dataset, processor: FluxVideoProcessor, runs: dict[int, dict[str, Run]], label_ids: list[int]
) -> tuple[dict[int, dict[str, dict]], int]:
    """Classify every video by itself with every run at every budget, decoding it once; one clip, central crop.

    Args:
        dataset: as `load_video_dataset` returns it.
        runs: budget -> name -> run; `REFERENCE` among the names.
        label_ids: the model's class for each label of the data set.

    Returns:
        budget -> name -> `top1`, `top1_interval` (95 %) and `different` (answers that are not the reference's); and
        the number of videos that could not be read, which are in no figure.

    Raises:
        ValueError: no video can be read.
    """
    answers, labels = {budget: defaultdict(list) for budget in runs}, []
    for row in dataset:
        try:
            part = {name: row.get(name) for name in ("start", "end")}
            framings, pixels, _ = read_views(
                row["video"], processor, [(budget, None) for budget in runs], Views(), **part
            )
        except VideoDecodeError:
            continue
        labels.append(label_ids[row["label"]])
        for (budget, named), framing in zip(runs.items(), framings, strict=True):
            for name, run in named.items():
                answers[budget][name].append(int(run(pixels[framing]).argmax()))
    if not labels:
        raise ValueError("no video of the data set can be read")
    return {
        budget: {name: _figures(given, labels, named[REFERENCE]) for name, given in named.items()}
        for budget, named in answers.items()
    }, len(dataset) - len(labels)


def _figures(given: list[int], labels: list[int], reference: list[int]) -> dict:
    right = sum(answer == label for answer, label in zip(given, labels, strict=True))
    return {
        "top1": right / len(labels),
        "top1_interval": wilson_interval(right, len(labels)),
        "different": sum(answer != other for answer, other in zip(given, reference, strict=True)),
    }

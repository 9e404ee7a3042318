"""Exports for one grid, one budget and batches of any size, with the token selector inside: ONNX, torch.export, and
int8 for CPUs."""

from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from torch import nn

from flux_hf.checkpoints import check_weights, checkpoint_path
from flux_hf.files import whole_folder, write_json
from flux_hf.latency import machine, median_ms
from flux_hf.modeling.adaptive_budget_fluxvit import AUTO
from flux_hf.modeling.token_selection_fluxvit import selection_rule
from flux_hf.options import check_at_least, check_checkpoints, naming_option
from flux_hf.options.checkpoints import ExportOptions
from flux_hf.plugin import load_video_classifier, load_video_processor
from flux_hf.progress_bars import no_bars_for_folders

TOLERANCE = 1e-4
"""Largest difference of the logits, relative to the largest logit, that float exports may have from PyTorch."""

REPORT_FILE = "export.json"
_INPUT, _OUTPUT = "pixel_values_videos", "logits"
_BATCH = torch.export.Dim("batch", min=1, max=2**20)  # without a bound torch 2.7 refuses the largest number


class _Classifier(nn.Module):
    """Pixels to logits, with the budget as a constant."""

    def __init__(self, model: nn.Module, token_budget: int | None):
        super().__init__()
        self.model, self.token_budget = model, token_budget

    def forward(self, pixel_values_videos: torch.Tensor) -> torch.Tensor:
        return self.model(pixel_values_videos, token_budget=self.token_budget).logits


def export(options: ExportOptions) -> dict:
    """Write `model.onnx`, `model.pt2`, on demand `model_int8.onnx`, the configurations of model and processor, and
    `export.json` to `options.output_dir`.

    The processor's configuration gives every video the exported grid. Each export runs on a random clip, on one without
    any motion, where all tokens tie, and on both in one batch, and has to give PyTorch's logits.

    Returns:
        What `export.json` holds: `clip_shape` (frames, channels, height, width), `token_budget`, `labels`, `machine`,
        and `runs`: for "pytorch" and each file `milliseconds` (of one clip, median) and `difference` (largest
        difference from PyTorch's logits over the largest logit).

    Raises:
        ValueError: on options that do not fit, a checkpoint that is not there, or a model that cannot be exported.
        ImportError: onnx, onnxruntime or onnxscript is missing.
        RuntimeError: an export does not give PyTorch's logits.
    """
    check_at_least(1, options, "token_budget")
    check_checkpoints(checkpoint=options.checkpoint)
    _require_onnx()
    checkpoint = checkpoint_path(options.checkpoint)
    with no_bars_for_folders(checkpoint), naming_option("checkpoint", options.checkpoint):
        model = load_video_classifier(checkpoint, dtype=torch.float32)
        check_weights(model, checkpoint)
        processor = load_video_processor(checkpoint, model)
    if selection_rule(model.token_selection).random:
        raise ValueError(
            f"--checkpoint {options.checkpoint}: its token_selection {model.config.token_selection!r} draws tokens at "
            "random, and a file cannot be compared with PyTorch; set another rule in its config.json"
        )
    budget = options.token_budget or processor.token_budget or model.config.token_budget
    if budget == AUTO:
        raise ValueError(
            f'--checkpoint {options.checkpoint}: its processor has token_budget "{AUTO}", which depends on the answers '
            "and cannot be built into a file: give --token_budget"
        )
    processor, shape = _fixed_processor(processor, model.num_channels, budget)
    with whole_folder(options.output_dir) as folder:
        return _write(folder, model, processor, budget, shape, options.int8)


def _write(folder: Path, model, processor, budget: int | None, shape: tuple[int, ...], int8: bool) -> dict:
    processor.save_pretrained(folder)
    model.config.token_budget = budget
    model.config.save_pretrained(folder)

    classifier = _Classifier(model, budget)
    moving, still = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0)), torch.full((1, *shape), 0.5)
    clips = [moving, still, torch.cat([moving, still, -moving])]
    runs = {"pytorch": _eager(classifier)}
    with torch.no_grad():
        with _refused(model, "torch.export"):
            # Exporters take one clip, or none, for a size that never varies: the batch they see has several.
            program = torch.export.export(classifier, (clips[2],), dynamic_shapes=({0: _BATCH},), strict=False)
            content = BytesIO()  # PyTorch's own writer ends the process where the disk is full
            torch.export.save(program, content)
            (folder / "model.pt2").write_bytes(content.getvalue())
            runs["model.pt2"] = _eager(torch.export.load(folder / "model.pt2").module())
        with _refused(model, "torch.onnx.export"):
            torch.onnx.export(
                program, f=folder / "model.onnx", input_names=[_INPUT], output_names=[_OUTPUT], dynamo=True,
                external_data=False, verbose=False,
            )  # fmt: skip
    runs["model.onnx"] = load_onnx(folder / "model.onnx")
    if int8:
        quantize(folder / "model.onnx", folder / "model_int8.onnx")
        runs["model_int8.onnx"] = load_onnx(folder / "model_int8.onnx")
    measured = {name: _measure(run, runs["pytorch"], clips) for name, run in runs.items()}
    for name, result in measured.items():
        if result["difference"] > TOLERANCE and "int8" not in name:
            raise RuntimeError(f"{name} differs from PyTorch by {result['difference']:.2g}, over {TOLERANCE:g}")
    report = {
        "clip_shape": list(shape),
        "token_budget": budget,
        "labels": model.label_names,
        "machine": machine(),
        "runs": measured,
    }
    write_json(folder / REPORT_FILE, report)
    return report


@contextmanager
def _refused(model, exporter: str):
    """One line about a model that an exporter does not take, whatever the exporter raises."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"{type(model).__name__} cannot be exported: {exporter} says: {reason}") from error


def quantize(source: Path, target: Path) -> None:
    """Dynamic int8 of the matrix products, except the patch embedding, which the selector looks at."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(source)
    del model.graph.value_info[:]  # shapes from before the exporter's optimiser; shape inference trips over them
    products = [node for node in model.graph.node if node.op_type in ("MatMul", "Gemm")]
    quantize_dynamic(model, target, weight_type=QuantType.QInt8, nodes_to_exclude=[products[0].name])


def load_onnx(path: Path):
    """A function of a clip like the exported input, a CPU tensor, that gives the logits as an array; on as many threads
    as PyTorch has. Between calls its threads wait without spinning, which would slow PyTorch's."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    settings.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    return lambda clip: session.run([_OUTPUT], {_INPUT: clip.numpy()})[0]


def _fixed_processor(processor, channels: int, budget: int | None):
    """The processor with one budget and one grid, and the shape (frames, channels, height, width) it gives."""
    frames, resize, (height, width) = processor.framing(budget)
    fixed = {"num_frames": frames, "size": dict(resize), "token_budget": budget, "fps": None}
    return type(processor)(**processor.to_dict() | fixed), (frames, channels, height, width)


def _eager(module: nn.Module):
    def run(clip: torch.Tensor) -> np.ndarray:
        with torch.no_grad():
            return module(clip).numpy()

    return run


def _measure(run, reference, clips: list[torch.Tensor]) -> dict:
    pairs = [(run(clip), reference(clip)) for clip in clips]
    difference = max(float(np.abs(found - expected).max() / np.abs(expected).max()) for found, expected in pairs)
    return {"milliseconds": median_ms(lambda: run(clips[0])), "difference": difference}


def _require_onnx() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(f"{error}; exports need it: pip install onnx onnxruntime onnxscript") from error


def require_onnxruntime() -> None:
    """Raises ImportError, which says what to install, unless exported files can be run."""
    try:
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise ImportError(f"{error}; exported files need it: pip install onnxruntime") from error

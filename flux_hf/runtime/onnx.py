"""A file of `flux-hf export` in the place of a model."""

from pathlib import Path

import torch

from flux_hf.export import REPORT_FILE, load_onnx, require_onnxruntime
from flux_hf.files import read_json
from flux_hf.modeling.flux_model_fluxvit import FluxViTClassifierOutput, as_token_budget


class OnnxClassifier:
    """Classifies with the ONNX file of an export, in ONNX Runtime on the CPU, on as many threads as PyTorch has.

    The processor saved beside it (`AutoVideoProcessor.from_pretrained(folder)`) makes its clips.

    Attributes:
        token_budget: tokens that it keeps, None: all; built in.
        clip_shape: (frames, channels, height, width) of a clip; built in. A batch may have any size.
        label_names: names of the classes, in the order of the logits.
    """

    def __init__(self, folder: str | Path, *, int8: bool = False):
        """
        Args:
            folder: output folder of `flux-hf export`.
            int8: take `model_int8.onnx`, which `--int8 true` writes.

        Raises:
            ValueError: the folder holds no such export, or it is damaged.
            ImportError: onnxruntime is missing.
        """
        folder, file = Path(folder), "model_int8.onnx" if int8 else "model.onnx"
        for name in (REPORT_FILE, file):
            if not (folder / name).is_file():
                made_by = f"flux-hf export CHECKPOINT {folder}" + (" --int8 true" if int8 else "")
                raise ValueError(f"{folder} holds no {name}: {made_by} writes it")
        require_onnxruntime()
        report = read_json(folder / REPORT_FILE)
        try:
            self.token_budget: int | None = report["token_budget"]
            self.clip_shape: tuple[int, ...] = tuple(report["clip_shape"])
            self.label_names: list[str] = report["labels"]
        except (KeyError, TypeError) as error:
            raise ValueError(f"{folder / REPORT_FILE} is damaged, or of an older flux-hf export: {error}") from None
        try:
            self._run = load_onnx(folder / file)
        except MemoryError:
            raise
        except Exception as error:  # those of ONNX Runtime have no class of their own
            raise ValueError(f"{folder / file} cannot be loaded: {error}") from error

    def __call__(
        self, pixel_values_videos: torch.Tensor, token_budget: int | torch.Tensor | None = None
    ) -> FluxViTClassifierOutput:
        """`logits` of normalised clips (batch, frames, channels, height, width).

        Raises:
            ValueError: clips of another shape than `clip_shape`, or another budget than that of the file.
        """
        if as_token_budget(token_budget, self.token_budget) != self.token_budget:
            raise ValueError(f"token_budget: the file was exported for {self.token_budget} tokens, got {token_budget}")
        if pixel_values_videos.ndim != 5 or tuple(pixel_values_videos.shape[1:]) != self.clip_shape:
            raise ValueError(
                f"pixel_values_videos must be (batch, frames, channels, height, width) with clips of "
                f"{self.clip_shape}, for which the file was exported, got {tuple(pixel_values_videos.shape)}"
            )
        return FluxViTClassifierOutput(logits=torch.from_numpy(self._run(pixel_values_videos.float().cpu())))

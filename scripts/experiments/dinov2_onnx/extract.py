"""Write the DINOv2 encoder inside an ONNX file as a teacher for pretrain."""

from dataclasses import dataclass, field

from flux_hf.cli import run_command
from flux_hf.options import parse_options


@dataclass
class ExtractOptions:
    onnx_file: str = field(metadata={"help": "Its parameters must have the names of Transformers."})
    folder: str = field(metadata={"help": "Folder of the checkpoint."})
    image_mean: list[float] = field(
        default_factory=lambda: [0.485, 0.456, 0.406],
        metadata={"help": "Mean that the model's input was normalised with."},
    )
    image_std: list[float] = field(
        default_factory=lambda: [0.229, 0.224, 0.225], metadata={"help": "Standard deviation of the same."}
    )
    layers: int | None = field(default=None, metadata={"help": "Keep that many, the first. Default: all."})


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(ExtractOptions, argv, __doc__, {"onnx_file": "FILE", "folder": "FOLDER"})
    from flux_hf.scripts.experiments.dinov2_onnx.extraction import extract_dinov2

    config = extract_dinov2(**vars(options))
    print(
        f"written to {options.folder}: {config.num_hidden_layers} layers, width {config.hidden_size}, "
        f"patch {config.patch_size}"
    )


if __name__ == "__main__":
    run_command("scripts/experiments/dinov2_onnx/extract.py", main)

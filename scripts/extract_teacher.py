"""Write the DINOv2 encoder inside an ONNX file as a teacher for pretrain: extract-teacher FILE.onnx FOLDER."""

import sys
from dataclasses import dataclass, field

from flux_hf.options import leading_values, parse_options


@dataclass
class ExtractOptions:
    onnx_file: str = field(metadata={"help": "Its parameters must have the names of Transformers."})
    output_dir: str = field(metadata={"help": "Folder of the checkpoint."})
    image_mean: list[float] = field(
        default_factory=lambda: [0.485, 0.456, 0.406], metadata={"help": "What the model's input was normalised with."}
    )
    image_std: list[float] = field(default_factory=lambda: [0.229, 0.224, 0.225], metadata={"help": "The same."})


def main(argv: list[str] | None = None) -> None:
    argv = leading_values(sys.argv[1:] if argv is None else argv, "onnx_file", "output_dir")
    (options,) = parse_options(ExtractOptions, argv, __doc__)
    from flux_hf.conversion.dinov2_onnx import extract_dinov2

    try:
        config = extract_dinov2(options.onnx_file, options.output_dir, options.image_mean, options.image_std)
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error
    print(
        f"written to {options.output_dir}: {config.num_hidden_layers} layers, width {config.hidden_size}, "
        f"patch {config.patch_size}"
    )


if __name__ == "__main__":
    main()

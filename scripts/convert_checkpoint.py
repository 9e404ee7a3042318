"""Convert an official checkpoint (FluxViT, or InternVideo2, UMT, VideoMAE to train from)."""

from flux_hf.cli import run_command
from flux_hf.options import parse_options
from flux_hf.options.checkpoints import ConvertOptions


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(ConvertOptions, argv, __doc__, {"checkpoint": "FILE", "output_dir": "FOLDER"})
    from flux_hf.conversion import convert

    report = convert(options)
    print(report.text())
    print(f"written to {options.output_dir}; loaded again, every head gives the same outputs")


if __name__ == "__main__":
    run_command("flux-hf convert", main)

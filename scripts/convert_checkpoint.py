"""Convert an official checkpoint (FluxViT, or InternVideo2, UMT, VideoMAE as a start): convert FILE.pth FOLDER."""

import sys

from flux_hf.cli import run_command
from flux_hf.conversion import ConvertOptions, convert
from flux_hf.options import leading_values, parse_options


def main(argv: list[str] | None = None) -> None:
    argv = leading_values(sys.argv[1:] if argv is None else argv, "checkpoint", "output_dir")
    (options,) = parse_options(ConvertOptions, argv, __doc__)
    report = convert(options)
    print(report.text())
    print(f"written to {options.output_dir}; loaded again, every head gives the same outputs")


if __name__ == "__main__":
    run_command("convert-checkpoint", main)

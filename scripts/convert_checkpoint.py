"""Convert an official checkpoint (FluxViT, or InternVideo2, UMT, VideoMAE as a start): convert FILE.pth FOLDER."""

import sys

from flux_hf.conversion import ConvertOptions, convert
from flux_hf.options import leading_values, parse_options


def main(argv: list[str] | None = None) -> None:
    argv = leading_values(sys.argv[1:] if argv is None else argv, "checkpoint", "output_dir")
    (options,) = parse_options(ConvertOptions, argv, __doc__)
    try:
        report = convert(options)
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error
    print(report.text())
    print(f"written to {options.output_dir}; loaded again, every head gives the same outputs")


if __name__ == "__main__":
    main()

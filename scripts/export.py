"""Write ONNX and torch.export files for one budget, check them against PyTorch, time both: export CHECKPOINT FOLDER."""

import sys

from flux_hf.cli import run_command
from flux_hf.export import ExportOptions, export
from flux_hf.options import leading_values, parse_options


def main(argv: list[str] | None = None) -> None:
    argv = leading_values(sys.argv[1:] if argv is None else argv, "checkpoint", "output_dir")
    (options,) = parse_options(ExportOptions, argv, __doc__)
    report = export(options)
    print(f"input {report['input_shape']}, budget {report['token_budget']}; {report['machine']}")
    for name, run in report["runs"].items():
        print(f"{name:<16} {run['milliseconds']:8.1f} ms, difference from PyTorch {run['difference']:.1e}")


if __name__ == "__main__":
    run_command("export", main)

"""Write ONNX and torch.export files for one budget, check them against PyTorch, time both.

Needs packages that flux_hf does without: pip install onnx onnxruntime onnxscript
"""

from flux_hf.cli import run_command
from flux_hf.options import parse_options
from flux_hf.options.checkpoints import ExportOptions


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(ExportOptions, argv, __doc__, {"checkpoint": "CHECKPOINT", "output_dir": "FOLDER"})
    from flux_hf.export import export

    report = export(options)
    print(f"clips {report['clip_shape']}, budget {report['token_budget'] or 'all tokens'}; {report['machine']}")
    for name, run in report["runs"].items():
        print(f"{name:<16} {run['milliseconds']:8.1f} ms, difference from PyTorch {run['difference']:.1e}")


if __name__ == "__main__":
    run_command("flux-hf export", main)

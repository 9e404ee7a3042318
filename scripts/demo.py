"""Serve a page: drop a video, move the token budget, see labels, kept tokens and costs.

flux-hf demo
flux-hf demo --checkpoint runs/mine --port 8000
"""

from dataclasses import dataclass, field

from flux_hf.checkpoints import checkpoint_path
from flux_hf.cli import run_command
from flux_hf.options import (
    check_at_least,
    check_checkpoints,
    decoding_option,
    decoding_setting,
    naming_option,
    parse_options,
)


@dataclass
class DemoOptions:
    checkpoint: str = field(
        default="default",
        metadata={"help": "Folder, Hub id, or default: the static-camera motion model in the package."},
    )
    evaluations: list[str] = field(
        default_factory=list,
        metadata={"help": "JSON files of flux-hf evaluate, for accuracy against budget. Default: what the card says."},
    )
    decoding: str | None = decoding_option("Frames")
    host: str = field(default="127.0.0.1", metadata={"help": "Address to listen on; 0.0.0.0 lets other machines in."})
    port: int = field(default=7860, metadata={"help": "Port to listen on."})
    upload_mb: int = field(default=200, metadata={"help": "Largest video that is taken, in MB."})


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(DemoOptions, argv, __doc__)
    check_at_least(1, options, "port", "upload_mb")
    if options.port > 65535:
        raise ValueError(f"--port must be at most 65535, got {options.port}")
    _check_address(options)
    from importlib.util import find_spec

    if find_spec("gradio") is None:
        raise ImportError('the page needs gradio: pip install "flux_hf[demo]", or pip install ".[demo]" in a clone')
    from dataclasses import replace

    from flux_hf.demo.accuracy import evaluated_accuracy
    from flux_hf.demo.classifier import load_demo_classifier
    from flux_hf.hub.model_card import read_evaluation
    from flux_hf.progress_bars import no_bars_for_folders

    check_checkpoints(checkpoint=options.checkpoint)
    evaluations = []
    for path in options.evaluations:
        with naming_option("evaluations", path):
            evaluations.append(read_evaluation(path))
    with no_bars_for_folders(checkpoint_path(options.checkpoint)), naming_option("checkpoint", options.checkpoint):
        classifier = load_demo_classifier(options.checkpoint, **decoding_setting(options))
    if evaluations:
        classifier = replace(classifier, accuracy=evaluated_accuracy(evaluations))
    from flux_hf.demo.serving import serve

    serve(classifier, host=options.host, port=options.port, upload_mb=options.upload_mb)


def _check_address(options: DemoOptions) -> None:
    """Raises OSError where nothing can listen there, before anything takes time."""
    import socket

    try:
        socket.create_server((options.host, options.port)).close()
    except OSError as error:
        raise OSError(f"--host {options.host} --port {options.port}: {error.strerror}") from error


if __name__ == "__main__":
    run_command("flux-hf demo", main)

"""Watch a camera, a stream or a file: a JSON line whenever the answer changes and every N seconds.

flux-hf watch /dev/video0 --every 10 --latency 0.5
"""

import signal
import time
from dataclasses import dataclass, field

from flux_hf.checkpoints import check_weights, checkpoint_path
from flux_hf.cli import run_command
from flux_hf.options import (
    BUDGET,
    check_at_least,
    check_budgets,
    check_checkpoints,
    dtype_option,
    naming_option,
    parse_options,
)


@dataclass
class WatchOptions:
    source: str = field(
        metadata={
            "help": "Camera (/dev/video0), address of a stream (rtsp, http, rtmp, tcp, udp; Motion JPEG, transport "
            "streams, HLS), or a video file, which is played in real time."
        }
    )
    checkpoint: str = field(
        default="default",
        metadata={"help": "Folder, Hub id, or default: the static-camera motion model in the package."},
    )
    every: float = field(default=10.0, metadata={"help": "Seconds after which a line follows without a change, too."})
    latency: float = field(
        default=1.0,
        metadata={"help": "Seconds from the newest picture to the answer. The token budget is adapted to stay below."},
    )
    window: float = field(default=4.0, metadata={"help": "Seconds of the stream that an answer looks at."})
    stride: float = field(default=0.5, metadata={"help": "Shortest time in seconds between two answers."})
    token_budget: BUDGET | None = field(
        default=None,
        metadata={"help": "Always this budget, whatever it takes, or auto for adaptive budgets. Default: adapted."},
    )
    dtype: str = dtype_option("auto")
    top_k: int = field(default=3, metadata={"help": "Labels in a line."})
    timeout: float = field(
        default=10.0, metadata={"help": "Seconds without a picture after which the connection counts as lost."}
    )
    give_up: float = field(
        default=300.0, metadata={"help": "Seconds without a picture after which it is not taken up any more."}
    )
    trust_remote_code: bool = field(default=False, metadata={"help": "Allow code that comes with the checkpoint."})


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(WatchOptions, argv, __doc__, {"source": "SOURCE"})
    for name in ("every", "latency", "window", "timeout", "give_up"):
        if not getattr(options, name) > 0:
            raise ValueError(f"--{name} must be a number of seconds > 0, got {getattr(options, name)}")
    if not options.stride >= 0:
        raise ValueError(f"--stride must be a number of seconds >= 0, got {options.stride}")
    check_at_least(1, options, "top_k")
    check_budgets(options, "token_budget")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a service is stopped as by Ctrl-C
    from flux_hf import VideoDecodeError
    from flux_hf.evaluation.processes import process_state
    from flux_hf.live import watch
    from flux_hf.live.lines import AnswerLines, change_line, summary_line
    from flux_hf.plugin import load_video_classifier, load_video_processor
    from flux_hf.progress_bars import no_bars_for_folders
    from flux_hf.runtime import set_dtype

    check_checkpoints(checkpoint=options.checkpoint)
    checkpoint, device = checkpoint_path(options.checkpoint), process_state().device
    with no_bars_for_folders(checkpoint), naming_option("checkpoint", options.checkpoint):
        model = load_video_classifier(checkpoint, trust_remote_code=options.trust_remote_code).to(device)
        check_weights(model, checkpoint)
        processor = load_video_processor(checkpoint, model)
    budget = options.token_budget
    set_dtype(model, options.dtype, token_budget=budget if isinstance(budget, int) else None)

    numbers = {name: getattr(options, name) for name in ("window", "stride", "latency", "top_k", "timeout", "give_up")}
    lines = AnswerLines(options.every)
    watching = watch(
        options.source, model, processor, token_budget=budget, on_change=lambda c: _print(change_line(c)), **numbers
    )
    reason, failure = "the source ended", None
    with watching:
        try:
            for answer in watching:
                _print(lines.line(answer))
        except KeyboardInterrupt:
            reason = "interrupted"
        except VideoDecodeError as error:
            reason, failure = error.reason, error
    _print(summary_line(time.time(), reason, watching.summary()))
    if failure is not None:
        raise failure


def _print(line: str | None) -> None:
    if line is not None:
        print(line, flush=True)


if __name__ == "__main__":
    run_command("flux-hf watch", main)

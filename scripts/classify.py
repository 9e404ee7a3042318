"""Classify videos at several token budgets: labels, grid, tokens kept, GMACs and milliseconds."""

import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from transformers import AutoModelForVideoClassification, AutoVideoProcessor

from flux_hf import VideoDecodeError, default_checkpoint
from flux_hf.classification import Classification, classify
from flux_hf.cli import run_command
from flux_hf.drawing import SUFFIXES, draw_classification
from flux_hf.options import naming_option, parse_options
from flux_hf.scripts.experiments.motion_clips import LABELS, render_clip

DEMO_SEED = 2026
DEMO_HARDNESS = 0.4


@dataclass
class ClassifyOptions:
    videos: list[str] = field(default_factory=list, metadata={"help": "Paths or http(s) URLs."})
    checkpoint: str = field(
        default_factory=default_checkpoint,
        metadata={"help": "Folder or Hub id of a checkpoint. Default: the static-camera motion model in the package."},
    )
    token_budgets: list[int] | None = field(
        default=None, metadata={"help": "Default: the budgets of the model's heads."}
    )
    top_k: int = field(default=3, metadata={"help": "Labels to print."})
    demo: bool = field(default=False, metadata={"help": "Render one clip of every motion and classify those too."})
    show: str | None = field(
        default=None,
        metadata={"help": "Draw the frames, dropped tokens dimmed, with the scores: .png or .mp4, for one video."},
    )
    trust_remote_code: bool = field(default=False, metadata={"help": "Allow code that comes with the checkpoint."})


def main(argv: list[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    if argv and not argv[0].startswith("-"):
        argv = ["--videos", *argv]
    (options,) = parse_options(ClassifyOptions, argv, __doc__)
    if not options.videos and not options.demo:
        raise ValueError("nothing to classify: give one or more paths or URLs, or --demo")
    if options.show and (len(options.videos), options.demo) != (1, False):
        raise ValueError("--show draws one video: give exactly one path or URL, and no --demo")
    if options.show and not options.show.lower().endswith(SUFFIXES):
        raise ValueError(f"--show must end in {' or '.join(SUFFIXES)}, got {options.show}")
    loading = {"trust_remote_code": options.trust_remote_code}
    with naming_option("checkpoint", options.checkpoint):
        model = AutoModelForVideoClassification.from_pretrained(options.checkpoint, **loading).eval()
        processor = AutoVideoProcessor.from_pretrained(options.checkpoint, **loading)
    budgets = options.token_budgets or model.config.head_token_budgets

    with tempfile.TemporaryDirectory() as folder:
        rendered = _render_demo(Path(folder)) if options.demo else {}
        right, all_read = 0, True
        for video in [*rendered, *options.videos]:
            expected = rendered.get(video)
            print(
                f"\n{Path(video).name if expected else video}" + (f"   (rendered as: {expected})" if expected else "")
            )
            try:
                results = [classify(video, model, processor, budget, options.top_k) for budget in budgets]
            except VideoDecodeError as error:
                print(f"flux-hf classify: error: {error}", file=sys.stderr)
                all_read = False
                continue
            for result in results:
                print(_line(result, expected))
            if options.show:
                draw_classification(results, processor, video.split("?")[0].rsplit("/", 1)[-1], options.show)
                print(f"  drawn: {options.show}")
            right += sum(result.labels[0][0] == expected for result in results)
        if rendered:
            print(f"\n{right} of {len(rendered) * len(budgets)} rendered clips x budgets have the right label on top.")
    if not all_read:
        sys.exit(1)


def _render_demo(folder: Path) -> dict[str, str]:
    clips = {str(folder / f"{label}.mp4"): label for label in LABELS}
    for index, (path, label) in enumerate(clips.items()):
        render_clip(path, label=label, seed=(DEMO_SEED, index), hardness=DEMO_HARDNESS)
    return clips


def _line(result: Classification, expected: str | None) -> str:
    labels = ", ".join(f"{name} {score:.2f}" for name, score in result.labels)
    frames, height, width = result.grid
    mark = "" if expected is None else ("ok  " if result.labels[0][0] == expected else "MISS ")
    return (
        f"  {mark}budget {result.token_budget:>4}: {labels} | grid {frames} x {height} x {width}, "
        f"kept {result.tokens_kept} of {result.grid_tokens} tokens, {result.gmacs:.2f} GMACs, "
        f"decode {result.decode_ms:.1f} ms, model {result.model_ms:.1f} ms"
    )


if __name__ == "__main__":
    run_command("classify", main)

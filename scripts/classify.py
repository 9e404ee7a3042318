"""Classify videos at several token budgets: labels, grid, tokens kept, GMACs and milliseconds."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from flux_hf.checkpoints import check_weights, checkpoint_path, example_clips
from flux_hf.cli import run_command
from flux_hf.options import (
    BUDGET,
    check_at_least,
    check_budgets,
    check_checkpoints,
    decoding_option,
    decoding_setting,
    dtype_option,
    naming_option,
    parse_options,
)
from flux_hf.tables import printable


@dataclass
class ClassifyOptions:
    videos: list[str] = field(default_factory=list, metadata={"help": "Paths, http(s) URLs or other addresses."})
    checkpoint: str = field(
        default="default",
        metadata={"help": "Folder, Hub id, or default: the static-camera motion model in the package."},
    )
    token_budgets: list[BUDGET] | None = field(
        default=None,
        metadata={
            "help": "Token budgets; auto: the smallest one that is sure enough of its answer. Default: those of the "
            "model."
        },
    )
    decoding: str | None = decoding_option("Frames")
    dtype: str | None = dtype_option()
    top_k: int = field(default=3, metadata={"help": "Labels to print."})
    download_seconds: float | None = field(
        default=None, metadata={"help": "Seconds for all transfers of one video. Default: 300."}
    )
    download_bytes: int | None = field(
        default=None,
        metadata={"help": "Of one video that its server or archive gives only whole. Default: 1 GiB."},
    )
    demo: bool = field(default=False, metadata={"help": "Classify the nine clips in the package, too."})
    show: str | None = field(
        default=None,
        metadata={"help": "Draw the frames, dropped tokens dimmed, with the scores: .png or .mp4, for one video."},
    )
    trust_remote_code: bool = field(default=False, metadata={"help": "Allow code that comes with the checkpoint."})


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(ClassifyOptions, argv, __doc__, {"videos": "VIDEO"})
    if not options.videos and not options.demo:
        raise ValueError("nothing to classify: give one or more paths or URLs, or --demo")
    if options.show and (len(options.videos), options.demo) != (1, False):
        raise ValueError("--show draws one video: give exactly one path or URL, and no --demo")
    if options.show and not Path(options.show).parent.is_dir():
        raise ValueError(f"--show {options.show}: there is no folder {Path(options.show).parent}")
    check_budgets(options, "token_budgets")
    check_at_least(1, options, "top_k", "download_bytes")
    from flux_hf import VideoDecodeError
    from flux_hf.classification import classify
    from flux_hf.drawing import SUFFIXES, draw_classification
    from flux_hf.plugin import load_video_classifier, load_video_processor
    from flux_hf.processing.video_source_fluxvit import source_name
    from flux_hf.progress_bars import no_bars_for_folders
    from flux_hf.runtime import set_dtype

    if options.show and (Path(options.show).suffix.lower() not in SUFFIXES or Path(options.show).is_dir()):
        raise ValueError(f"--show must end in {' or '.join(SUFFIXES)}, with a name before it, got {options.show}")
    check_checkpoints(checkpoint=options.checkpoint)
    loading = {"trust_remote_code": options.trust_remote_code}
    checkpoint = checkpoint_path(options.checkpoint)
    with no_bars_for_folders(checkpoint), naming_option("checkpoint", options.checkpoint):
        model = load_video_classifier(checkpoint, **loading)
        check_weights(model, checkpoint)
        downloads = {name: getattr(options, name) for name in ("download_seconds", "download_bytes")}
        given = {name: value for name, value in downloads.items() if value is not None}
        processor = load_video_processor(checkpoint, model, **decoding_setting(options), **given)
    budgets = options.token_budgets or model.token_budgets
    set_dtype(model, options.dtype)

    examples = {path: label for label, path in example_clips().items()} if options.demo else {}
    right, all_read = 0, True
    for video in [*examples, *options.videos]:
        expected = examples.get(video)
        print(
            f"\n{Path(video).name}   (expected: {expected})" if expected else f"\n{printable(source_name(video), None)}"
        )
        try:
            results = [classify(video, model, processor, budget, options.top_k) for budget in budgets]
        except VideoDecodeError as error:
            print(f"flux-hf classify: error: {printable(error, None)}", file=sys.stderr)
            all_read = False
            continue
        for result in results:
            print(_line(result, expected))
        if options.show:
            draw_classification(results, processor, source_name(video).rsplit("/", 1)[-1], options.show)
            print(f"  drawn: {options.show}")
        right += sum(result.labels[0][0] == expected for result in results)
    if examples:
        print(f"\n{right} of {len(examples) * len(budgets)} times the right label is on top.")
    if not all_read:
        sys.exit(1)


def _line(result, expected: str | None) -> str:
    labels = ", ".join(f"{printable(name)} {score:.2f}" for name, score in result.labels)
    answered = result.answered_budget
    head = "" if result.head_budget in (None, answered) else f", head for {result.head_budget}"
    found = "" if answered == result.token_budget else f" ({answered} answered)"
    mark = "" if expected is None else ("ok  " if result.labels[0][0] == expected else "MISS ")
    return (
        f"  {mark}budget {result.token_budget:>4}{found}: {labels} | grid {result.grid}, "
        f"kept {result.tokens_kept} of {result.grid_tokens} tokens{head}, {result.gmacs:.2f} GMACs, "
        f"decode {result.decode_ms:.1f} ms, model {result.model_ms:.1f} ms"
    )


if __name__ == "__main__":
    run_command("flux-hf classify", main)

"""Measure accuracy of a checkpoint on a data set at several token budgets."""

import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from flux_hf.checkpoints import check_weights, checkpoint_name, checkpoint_path
from flux_hf.cli import run_command
from flux_hf.files import write_json, write_text
from flux_hf.options import (
    BUDGET,
    check_at_least,
    check_budgets,
    check_checkpoints,
    check_each_once,
    check_output,
    check_paths,
    decoding_option,
    decoding_setting,
    dtype_option,
    naming_option,
    parse_options,
)
from flux_hf.tables import printable


@dataclass
class EvaluateOptions:
    dataset: str = field(
        metadata={
            "help": "Id of a data set on the Hub, or folder: list files of Kinetics, SSv2 or COIN, webdataset shards, "
            "parquet, or videofolder layout."
        }
    )
    split: str | None = field(
        default=None, metadata={"help": "Split of the data set. Default: test, or validation where there is no test."}
    )
    video_root: str | None = field(
        default=None, metadata={"help": "Folder of the videos of a list file. Default: the folder of the list."}
    )
    labels_file: str | None = field(
        default=None, metadata={"help": "File with the names of the labels, where the data set has numbers only."}
    )
    checkpoint: str = field(default="default", metadata={"help": "Folder, Hub id, or default: the one in the package."})
    token_budgets: list[BUDGET] | None = field(
        default=None,
        metadata={
            "help": "Token budgets; auto: for every video the smallest one that is sure enough of its answer. Default: "
            "those of the model."
        },
    )
    zero_shot: bool = field(
        default=False,
        metadata={
            "help": "The checkpoint is a FluxViT with a text tower; the names of the labels are its classes, their "
            "underscores read as spaces."
        },
    )
    templates: list[str] | None = field(
        default=None,
        metadata={
            "help": "With --zero_shot: sentences with {} in the name's place, or the name of a set: kinetics. "
            "Default: a video of {}."
        },
    )
    token_selection: str | None = field(
        default=None,
        metadata={
            "help": "Rule that selects tokens. Default: the checkpoint's.",
            "choices": ("group_dynamic", "dynamic", "random", "tube", "uniform"),
        },
    )
    num_clips: int = field(default=1, metadata={"help": "Temporal clips; the paper: Kinetics 4, SSv2 2."})
    num_crops: int = field(default=1, metadata={"help": "Crops along the longer side; the paper: 3."})
    clip_sampling: str = field(
        default="middles",
        metadata={"help": "Frames of a clip: middles (as on Kinetics), ticks (SSv2).", "choices": ("middles", "ticks")},
    )
    decoding: str | None = decoding_option("Frames of one clip (several are exact)")
    dtype: str | None = dtype_option()
    batch_size: int = field(default=32, metadata={"help": "Views per forward."})
    num_workers: int = field(default=0, metadata={"help": "Decoding processes beside each main one."})
    output: str | None = field(
        default=None,
        metadata={
            "help": "JSON file to write, with a table (.md) and a plot (.png, needs matplotlib) beside it and results "
            "per video in the folder of that name with the ending .videos, from which an interrupted run goes on."
        },
    )


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(EvaluateOptions, argv, __doc__)
    check_budgets(options, "token_budgets")
    check_at_least(1, options, "num_clips", "num_crops", "batch_size")
    check_at_least(0, options, "num_workers")
    check_each_once(options, "token_budgets")
    check_paths(options, "video_root", "labels_file")
    check_output(options, ".json")
    output = Path(options.output) if options.output else None
    if options.templates and not options.zero_shot:
        raise ValueError("--templates is for --zero_shot")
    from flux_hf.evaluation import evaluate
    from flux_hf.evaluation.processes import process_state
    from flux_hf.progress_bars import no_bars_for_folders
    from flux_hf.provenance import provenance

    check_checkpoints(checkpoint=options.checkpoint)
    state = process_state()
    with no_bars_for_folders(options.dataset):
        dataset, split = _load(options)
    load = _load_zero_shot if options.zero_shot else _load_classifier
    model, processor, templates = load(options, dataset, state.device)
    result = evaluate(
        dataset,
        model,
        processor,
        options.token_budgets or model.token_budgets,
        num_clips=options.num_clips,
        num_crops=options.num_crops,
        clip_sampling=options.clip_sampling,
        batch_size=options.batch_size,
        num_workers=options.num_workers,
        token_selection=options.token_selection,
        records_dir=output.with_suffix(".videos") if output else None,
    )
    if state.is_main_process:
        result |= {
            "dataset": options.dataset,
            "split": split,
            "checkpoint": checkpoint_name(options.checkpoint),
            "dtype": str(model.dtype).removeprefix("torch."),
            **templates,
        }
        _write(result | provenance("flux-hf evaluate", argv), output)
    state.wait_for_everyone()


def _load(options: EvaluateOptions):
    """The split that is asked for, and its name."""
    from flux_hf.data import MissingSplitError, load_video_dataset

    load = partial(load_video_dataset, options.dataset, video_root=options.video_root, label_names=options.labels_file)
    split = options.split or "test"
    try:
        return load(split), split
    except MissingSplitError as error:
        if options.split or "validation" not in error.there:
            raise ValueError(f"--split: {error}") from error
    return load("validation"), "validation"


def _load_classifier(options: EvaluateOptions, dataset, device) -> tuple:
    """(model, its video processor, nothing to add to the result)"""
    from flux_hf.plugin import load_video_classifier, load_video_processor
    from flux_hf.progress_bars import no_bars_for_folders
    from flux_hf.runtime import set_dtype

    checkpoint = checkpoint_path(options.checkpoint)
    with no_bars_for_folders(checkpoint), naming_option("checkpoint", options.checkpoint):
        model = load_video_classifier(checkpoint).to(device)
        check_weights(model, checkpoint)
        set_dtype(model, options.dtype, batch_size=options.batch_size)
        return model, load_video_processor(checkpoint, model, **decoding_setting(options)), {}


def _load_zero_shot(options: EvaluateOptions, dataset, device) -> tuple:
    """(classifier of the data set's names, its video processor, `templates` of the result)"""
    from flux_hf.progress_bars import no_bars_for_folders
    from flux_hf.runtime import set_dtype
    from flux_hf.text.loading import load_clip
    from flux_hf.text.zero_shot import templates_of, zero_shot_classifier

    with naming_option("templates", " ".join(options.templates or [])):
        templates = templates_of(options.templates)
    checkpoint = checkpoint_path(options.checkpoint)
    with no_bars_for_folders(checkpoint), naming_option("checkpoint", options.checkpoint):
        model, processor = load_clip(checkpoint, **decoding_setting(options))
    names = dataset.features["label"].names
    set_dtype(model.to(device), options.dtype, batch_size=options.batch_size)
    classifier = zero_shot_classifier(model, processor, names, templates)
    return classifier, processor.video_processor, {"templates": list(templates)}


def _write(result: dict, output: Path | None):
    from flux_hf.evaluation import markdown_table, plot_accuracy

    print(markdown_table(result))
    for entry in result["unreadable"]:
        print(f"unreadable: {printable(entry['reason'], None)}", file=sys.stderr)
    for entry in result["damaged"]:
        video = printable(entry["video"], None)
        print(f"damaged: {video}, others stand in for {entry['replaced_frames']} frames", file=sys.stderr)
    if output is None:
        return
    write_json(output, result)
    write_text(output.with_suffix(".md"), markdown_table(result))
    written = [output, output.with_suffix(".md"), output.with_suffix(".videos")]
    try:
        plot_accuracy(result, output.with_suffix(".png"))
        written.append(output.with_suffix(".png"))
    except ImportError as error:
        print(f"no plot: {error}", file=sys.stderr)
    print(f"written: {', '.join(map(str, written))}")


if __name__ == "__main__":
    run_command("flux-hf evaluate", main)

"""Find the best grid (frames x size) of each token budget on your data.

flux-hf optimize-tokens --dataset my/videos --checkpoint runs/mine --output_dir runs/grids
flux-hf optimize-tokens --dataset my/videos --checkpoint runs/mine --output_dir runs/grids --write

With --objective adaptive it finds, instead of grids, what token_budget="auto" answers by:

flux-hf optimize-tokens --dataset my/videos --checkpoint runs/mine --output_dir runs/auto --objective adaptive --write
"""

import sys
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from flux_hf.checkpoints import check_weights, checkpoint_path
from flux_hf.cli import run_command
from flux_hf.files import write_json, write_text
from flux_hf.options import (
    check_at_least,
    check_checkpoints,
    check_each_once,
    check_paths,
    decoding_option,
    naming_option,
    naming_split,
    parse_options,
)


@dataclass
class OptimizeTokensOptions:
    dataset: str = field(
        metadata={
            "help": "Id of a data set on the Hub, or folder: list files of Kinetics, SSv2 or COIN, webdataset shards, "
            "parquet, or videofolder layout."
        }
    )
    checkpoint: str = field(metadata={"help": "Folder, Hub id, or default: the one in the package."})
    output_dir: str = field(
        metadata={"help": "Folder for result.json, table, plots and records; an interrupted search goes on from it."}
    )
    calibration_split: str = field(default="validation", metadata={"help": "Split to search on."})
    test_split: str | None = field(
        default=None,
        metadata={
            "help": "Split to report on; the search does not see it. Default: test or, where there is none, half of "
            "the calibration split, which the search then leaves out."
        },
    )
    score: str = field(
        default="accuracy",
        metadata={
            "help": "What a good grid is good for: accuracy of the model's own classes; of a FluxViT with a text tower "
            "zero_shot (accuracy, the names of the labels are the classes) or retrieval (the data set has captions; "
            "R@1 from video to text).",
            "choices": ("accuracy", "zero_shot", "retrieval"),
        },
    )
    templates: list[str] | None = field(
        default=None,
        metadata={
            "help": "With --score zero_shot: sentences with {} in the name's place, or the name of a set: kinetics. "
            "Default: a video of {}."
        },
    )
    video_root: str | None = field(
        default=None, metadata={"help": "Folder of the videos of a list file. Default: the folder of the list."}
    )
    labels_file: str | None = field(
        default=None, metadata={"help": "File with the names of the labels, where the data set has numbers only."}
    )
    token_budgets: list[int] | None = field(
        default=None, metadata={"help": "Token budgets. Default: those of the model."}
    )
    frames: list[int] | None = field(
        default=None, metadata={"help": "Frames to try. Default: 1/4 to 2 times those of the model's own grid."}
    )
    sizes: list[int] | None = field(
        default=None, metadata={"help": "Sizes in pixels to try. Default: 1/2 to 4/3 of that of the model's own grid."}
    )
    decoding: str | None = decoding_option("Frames of search and report")
    objective: str = field(
        default="tokens",
        metadata={
            "help": "What decides between equally accurate grids; also the axis of the plot. adaptive: no grids, but "
            "how sure an answer has to be to stand with token_budget auto.",
            "choices": ("tokens", "gmacs", "latency_ms", "adaptive"),
        },
    )
    target: str | None = field(
        default=None,
        metadata={
            "help": "With --objective adaptive: points of accuracy that may be lost against the largest budget, as "
            '"0.5 points", or mean GMACs, as "0.2 gmacs". Default: 0.5 points.'
        },
    )
    unlike: str | None = field(
        default=None,
        metadata={
            "help": "With --objective adaptive: another data set with the same labels, of clips unlike those of the "
            "training, whose split for the calibration also decides where more tokens are only noise."
        },
    )
    max_cost: float | None = field(default=None, metadata={"help": "Leave out grids above this, in the objective."})
    rounds: int | None = field(
        default=None, metadata={"help": "Rounds of halving; 1 tries every grid on every video. Default: 4."}
    )
    seed: int = field(default=0, metadata={"help": "Seed of the order of the calibration videos, and of the halves."})
    batch_size: int = field(default=32, metadata={"help": "Clips per forward."})
    num_workers: int = field(default=0, metadata={"help": "Decoding processes beside each main one."})
    write: bool = field(
        default=False,
        metadata={
            "help": "Write the grids that the report shows to be better, or no worse and cheaper, into the processor "
            "of the checkpoint; all that were found are in output_dir. With --objective adaptive: what was chosen, "
            "into its config.json and its processor."
        },
    )


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(OptimizeTokensOptions, argv, __doc__)
    check_at_least(1, options, "token_budgets", "frames", "sizes", "rounds", "batch_size")
    check_at_least(0, options, "max_cost", "seed", "num_workers")
    check_each_once(options, "token_budgets")
    check_paths(options, "video_root", "labels_file")
    if options.objective == "adaptive":
        return _calibrate(options, argv)
    for name in ("target", "unlike"):
        if getattr(options, name):
            raise ValueError(f"--{name} is for --objective adaptive")
    from flux_hf.evaluation import evaluate
    from flux_hf.evaluation.processes import process_state
    from flux_hf.evaluation.records import load_records
    from flux_hf.progress_bars import no_bars_for_folders
    from flux_hf.provenance import provenance
    from flux_hf.token_optimization import search_grids
    from flux_hf.token_optimization.candidates import (
        candidate_grids,
        default_axes,
        settings_file,
        video_part,
        with_grid_in_table,
        with_grids,
        with_video_part,
    )
    from flux_hf.token_optimization.report import (
        heat_map,
        markdown_table,
        new_grids,
        paired_comparison,
        plot_front,
        plot_heat_maps,
        score_name,
        what_is_worth_it,
        what_it_tells,
    )
    from flux_hf.token_optimization.saving import save_processor

    if options.templates and options.score != "zero_shot":
        raise ValueError("--templates is for --score zero_shot")
    if options.write and not Path(options.checkpoint).is_dir():
        raise ValueError(f"--write needs a checkpoint in a folder, got --checkpoint {options.checkpoint}")
    check_checkpoints(checkpoint=options.checkpoint)
    checkpoint = checkpoint_path(options.checkpoint)
    state = process_state()
    with no_bars_for_folders(checkpoint), naming_option("checkpoint", options.checkpoint):
        model, processor = _load_model(options, checkpoint)
    model = model.to(state.device)
    budgets = options.token_budgets or model.token_budgets
    frames, sizes = (
        given or usual for given, usual in zip((options.frames, options.sizes), default_axes(model), strict=True)
    )
    tubelet_size, patch_size = model.patch_shape
    for budget in budgets:
        candidate_grids(budget, frames, sizes, patch_size, tubelet_size)  # says early what is not accepted
    output = Path(options.output_dir)
    with no_bars_for_folders(options.dataset):
        calibration, test, splits = _load(options)
    if splits["halves"] and state.is_main_process:
        print(
            f"{options.dataset} has no test split of its own. {len(calibration)} videos of its split "
            f"{options.calibration_split} are searched on, the report is on the other {len(test)}."
        )
    shared = {"batch_size": options.batch_size, "num_workers": options.num_workers}
    start = with_grid_in_table(video_part(processor), budgets)
    before = _processor_before(with_video_part(processor, start), output, state)
    reading = copy(video_part(before))
    reading.decoding = options.decoding or reading.decoding
    result = search_grids(
        calibration,
        _judge(options, model, processor, calibration),
        reading,
        budgets,
        frames,
        sizes,
        objective=options.objective,
        max_cost=options.max_cost,
        rounds=options.rounds or 4,
        seed=options.seed,
        records_dir=output / "search",
        **shared,
    )
    best = {budget: tuple(found["grid"]) for budget, found in result["budgets"].items()}
    judge, of_classes = _judge(options, model, processor, test), options.score != "retrieval"
    result["score"] = options.score
    result["test"] = {
        name: evaluate(
            test, judge, chosen, budgets, of_classes=of_classes, records_dir=output / f"test_{name}", **shared
        )
        for name, chosen in (("before", reading), ("after", with_grids(reading, best)))
    }
    if state.is_main_process:
        folders = (output / f"test_{name}" for name in ("before", "after"))
        result["test"]["paired"] = paired_comparison(*map(load_records, folders), budgets)
        maps = [heat_map(budget, found) for budget, found in result["budgets"].items()]
        result |= {"dataset": options.dataset, "splits": splits}
        write_json(output / "result.json", result | provenance("flux-hf optimize-tokens", argv))
        report = f"{markdown_table(result)}\n{what_it_tells(result)}\n{what_is_worth_it(result)}"
        write_text(output / "result.md", report)
        print(report)
        try:
            plot_heat_maps(maps, output / "heat_maps.png", score_name(result))
            plot_front(result, output / "front.png")
        except ImportError as error:
            print(f"no plots: {error}", file=sys.stderr)
        save_processor(with_video_part(before, with_grids(video_part(before), best)), output / "processor_after")
        grids = new_grids(result)
        if options.write and grids:
            name = settings_file(before)
            kept = Path(options.checkpoint) / f"{Path(name).stem}.before.json"
            write_text(kept, (output / "processor_before" / name).read_text(encoding="utf-8"))
            save_processor(with_video_part(before, with_grids(video_part(before), grids)), options.checkpoint)
            print(f"The processor in {options.checkpoint} has these grids; {kept.name} beside it has the old ones.")
        else:
            hint = "; the same command with --write puts these grids into it" if grids else ""
            print(f"{options.checkpoint} is as it was{hint}.")
        print(f"All grids that were found are in {output / 'processor_after'}.")
    state.wait_for_everyone()


def _calibrate(options: OptimizeTokensOptions, argv: list[str] | None) -> None:
    """The objective adaptive: thresholds instead of grids."""
    from flux_hf.data import load_video_dataset
    from flux_hf.evaluation.processes import process_state
    from flux_hf.progress_bars import no_bars_for_folders
    from flux_hf.provenance import provenance
    from flux_hf.token_optimization.adaptive import adaptive_table, calibrate, parse_target, write_calibration

    given = [name for name in ("frames", "sizes", "max_cost", "rounds", "templates") if getattr(options, name)]
    if given or options.score != "accuracy":
        raise ValueError(f"--objective adaptive takes no --{given[0] if given else 'score other than accuracy'}")
    if options.write and not Path(options.checkpoint).is_dir():
        raise ValueError(f"--write needs a checkpoint in a folder, got --checkpoint {options.checkpoint}")
    with naming_option("target", options.target):
        target = parse_target("0.5 points" if options.target is None else options.target)
    check_checkpoints(checkpoint=options.checkpoint)
    checkpoint, state, output = checkpoint_path(options.checkpoint), process_state(), Path(options.output_dir)
    with no_bars_for_folders(checkpoint), naming_option("checkpoint", options.checkpoint):
        model, processor = _load_model(options, checkpoint)
    processor.decoding = options.decoding or processor.decoding
    with no_bars_for_folders(options.dataset):
        calibration, test, splits = _load(options)
    unlike = None
    if options.unlike:
        with no_bars_for_folders(options.unlike), naming_option("unlike", options.unlike):
            unlike = load_video_dataset(options.unlike, splits["calibration"])
    result = calibrate(
        calibration,
        test,
        model.to(state.device),
        processor,
        options.token_budgets or model.token_budgets,
        target,
        unlike,
        batch_size=options.batch_size,
        num_workers=options.num_workers,
        records_dir=output,
    )
    if state.is_main_process:
        result |= {"dataset": options.dataset, "unlike": options.unlike, "splits": splits}
        write_json(output / "result.json", result | provenance("flux-hf optimize-tokens", argv))
        write_text(output / "result.md", adaptive_table(result))
        print(adaptive_table(result))
        videos = result["calibration"]["videos"]
        if target.unit == "points" and 0 < target.value < 100 / videos:
            print(
                f"{videos} videos are few for {target}: one of them is {100 / videos:.2g} points, and none was to be "
                "lost. Others may be.",
                file=sys.stderr,
            )
        if options.write:
            write_calibration(options.checkpoint, model, result)
            print(f"{options.checkpoint} has these settings now: token_budget auto works with it.")
        else:
            print(f"{options.checkpoint} is as it was; the same command with --write puts these settings into it.")
    state.wait_for_everyone()


def _load_model(options: OptimizeTokensOptions, checkpoint: str) -> tuple:
    """The model and its processor: of videos, or of videos and sentences."""
    if options.score != "accuracy":
        from flux_hf.text.loading import load_clip

        return load_clip(checkpoint)
    from flux_hf.plugin import load_video_classifier, load_video_processor

    model = load_video_classifier(checkpoint)
    check_weights(model, checkpoint)
    return model, load_video_processor(checkpoint, model)


def _judge(options: OptimizeTokensOptions, model, processor, dataset):
    """What classifies the videos of a split: the model itself, or with the sentences of the split as classes."""
    if options.score == "accuracy":
        return model
    from flux_hf.text.zero_shot import retrieval_classifier, templates_of, zero_shot_classifier

    if options.score == "retrieval":
        return retrieval_classifier(model, processor, dataset)
    with naming_option("templates", " ".join(options.templates or [])):
        templates = templates_of(options.templates)
    return zero_shot_classifier(model, processor, dataset.features["label"].names, templates)


def _processor_before(processor, output: Path, state):
    """The processor as it was when the search began, so that a run after `--write` goes on with the same one."""
    from flux_hf.token_optimization.saving import save_processor

    saved = output / "processor_before"
    if state.is_main_process and not (output / "search").exists():
        save_processor(processor, saved)
    state.wait_for_everyone()
    return type(processor).from_pretrained(saved)


def _load(options: OptimizeTokensOptions):
    """Calibration videos, others to report on, and `splits` of the result: their names, and whether they are halves of
    one split."""
    from flux_hf.data import MissingSplitError, load_video_dataset
    from flux_hf.token_optimization.search import halves

    if options.score == "retrieval":
        from flux_hf.text.zero_shot import labelled_by_captions

        load = partial(_load_captioned, options)
    else:
        load = partial(
            load_video_dataset, options.dataset, video_root=options.video_root, label_names=options.labels_file
        )
    with naming_split(options, "calibration_split", "test_split"):
        calibration, test = load(options.calibration_split), None
        try:
            test = load(options.test_split or "test")
        except MissingSplitError:
            if options.test_split:
                raise
    searched, reported = _contents(calibration), set() if test is None else _contents(test)
    if options.test_split is None and (test is None or searched == reported):
        calibration, test = halves(calibration, options.seed)
        if options.score == "retrieval":
            calibration, test = map(labelled_by_captions, (calibration, test))  # a half knows its own captions only
        names = {"calibration": options.calibration_split, "test": options.calibration_split, "halves": True}
        return calibration, test, names
    if both := searched & reported:
        hint = "; without --test_split half of the calibration split is kept for it" if options.test_split else ""
        raise ValueError(
            f"--calibration_split {options.calibration_split} and --test_split {options.test_split or 'test'} share "
            f"{len(both)} videos, and the report needs videos that the search does not see{hint}"
        )
    names = {"calibration": options.calibration_split, "test": options.test_split or "test", "halves": False}
    return calibration, test, names


def _load_captioned(options: OptimizeTokensOptions, split: str):
    """A split whose captions are its labels."""
    from flux_hf.text.pairs import load_pairs
    from flux_hf.text.zero_shot import labelled_by_captions

    return labelled_by_captions(load_pairs(options.dataset, split, video_root=options.video_root))


def _contents(dataset) -> set:
    return {
        video["path"] if video["bytes"] is None else hash(video["bytes"])
        for video in dataset.select_columns(["video"])["video"]
    }


if __name__ == "__main__":
    run_command("flux-hf optimize-tokens", main)

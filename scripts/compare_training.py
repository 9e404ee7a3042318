"""Train with a fixed grid, Flux-Single and Flux-Multi on the same clips and steps; test all at several budgets.

Options are those of `flux-hf finetune` (a recipe of the Flux-Multi run, with a cache_dir) and of the comparison. Every
finished run is written at once; started again, the command goes on with the runs that are missing.

flux-hf compare-training scripts/configs/recipes/motion_nano_comparison.yaml --seeds 0 1 2
"""

import copy
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from flux_hf.options import parse_options
from flux_hf.training import FinetuneOptions, FluxTrainingArguments


@dataclass
class ComparisonOptions:
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "One run of each method per seed."})
    methods: list[str] | None = field(
        default=None, metadata={"help": 'Some of "fixed grid", "Flux-Single", "Flux-Multi". Default: all.'}
    )
    test_split: str = field(default="test", metadata={"help": "Split to test on."})
    output: str = field(default="compare_training.json", metadata={"help": "JSON file to write and to go on from."})
    plot: str | None = field(default=None, metadata={"help": "Picture to draw (.png, .svg); needs flux_hf[plot]."})


def main(argv: list[str] | None = None) -> None:
    comparison, options, args = parse_options(
        (ComparisonOptions, FinetuneOptions, FluxTrainingArguments), argv, __doc__
    )
    from flux_hf.data import cache_clips, load_video_dataset
    from flux_hf.measurement import provenance
    from flux_hf.training.comparison import METHODS, plot, read_runs, summary, train_and_test
    from flux_hf.training.starting_model import ModelChanges

    methods = comparison.methods or list(METHODS)
    if unknown := sorted(set(methods) - set(METHODS)):
        raise SystemExit(f"compare-training: methods must be of {', '.join(METHODS)}, not {', '.join(unknown)}")
    if not (options.cache_dir and options.num_frames and args.token_budgets):
        raise SystemExit("compare-training: give cache_dir, num_frames and size (the test grid), and token_budgets")
    splits = (
        load_video_dataset(options.dataset, split, video_root=options.video_root, label_names=options.labels_file)
        for split in (options.train_split, comparison.test_split)
    )
    train, test = (
        cache_clips(split, options.cache_dir, num_frames=options.cached_frames, size=options.cached_size)
        for split in splits
    )
    runs = read_runs(comparison.output)
    settings = _settings(options, args)
    if other := [run for run in runs if run["settings"] != settings]:
        raise SystemExit(
            f"compare-training: {comparison.output} holds {len(other)} runs with other settings; name another output"
        )
    args.eval_strategy, args.save_strategy = "no", "no"
    for seed in comparison.seeds:
        for method in methods:
            if any((run["method"], run["seed"]) == (method, seed) for run in runs):
                continue
            run_args = copy.deepcopy(args)
            run_args.seed = seed
            run = train_and_test(
                method,
                train,
                test,
                run_args,
                model_config=options.model_config,
                checkpoint=options.model,
                changes=ModelChanges(options.drop_path_rate, options.head_token_budgets),
                grid=(options.num_frames, options.size),
            )
            runs.append(run | {"settings": settings})
            print(json.dumps(run))
            result = provenance("compare-training", argv) | {"summary": summary(runs), "runs": runs}
            unfinished = Path(f"{comparison.output}.unfinished")
            unfinished.write_text(json.dumps(result, indent=1) + "\n")
            os.replace(unfinished, comparison.output)
    if comparison.plot:
        plot(runs, comparison.plot)


def _settings(options: FinetuneOptions, args: FluxTrainingArguments) -> dict:
    """What all runs of one file must share."""
    names = ("max_steps", "num_train_epochs", "learning_rate", "per_device_train_batch_size", "token_budgets")
    return {name: getattr(args, name) for name in names} | {
        name: getattr(options, name)
        for name in ("dataset", "model", "model_config", "head_token_budgets", "num_frames", "size")
    }


if __name__ == "__main__":
    main()

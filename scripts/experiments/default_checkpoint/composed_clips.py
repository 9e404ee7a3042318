"""Clips unlike those of the training, of other pictures, and what token_budget="auto" gains on them by looking at how
much changes.

python scripts/experiments/default_checkpoint/composed_clips.py --data data/composed

The clips are composed where the folder is not there yet, a split for the calibration and one for this report; --compose
does that alone.
"""

from dataclasses import dataclass, field
from pathlib import Path

from flux_hf.cli import run_command
from flux_hf.files import whole_folder, write_json
from flux_hf.options import check_at_least, parse_options

COMMAND = "scripts/experiments/default_checkpoint/composed_clips.py"


@dataclass
class ComposedClipsOptions:
    data: str = field(metadata={"help": "Folder of the clips; made where there is none."})
    output: str = field(
        default="scripts/experiments/default_checkpoint/results/adaptive_composed.json",
        metadata={"help": "JSON to write."},
    )
    checkpoint: str = field(default="default", metadata={"help": "A checkpoint calibrated with changes."})
    clips: int = field(default=540, metadata={"help": "Clips to compose for each split."})
    seed: int = field(default=0, metadata={"help": "Seed of the clips."})
    records_dir: str = field(default="runs/composed", metadata={"help": "Folder of the answers clip by clip."})
    compose: bool = field(default=False, metadata={"help": "Compose the clips and measure nothing."})


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(ComposedClipsOptions, argv, __doc__)
    check_at_least(1, options, "clips")
    from flux_hf.checkpoints import checkpoint_path
    from flux_hf.data import load_video_dataset
    from flux_hf.evaluation import evaluate
    from flux_hf.evaluation.records import load_records
    from flux_hf.modeling.adaptive_budget_fluxvit import AUTO
    from flux_hf.plugin import load_video_classifier, load_video_processor
    from flux_hf.provenance import provenance
    from flux_hf.scripts.experiments.default_checkpoint.composing import compose_clips
    from flux_hf.token_optimization.adaptive import comparison_with_largest, without_changes

    if not Path(options.data).exists():
        with whole_folder(options.data) as partial:
            compose_clips(partial, options.clips, options.seed)
    if options.compose:
        return
    path, folder = checkpoint_path(options.checkpoint), Path(options.records_dir)
    model = load_video_classifier(path).eval()
    processor, dataset = load_video_processor(path, model), load_video_dataset(options.data, "test")
    budgets = [*model.token_budgets, AUTO]
    result = evaluate(dataset, model, processor, budgets, records_dir=folder / "with")
    records = load_records(folder / "with")
    result |= {
        "adaptive_budget": model.config.adaptive_budget,
        "paired": comparison_with_largest(records, budgets),
        "without_changes": without_changes(dataset, model, processor, records, budgets, records_dir=folder / "without"),
    }
    write_json(options.output, provenance(f"python {COMMAND}", argv) | {"options": vars(options)} | result)


if __name__ == "__main__":
    run_command(COMMAND, main)

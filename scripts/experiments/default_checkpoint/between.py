"""A classifier whose weights lie between those of two: what it was, and what further training made of it.

It keeps more of what the first one knew than the second one does (Wortsman et al., "Robust fine-tuning of zero-shot
models", 2022). Labels of which the second training saw too many are then said too often; `--lowered` takes that back
(Menon et al., "Long-tail learning via logit adjustment", 2021).

python scripts/experiments/default_checkpoint/between.py --first runs/before --second runs/after --share 0.75 \
    --output_dir runs/between
"""

from dataclasses import dataclass, field

from flux_hf.cli import run_command
from flux_hf.options import check_checkpoints, parse_options

COMMAND = "scripts/experiments/default_checkpoint/between.py"


@dataclass
class BetweenOptions:
    first: str = field(metadata={"help": "Checkpoint before; the configuration and the processor are its."})
    second: str = field(metadata={"help": "Checkpoint after."})
    share: float = field(metadata={"help": "Of the second one, 0 to 1."})
    output_dir: str = field(metadata={"help": "Folder to write."})
    lowered: list[str] = field(default_factory=list, metadata={"help": "Labels that become less likely."})
    lowered_by: list[float] = field(
        default_factory=list,
        metadata={
            "help": "By how much their logits fall at each budget, the largest first: log(2) for half as likely."
        },
    )


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(BetweenOptions, argv, __doc__)
    check_checkpoints(first=options.first, second=options.second)
    if not 0 <= options.share <= 1:
        raise ValueError(f"--share must be from 0 to 1, got {options.share}")
    import torch

    from flux_hf.plugin import load_video_classifier, load_video_processor

    first, second = (load_video_classifier(path) for path in (options.first, options.second))
    before, after = first.state_dict(), second.state_dict()
    if {name: value.shape for name, value in before.items()} != {name: value.shape for name, value in after.items()}:
        raise ValueError(f"--first {options.first} and --second {options.second} are not of the same architecture")
    if unknown := set(options.lowered) - set(first.config.label2id):
        raise ValueError(f"--lowered {', '.join(sorted(unknown))}: the labels are {', '.join(first.config.label2id)}")
    budgets = first.token_budgets if options.lowered else []
    if len(options.lowered_by) != len(budgets):
        raise ValueError(
            f"--lowered_by must have a number for each of the budgets {', '.join(map(str, first.token_budgets))}, and "
            f"none without --lowered; got {len(options.lowered_by)}"
        )
    first.load_state_dict({name: torch.lerp(before[name], after[name], options.share) for name in before})
    with torch.no_grad():
        for label in options.lowered:
            for classifier, by in zip(first.classifier.heads, options.lowered_by, strict=True):
                classifier.bias[first.config.label2id[label]] -= by
    first.save_pretrained(options.output_dir)
    load_video_processor(options.first, first).save_pretrained(options.output_dir)
    print(options.output_dir)


if __name__ == "__main__":
    run_command(COMMAND, main)

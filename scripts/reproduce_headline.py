"""Compare plain ViT, FluxViT on a fixed grid, Flux-Single and Flux-Multi at full, 1/2, 1/4 and 1/8 of the tokens."""

import json
import sys
from pathlib import Path

from flux_hf import training
from flux_hf.cli import run_command
from flux_hf.headline import HeadlineOptions, reproduce_headline
from flux_hf.headline.report import markdown_table, over_seeds, plot, verdict
from flux_hf.options import parse_options
from flux_hf.provenance import provenance


def main(argv: list[str] | None = None) -> None:
    options, training_args = parse_options((HeadlineOptions, training.FluxTrainingArguments), argv, __doc__)
    result = reproduce_headline(options, training_args)
    means = over_seeds(result["rows"])
    result |= {"means": means, "verdict": verdict(means, result["budgets"])}
    result |= provenance("reproduce-headline", argv)
    output = Path(training_args.output_dir)
    (output / "headline.json").write_text(json.dumps(result, indent=1) + "\n")
    table = f"{markdown_table(means, result['budgets'])}\n{result['verdict']}\n"
    (output / "headline.md").write_text(table)
    print(table)
    try:
        plot(means, output / "headline.png")
    except ImportError as error:
        print(f"no plot: {error}", file=sys.stderr)


if __name__ == "__main__":
    run_command("reproduce-headline", main)

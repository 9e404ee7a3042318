"""Compare plain ViT, FluxViT on a fixed grid, Flux-Single and Flux-Multi at full, 1/2, 1/4 and 1/8 of the tokens."""

import sys
from pathlib import Path

from flux_hf.cli import run_command
from flux_hf.files import write_json, write_text
from flux_hf.options import parse_options
from flux_hf.options.training import FluxTrainingOptions
from flux_hf.provenance import provenance
from flux_hf.scripts.experiments.headline import HeadlineOptions, reproduce_headline
from flux_hf.scripts.experiments.headline.report import over_seeds, plot, table_of_budgets, verdict


def main(argv: list[str] | None = None) -> None:
    options, training_args = parse_options((HeadlineOptions, FluxTrainingOptions), argv, __doc__)
    result = reproduce_headline(options, training_args)
    result |= provenance("python scripts/experiments/headline/reproduce.py", argv)
    output = Path(training_args.output_dir)
    write_json(output / "headline.json", result)
    means = over_seeds(result["rows"])
    page = f"{table_of_budgets(means, result['budgets'])}\n{verdict(means, result['budgets'], tuple(options.same))}\n"
    write_text(output / "headline.md", page)
    print(page)
    try:
        plot(means, output / "headline.png")
    except ImportError as error:
        print(f"no plot: {error}", file=sys.stderr)


if __name__ == "__main__":
    run_command("scripts/experiments/headline/reproduce.py", main)

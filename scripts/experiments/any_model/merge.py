"""Put the files of runs into one, draw the plot and print the table; compare.py does so at its end.

python scripts/experiments/any_model/merge.py --runs runs/any_model
"""

from dataclasses import dataclass, field
from pathlib import Path

from flux_hf.cli import run_command
from flux_hf.files import read_json, write_json
from flux_hf.options import parse_options
from flux_hf.scripts.experiments.any_model.report import PLOT, RESULTS, accuracy_table, draw, means

COMMAND = "scripts/experiments/any_model/merge.py"
ORIGIN = ("command", "date", "machine", "versions")


@dataclass
class MergeOptions:
    runs: str = field(default="runs/any_model", metadata={"help": "Folder of a JSON file for each run."})
    output: str = field(default=str(RESULTS), metadata={"help": "JSON file to write."})
    plot: str | None = field(default=str(PLOT), metadata={"help": "Picture to draw; needs flux_hf[plot]."})


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(MergeOptions, argv, __doc__)
    print(merge(options.runs, options.output, options.plot))


def merge(runs: str, output: str, plot: str | None, command: str | None = None) -> str:
    """Write `output` and, unless it is None, `plot`; returns the table of accuracy.

    Args:
        command: what made the runs. Default: the commands of the runs.

    Raises:
        ValueError: there are no runs, or they are of different clips or settings.
    """
    found = [read_json(path) for path in sorted(Path(runs).glob("*.json"))]
    trainings = [one for one in found if "model" in one]
    if not trainings:
        raise ValueError(f"{runs} holds no run: compare.py or run.py writes them")
    if any(one["settings"] != found[0]["settings"] for one in found):
        raise ValueError(f"the runs in {runs} are of different clips or settings")
    result = {name: trainings[0][name] for name in ORIGIN}
    result["command"] = command or " && ".join(one["command"] for one in trainings)
    result |= {
        "settings": found[0]["settings"],
        "trainings": [{name: one[name] for name in one if name not in (*ORIGIN, "settings")} for one in trainings],
        "baselines": [{name: one[name] for name in ("seed", "seconds", "top1")} for one in found if "model" not in one],
    }
    write_json(output, result)
    if plot:
        draw(means(result), plot)
    return accuracy_table(result)


if __name__ == "__main__":
    run_command(COMMAND, main)

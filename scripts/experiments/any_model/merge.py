"""Put the files of runs into one, draw the plot and print the table; compare.py does so at its end.

python scripts/experiments/any_model/merge.py --runs runs/any_model
"""

from dataclasses import dataclass, field
from pathlib import Path

from flux_hf.cli import run_command
from flux_hf.files import read_json, write_json
from flux_hf.options import parse_options
from flux_hf.scripts.experiments.any_model.report import PLOT, RESULTS, accuracy_table, draw

COMMAND = "scripts/experiments/any_model/merge.py"


@dataclass
class MergeOptions:
    runs: str = field(default="runs/any_model", metadata={"help": "Folder of a JSON file for each run."})
    output: str = field(default=str(RESULTS), metadata={"help": "JSON file to write."})
    plot: str | None = field(default=str(PLOT), metadata={"help": "Picture to draw; needs flux_hf[plot]."})


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(MergeOptions, argv, __doc__)
    print(merge(options.runs, options.output, options.plot))


def merge(runs: str, output: str, plot: str | None) -> str:
    """Write `output` and, unless it is None, `plot`; returns the table of accuracy.

    Raises:
        ValueError: there are no runs, they are of different clips, or those of a model are of different settings or
            machines.
    """
    found = [read_json(path) for path in sorted(Path(runs).glob("*.json"))]
    trainings = [one for one in found if "model" in one]
    if not trainings:
        raise ValueError(f"{runs} holds no run: compare.py or run.py writes them")
    if any(one["data"] != found[0]["data"] for one in found):
        raise ValueError(f"the runs in {runs} are of different clips")
    first = {}
    for one in trainings:
        other = first.setdefault(one["model"], one)
        if (one["setting"], one["machine"]) != (other["setting"], other["machine"]):
            raise ValueError(f"the runs of {one['model']} in {runs} are of different settings or machines")
    result = {
        "data": found[0]["data"],
        "trainings": [{name: one[name] for name in one if name != "data"} for one in trainings],
        "baselines": [{name: one[name] for name in one if name != "data"} for one in found if "model" not in one],
    }
    write_json(output, result)
    if plot:
        draw(result, plot)
    return accuracy_table(result)


if __name__ == "__main__":
    run_command(COMMAND, main)

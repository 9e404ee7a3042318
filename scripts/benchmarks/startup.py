"""Measure what starting takes: a new Python process that imports, and the help of every command; writes JSON."""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

from flux_hf.cli import run_command
from flux_hf.files import write_json
from flux_hf.options import parse_options

COMMAND = "scripts/benchmarks/startup.py"
AUTO = "from transformers import AutoModelForVideoClassification, AutoVideoProcessor"
STATEMENTS = {
    "transformers": "import transformers",
    "flux_hf": "import flux_hf",
    "transformers and its Auto classes": AUTO,
    "flux_hf, then the same": f"import flux_hf; {AUTO}",
}


@dataclass
class StartupOptions:
    output: str = field(default="scripts/benchmarks/results/startup.json", metadata={"help": "JSON file to write."})
    repeats: int = field(default=5, metadata={"help": "Counted runs of each, taking turns."})


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(StartupOptions, argv, __doc__)
    from flux_hf.cli import COMMANDS
    from flux_hf.provenance import provenance
    from flux_hf.scripts.benchmarks.measuring.processes import cpu_seconds
    from flux_hf.scripts.benchmarks.measuring.timing import spread

    runs = {("import", name): [sys.executable, "-c", code] for name, code in STATEMENTS.items()}
    flux_hf = [sys.executable, "-m", "flux_hf.cli"]
    runs |= {("help", name): [*flux_hf, name, "--help"] for name in COMMANDS}
    runs["help", "flux-hf"] = [*flux_hf, "--help"]
    seconds = {name: [] for name in runs}
    for turn in range(options.repeats + 1):
        for name, command in runs.items():
            taken = cpu_seconds(command)
            if turn:
                seconds[name].append(taken)
    rows = [{"what": what, "name": name} | spread(times) for (what, name), times in seconds.items()]
    result = provenance(f"python {COMMAND}", argv) | {"options": vars(options), "startup": rows}
    write_json(Path(options.output), result)
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    run_command(COMMAND, main)

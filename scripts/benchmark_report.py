"""Write docs/performance.md from the JSON files of the benchmarks."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from flux_hf.cli import run_command
from flux_hf.options import parse_options


@dataclass
class ReportOptions:
    results: list[str] = field(metadata={"help": "JSON files, in the order of the sections."})
    output: str = field(default="docs/performance.md", metadata={"help": "Markdown file to write."})


def main(argv: list[str] | None = None) -> None:
    (options,) = parse_options(ReportOptions, argv, __doc__)
    from flux_hf.benchmarking.report import performance_page

    results = [json.loads(Path(name).read_text()) for name in options.results]
    page = performance_page(results)
    Path(options.output).write_text(page)


if __name__ == "__main__":
    run_command("benchmark-report", main)

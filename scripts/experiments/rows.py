"""Result files to which several commands add rows, each those that are not there yet."""

import json
from collections.abc import Callable
from pathlib import Path

from flux_hf.files import read_json, write_json


def finished_rows(output: Path, settings: dict) -> list[dict]:
    """Those in the file.

    Raises:
        ValueError: they are of other clips, another recipe or checkpoint, or another seed.
    """
    if not output.exists():
        return []
    found = read_json(output)
    if found["settings"] != json.loads(json.dumps(settings)):
        raise ValueError(
            f"{output} has rows of other clips, another recipe or checkpoint, or another seed; name another --output"
        )
    return found["rows"]


def write_rows(output: Path, settings: dict, rows: list[dict], head: dict, order: Callable[[dict], object]) -> None:
    """Write the rows in `order`, below a `provenance` and every command that added some."""
    head = after_earlier_commands(output, head)
    write_json(output, head | {"settings": settings, "rows": sorted(rows, key=order)})


def after_earlier_commands(output: Path, head: dict) -> dict:
    """A `provenance` whose command follows those that wrote the file before."""
    before = read_json(output)["command"].split(" && ") if output.exists() else []
    return head | {"command": " && ".join(dict.fromkeys([*before, head["command"]]))}

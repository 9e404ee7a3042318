"""Options of the commands: dataclasses on the command line, with defaults from one YAML recipe."""

import itertools
import sys
from pathlib import Path

import yaml
from transformers import HfArgumentParser


def parse_options(dataclass_types, argv: list[str] | None = None, description: str | None = None) -> tuple:
    """Fill dataclasses from the command line. When the first argument is a YAML file its entries are the defaults and
    the arguments after it win. Unknown names in either end the program with the usual usage error."""
    argv = sys.argv[1:] if argv is None else argv
    parser = HfArgumentParser(dataclass_types, description=description)
    if argv and argv[0].endswith((".yaml", ".yml")):
        recipe = yaml.safe_load(Path(argv[0]).read_text())
        options = {action.dest: action for action in parser._actions}
        if unknown := sorted(recipe.keys() - options.keys()):
            parser.error(f"{argv[0]} has unknown options: {', '.join(unknown)}")
        parser.set_defaults(**recipe)
        for name in recipe:
            options[name].required = False
        argv = argv[1:]
    return parser.parse_args_into_dataclasses(argv, look_for_args_file=False)


def leading_values(argv: list[str], *names: str) -> list[str]:
    """Values before the first option, by position: `FILE FOLDER --x 1` becomes `--NAME FILE --NAME FOLDER --x 1`."""
    values = list(itertools.takewhile(lambda argument: not argument.startswith("-"), argv))
    if values and values[0].endswith((".yaml", ".yml")):
        return argv
    named = [part for name, value in zip(names, values, strict=False) for part in (f"--{name}", value)]
    return [*named, *argv[min(len(values), len(names)) :]]

"""Options of the commands: dataclasses on the command line, with defaults from one YAML recipe."""

import itertools
import sys
from contextlib import contextmanager
from pathlib import Path

import yaml
from transformers import HfArgumentParser
from transformers.utils import cached_file


def parse_options(dataclass_types, argv: list[str] | None = None, description: str | None = None) -> tuple:
    """Fill dataclasses from the command line. When the first argument is a YAML file its entries are the defaults and
    the arguments after it win. Unknown names in either, and a file that is no recipe, end the program with the usual
    usage error."""
    argv = sys.argv[1:] if argv is None else argv
    parser = HfArgumentParser(dataclass_types, description=description)
    if argv and argv[0].endswith((".yaml", ".yml")):
        recipe = _recipe(argv[0], parser)
        options = {action.dest: action for action in parser._actions}
        if unknown := sorted(recipe.keys() - options.keys()):
            parser.error(f"{argv[0]} has unknown options: {', '.join(unknown)}")
        parser.set_defaults(**recipe)
        for name in recipe:
            options[name].required = False
        argv = argv[1:]
    *filled, unknown = parser.parse_args_into_dataclasses(argv, look_for_args_file=False, return_remaining_strings=True)
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    return tuple(filled)


def _recipe(file: str, parser: HfArgumentParser) -> dict:
    try:
        recipe = yaml.safe_load(Path(file).read_text())
    except OSError as error:
        parser.error(f"{file} cannot be read: {error.strerror}")
    except yaml.YAMLError as error:
        parser.error(f"{file} is not YAML: {error}")
    if not isinstance(recipe, dict):
        parser.error(f"{file} must hold lines `option: value`, got {recipe!r}")
    return recipe


def leading_values(argv: list[str], *names: str) -> list[str]:
    """Values before the first option, by position: `FILE FOLDER --x 1` becomes `--NAME FILE --NAME FOLDER --x 1`."""
    values = list(itertools.takewhile(lambda argument: not argument.startswith("-"), argv))
    if values and values[0].endswith((".yaml", ".yml")):
        return argv
    named = [part for name, value in zip(names, values, strict=False) for part in (f"--{name}", value)]
    return [*named, *argv[min(len(values), len(names)) :]]


@contextmanager
def naming_option(option: str, value: str):
    """Puts `--option value: ` before the messages of ValueErrors and OSErrors; the error is a ValueError then."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise ValueError(f"--{option} {value}: {error}") from error


@contextmanager
def naming_split(options, *names: str):
    """As `naming_option` for a split that a data set lacks: the option is that of `names` which asked for it."""
    from flux_hf.data import MissingSplitError  # here, so that --help does not wait for datasets

    try:
        yield
    except MissingSplitError as error:
        asked = [f"--{name}" for name in names if error.split in _listed(getattr(options, name))]
        raise ValueError(f"{', '.join(asked)}: {error}") from error


def check_checkpoints(**checkpoints: str | None) -> None:
    """Look for the checkpoint that each option names (None: not given), before anything else takes time.

    Raises:
        ValueError: naming the option of one that is no folder with a config.json and not on the Hub either.
    """
    for option, checkpoint in checkpoints.items():
        if checkpoint is not None:
            with naming_option(option, checkpoint):
                cached_file(checkpoint, "config.json")


def _listed(value: str | list[str] | None) -> list:
    return value if isinstance(value, list) else [value]

"""What users are told about options that do not fit."""

import difflib
import sys
from collections.abc import Iterable
from contextlib import contextmanager
from typing import NoReturn

from flux_hf.checkpoints import checkpoint_path


def usage_error(usage: str, message: str, help_command: str) -> NoReturn:
    """End the program with exit code 2 and three lines: usage, what was wrong, where the help is."""
    message = " ".join(message.split())
    print(f"usage: {usage}\nerror: {message}\nhint: {help_command}", file=sys.stderr)
    raise SystemExit(2)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean OTHER?` with the most similar of the known words; empty if none is similar."""
    similar = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {similar[0]}?" if similar else ""


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
    from flux_hf.data import MissingSplitError

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
    from transformers.utils import cached_file

    for option, checkpoint in checkpoints.items():
        if checkpoint is not None:
            with naming_option(option, checkpoint):
                cached_file(checkpoint_path(checkpoint), "config.json")


def _listed(value: str | list[str] | None) -> list:
    return value if isinstance(value, list) else [value]

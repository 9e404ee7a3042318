"""What users are told about options that do not fit."""

import difflib
import sys
from collections.abc import Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from flux_hf.checkpoints import checkpoint_path, reading_weights
from flux_hf.files import read_json
from flux_hf.tables import printable


def usage_error(usage: str, message: str, help_command: str) -> NoReturn:
    """End the program with exit code 2 and three lines: usage, what was wrong, where the help is."""
    message = printable(" ".join(message.split()), None)
    print(f"usage: {usage}\nerror: {message}\nhint: {help_command}", file=sys.stderr)
    raise SystemExit(2)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean OTHER?` with the most similar of the known words; empty if none is similar."""
    similar = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {similar[0]}?" if similar else ""


@contextmanager
def naming_option(option: str, value: str):
    """Puts `--option value: ` before the messages of ValueErrors, OSErrors and errors of strict configurations, which
    are ValueErrors then, and of what `reading_weights` makes one of."""
    from huggingface_hub.errors import StrictDataclassError

    try:
        with reading_weights(value):
            yield
    except (ValueError, OSError, StrictDataclassError) as error:
        said = str(error).removeprefix(f"{value}: ")
        raise ValueError(f"--{option} {value}: {said}") from error


@contextmanager
def naming_split(options, *names: str):
    """As `naming_option` for a split that a data set lacks: the option is that of `names` which asked for it."""
    from flux_hf.data import MissingSplitError

    try:
        yield
    except MissingSplitError as error:
        asked = [f"--{name}" for name in names if error.split in _listed(getattr(options, name))]
        raise ValueError(f"{', '.join(asked)}: {error}") from error


def check_at_least(least: float, options, *names: str) -> None:
    """Compare values of a dataclass of options, those of lists one by one; None is not given.

    Raises:
        ValueError: naming the first option of `names` with a value below `least`.
    """
    for name in names:
        for value in _listed(getattr(options, name)):
            if value is not None and value < least:
                raise ValueError(f"--{name} must be at least {least}, got {value}")


def check_each_once(options, name: str) -> None:
    """Raises ValueError where the list that an option gives (None: not given) names a value twice."""
    values = getattr(options, name)
    if values is not None and len(set(values)) < len(values):
        raise ValueError(f"--{name} must name each value once, got {' '.join(map(str, values))}")


def check_paths(options, *names: str) -> None:
    """Raises ValueError naming the first option of `names` whose file or folder is not there; None is not given."""
    for name in names:
        path = getattr(options, name)
        if path is not None and not Path(path).exists():
            raise ValueError(f"--{name} {path}: there is no such file or folder")


def check_output(options, *suffixes: str) -> None:
    """Raises ValueError where the file of `--output` (None: not given) ends in none of `suffixes`."""
    if options.output is not None and Path(options.output).suffix not in suffixes:
        raise ValueError(f"--output must end in {', '.join(suffixes)}, got {options.output}")


def check_checkpoints(**checkpoints: str | None) -> None:
    """Look for the checkpoint that each option names (None: not given), before anything else takes time.

    Raises:
        ValueError: naming the option of one that is no folder with a config.json and not on the Hub either.
    """
    from transformers.utils import cached_file

    for option, checkpoint in checkpoints.items():
        if checkpoint is not None:
            with naming_option(option, checkpoint):
                try:
                    found = cached_file(checkpoint_path(checkpoint), "config.json")
                    if found is None:
                        raise ValueError("there is no config.json in it")
                    beside = Path(found).with_name("video_preprocessor_config.json")
                    for file in (Path(found), *([beside] if beside.is_file() else [])):
                        if not isinstance(read_json(file), dict):
                            raise ValueError(f"{file} holds no JSON object {{...}}")
                except OSError as error:
                    if Path(checkpoint_path(checkpoint)).is_dir():
                        raise
                    raise ValueError(not_found(checkpoint, error)) from error


def not_found(name: str, error: Exception) -> str:
    """What is said of a checkpoint or data set that is no folder here, and for which asking the Hub gave `error`."""
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )
    from huggingface_hub.utils import validate_repo_id

    here = f"{name} is a file, not a folder" if Path(name).is_file() else f"there is no folder {name} here"
    try:
        validate_repo_id(name)
    except HFValidationError:
        return here
    reasons = (error, error.__cause__)
    if any(isinstance(one, GatedRepoError) for one in reasons):
        return str(error)
    if any(isinstance(one, (RepositoryNotFoundError, DatasetNotFoundError)) for one in reasons):
        return f"{here}, and nothing of that name on the Hub that you may read"
    if any(isinstance(one, (LocalEntryNotFoundError, ConnectionError)) for one in reasons):
        return f"{here}, and the Hub, which might have it, cannot be reached"
    return str(error)


def _listed(value) -> list:
    return value if isinstance(value, list) else [value]

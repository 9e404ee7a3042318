"""Names of the labels of a data set, from the files that data sets ship them in."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from flux_hf.files import read_text
from flux_hf.modeling.configuration_fluxvit import MOST_LABELS


def read_label_names(source: Sequence[str] | str | Path) -> list[str]:
    """Label names in the order of their numbers.

    Args:
        source: the names themselves, or a file: `.json` with {name: number} (SSv2) or a list, any other with one name a
            line; empty lines at the end are left out.

    Raises:
        ValueError: naming the file, and what in it is wrong, when the numbers are not 0 to n - 1, there is no name or
            more than a model can have, or a name is empty, no text or there twice.
    """
    if isinstance(source, str | Path):
        where, names = str(source), _names_in(Path(source))
    else:
        where, names = "label names", list(source)
    if not 1 <= len(names) <= MOST_LABELS:
        raise ValueError(f"{where}: there must be 1 to {MOST_LABELS} names, got {len(names)}")
    for number, name in enumerate(names):
        if not isinstance(name, str) or not name.strip():
            raise ValueError(
                f"{where} must be one name for every class, without empty lines; label {number} is {name!r:.100}"
            )
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(f"{where} must be different, these come twice: {', '.join(twice[:5]):.200}")
    return names


def check_label_number(number: int, where: str) -> None:
    """Raises ValueError naming `where` unless `number` can be a label's where labels have no names: 0, 1, ..., with as
    many classes as the largest says."""
    if not 0 <= number < MOST_LABELS:
        raise ValueError(f"{where}: the label {number} is out of bounds, accepted are 0 to {MOST_LABELS - 1}")


def _names_in(file: Path) -> list:
    text = read_text(file)
    if file.suffix != ".json":
        return [line.strip() for line in text.rstrip().split("\n")] if text.strip() else []
    try:
        content = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} cannot be read as JSON: {error}") from None
    if isinstance(content, dict):
        content = _by_number(content, file)
    if not isinstance(content, list):
        raise ValueError(f"{file} must hold a list of names, or names and their numbers")
    return [name.strip() if isinstance(name, str) else name for name in content]


def _unique(pairs: list[tuple[str, object]]) -> dict:
    if twice := [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]:
        raise ValueError(f"the name {twice[0]!r:.100} is there twice")
    return dict(pairs)


def _by_number(content: dict, file: Path) -> list[str]:
    names = {}
    for name, number in content.items():
        if isinstance(number, bool) or not str(number).isdecimal() or int(number) >= len(content):
            raise ValueError(
                f"{file}: the numbers of the labels must be 0 to {len(content) - 1}, each once; that of {name!r:.100} "
                f"is {number!r:.100}"
            )
        if names.setdefault(int(number), name) != name:
            raise ValueError(f"{file}: {names[int(number)]!r:.100} and {name!r:.100} have the same number {number}")
    return [names[number] for number in range(len(names))]

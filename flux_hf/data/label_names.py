"""Names of the labels of a data set, from the files that data sets ship them in."""

import json
from collections.abc import Sequence
from pathlib import Path


def read_label_names(source: Sequence[str] | str | Path) -> list[str]:
    """Label names in the order of their numbers.

    Args:
        source: the names themselves, or a file: `.json` with {name: number} (SSv2) or a list, any other with one name a
            line; empty lines at the end are left out.

    Raises:
        ValueError: naming the file, when the numbers are not 0 to n - 1, there is no name, or a name is empty or there
            twice.
    """
    where = "label names" if not isinstance(source, str | Path) else str(source)
    if not isinstance(source, str | Path):
        names = list(source)
    else:
        text = Path(source).read_text(encoding="utf-8")
        content = json.loads(text) if Path(source).suffix == ".json" else text.rstrip().splitlines()
        if isinstance(content, dict):
            numbers = {name: int(number) for name, number in content.items()}
            if sorted(numbers.values()) != list(range(len(numbers))):
                raise ValueError(f"{source}: the numbers of the labels must be 0 to {len(numbers) - 1}, each once")
            content = sorted(numbers, key=numbers.get)
        names = [name.strip() for name in content]
    if not names or not all(names):
        raise ValueError(f"{where} must be one name for every class, without empty lines")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{where} must be different, these come twice: {', '.join(twice[:5])}")
    return names

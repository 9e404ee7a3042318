"""Files that are whole or not there, and folders that know the settings they were made with."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A hidden path beside `path` to write to, with the same ending; `path` appears when the block ends, and not at all
    when it fails. Missing folders are made."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file in UTF-8; it is whole or not there."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: str | Path, content: Mapping) -> None:
    """Write a JSON object, an entry a line; of a list of objects every row has a line of its own."""
    write_text(path, json_lines(content))


def json_lines(content: Mapping) -> str:
    """`content` as JSON with an entry, and a row of a list of objects, a line."""
    entries = [f"{json.dumps(str(name))}: {_entry(value)}" for name, value in content.items()]
    return "{\n" + ",\n".join(entries) + "\n}\n"


def _entry(value) -> str:
    if isinstance(value, (list, tuple)) and value and all(isinstance(row, Mapping) for row in value):
        return "[\n" + ",\n".join(f"  {json.dumps(row)}" for row in value) + "\n]"
    return json.dumps(value)


def read_json(path: str | Path) -> dict | list:
    """What a JSON file holds.

    Raises:
        ValueError: it is no JSON, or not all of it; names the file.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged or no JSON file: {error}") from None


def read_text(path: str | Path) -> str:
    """A text file in UTF-8, with or without a byte-order mark.

    Raises:
        ValueError: it is no text in UTF-8, or has NUL characters in it; names the file and the line.
    """
    content = Path(path).read_bytes()
    try:
        text, place = content.decode("utf-8-sig"), content.find(b"\0")
    except UnicodeDecodeError as error:
        text, place = "", error.start
    if place >= 0:
        line = content.count(b"\n", 0, place) + 1
        raise ValueError(f"{path}, line {line}: byte {content[place]:#04x} is damage, or not UTF-8, which is accepted")
    return text


def claim_folder(folder: str | Path, settings: Mapping, name: str = "settings.json", *, write: bool = True) -> Path:
    """A folder for results that depend on `settings`. A new one is made, with the settings in the file `name`; one that
    is there must hold the same settings.

    Args:
        settings: what the results depend on, as JSON.
        write: False only compares; for all processes but the first.

    Raises:
        ValueError: the folder holds results of other settings, or files but no settings; names the folder and what
            differs.
    """
    folder = Path(folder)
    settings, described = json.loads(json.dumps(settings)), folder / name
    if described.exists():
        if changes := _changes(read_json(described), settings):
            raise ValueError(
                f"{folder} holds results of other options ({'; '.join(changes)}); delete it or name another one"
            )
    elif folder.exists() and any(".partial" not in path.suffixes for path in folder.iterdir()):
        raise ValueError(f"{folder} is not empty and holds no {name}; name another folder")
    elif write:
        write_json(described, settings)
    return folder


def _changes(found: dict, settings: dict, prefix: str = "") -> list[str]:
    """What differs, entries of nested dictionaries by name."""
    changes = []
    for name in sorted({*found, *settings}):
        before, now = found.get(name), settings.get(name)
        if before == now:
            continue
        if isinstance(before, dict) and isinstance(now, dict):
            changes += _changes(before, now, f"{prefix}{name}.")
        else:
            changes.append(f"{prefix}{name}: {_short(before)} there, {_short(now)} now")
    return changes


def _short(value) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."

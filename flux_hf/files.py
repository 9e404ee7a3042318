"""Files and folders that are whole or not there, and folders that know the settings they were made with."""

import errno
import json
import os
import platform
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says when there is no more room: on the disk, in the user's share of it, in one file."""


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A hidden path beside `path` to write to, with the same ending; `path` appears when the block ends, and not at all
    when it fails. Missing folders are made.

    Raises:
        OSError: the disk is full, whatever the library that writes makes of it; names `path`.
    """
    path = Path(path)
    partial = _partial(path.parent, path.stem, path.suffix)
    try:
        with naming_full_disk(path):
            yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def whole_folder(folder: str | Path, last: str = "config.json") -> Iterator[Path]:
    """A hidden folder to write to. When the block ends its files appear in `folder`: all at once where that is new,
    else each in place of the one of its name, `last` after the others. When the block fails nothing changes.

    Raises:
        OSError: as [`whole_file`].
    """
    folder = Path(folder)
    partial = _partial(folder if folder.is_dir() else folder.parent, folder.absolute().name)
    shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed and had the number of this one
    partial.mkdir()
    try:
        with naming_full_disk(folder):
            yield partial
        if not folder.exists():
            os.rename(partial, folder)
            return
        for path in sorted(partial.rglob("*"), key=lambda path: path.name == last):
            if path.is_file():
                target = folder / path.relative_to(partial)
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(path, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def naming_full_disk(path: str | Path) -> Iterator[None]:
    """Makes one OSError, which names `path`, of what the system, PyTorch and safetensors raise when a disk is full."""
    try:
        yield
    except Exception as error:
        reason = _full_disk(error)
        if reason is None:
            raise
        there = next(parent for parent in Path(path).absolute().parents if parent.exists())
        free = shutil.disk_usage(there).free
        number = getattr(error, "errno", None) or errno.ENOSPC
        raise OSError(
            number, f"{path} cannot be written: {reason}; {free / 1e6:,.1f} MB are free on that disk"
        ) from error


def _full_disk(error: Exception) -> str | None:
    if isinstance(error, OSError):
        return error.strerror if error.errno in FULL else None
    message = str(error).partition("\n")[0]
    # PyTorch says where its writer found itself, not why; safetensors quotes the system in an exception of its own.
    if isinstance(error, RuntimeError) and re.search("inline_container|PytorchStreamWriter|iostream error", message):
        return f"no space left, or another failure to write ({message})"
    if type(error).__name__ == "SafetensorError" and "I/O error" in message:
        return message.rpartition("I/O error: ")[2]
    return None


_SWEPT = set()


def _partial(folder: Path, stem: str, suffix: str = "") -> Path:
    """A hidden path in `folder`, which is made, for this process to write to. Those of processes that are no more are
    deleted, once for each folder: it may hold millions of files."""
    folder.mkdir(parents=True, exist_ok=True)
    if folder.absolute() not in _SWEPT:
        _SWEPT.add(folder.absolute())
        _remove_abandoned(folder)
    return folder / f".{stem}.{platform.node()}-{os.getpid()}.partial{suffix}"


def _remove_abandoned(folder: Path) -> None:
    """Delete what processes of this machine that ended in the midst of [`whole_file`] or [`whole_folder`] left in
    `folder`."""
    import psutil  # here: most commands never write

    pattern = re.compile(rf"\..*\.(?:{re.escape(platform.node())}-)?(\d+)\.partial(?:\.[^.]*)?")
    for path in folder.iterdir():
        found = pattern.fullmatch(path.name)
        if found is None or psutil.pid_exists(int(found[1])):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


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


def read_tensors(path: str | Path) -> dict:
    """The tensors of a safetensors file, on the CPU.

    Raises:
        ValueError: it is damaged; names the file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}") from error


SETTINGS = "settings.json"


def claim_folder(folder: str | Path, settings: Mapping, name: str = SETTINGS, *, write: bool = True) -> Path:
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
        found = read_json(described)
        if not isinstance(found, dict):
            raise ValueError(f"{described} is damaged: it holds no settings")
        if changes := _changes(found, settings):
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
            changes.append(f"{prefix}{name}: {short_json(before)} there, {short_json(now)} now")
    return changes


def short_json(value, longest: int = 60) -> str:
    """`value` as JSON for a message, dots in place of what is longer than `longest` characters."""
    text = json.dumps(value)
    return text if len(text) <= longest else f"{text[: longest - 3]}..."

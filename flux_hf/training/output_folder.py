"""The folder of a training run: new, gone on with, or begun anew; and what to do after Ctrl-C."""

import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from transformers import TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME

from flux_hf.options.interruption import INTERRUPTED
from flux_hf.training.checkpoint_folders import check_checkpoint, last_checkpoint, numbered_checkpoints


def checkpoint_to_resume(
    value: str | Path | bool | None, output_dir: str, say: Callable[[str], None] = lambda _: None
) -> str | None:
    """The checkpoint that `resume_from_checkpoint` means: a folder, or the last whole one in `output_dir` for `last`,
    `true` and True; None for `false`, False, an empty word and None.

    Args:
        say: is told which one it is, and why newer ones are passed over.

    Raises:
        ValueError: there is none, or the folder lacks a file or has a damaged one, which it names.
    """
    word = str(value or "false").lower()
    if word == "false":
        return None
    if word not in ("true", "last"):
        if not (Path(value) / TRAINER_STATE_NAME).is_file():
            raise ValueError(
                f"--resume_from_checkpoint: {value} is no checkpoint of a training run (no {TRAINER_STATE_NAME} in "
                f"it); accepted are such a folder and `last`, the last one in {output_dir}"
            )
        try:
            check_checkpoint(value)
        except ValueError as error:
            raise ValueError(f"--resume_from_checkpoint: {error}; `last` takes the last whole one") from error
        return str(value)
    last, complaints = last_checkpoint(output_dir)
    if last is None:
        if complaints:
            raise ValueError(
                f"--resume_from_checkpoint: no checkpoint in {output_dir} is whole: {'; '.join(complaints)}"
            )
        raise ValueError(f"--resume_from_checkpoint: there is no checkpoint in {output_dir}")
    for complaint in complaints:
        say(f"passed over: {complaint}")
    say(f"Training goes on from {last}.")
    return str(last)


def prepare_output_dir(args: TrainingArguments, overwrite: bool, start: str | None) -> None:
    """Keep a run from writing over another one. With `overwrite` the checkpoints of the other one are deleted, so that
    nothing goes on from them later; its model stays until the new one is saved.

    Args:
        start: the checkpoint that training starts from.

    Raises:
        ValueError: `output_dir` is a file or in one; it holds a model or checkpoints and neither
            `resume_from_checkpoint` nor `overwrite` is given, or both are, or `overwrite` would delete `start`.
    """
    folder = Path(args.output_dir)
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise ValueError(f"--output_dir {folder}: {there} is a file, not a folder")
    checkpoints = numbered_checkpoints(folder)
    if args.resume_from_checkpoint is not None:
        if overwrite:
            raise ValueError("--overwrite begins anew and --resume_from_checkpoint goes on: give one of them")
    elif overwrite:
        if start is not None and any(Path(start).resolve().is_relative_to(path.resolve()) for path in checkpoints):
            raise ValueError(f"--overwrite would delete {start}, which training starts from; name another --output_dir")
        if args.process_index == 0:
            for path in checkpoints:
                shutil.rmtree(path)
    elif checkpoints or (folder / "config.json").exists():
        found = "checkpoints" if checkpoints else "a model"
        resume = "--resume_from_checkpoint last to go on from the last one, " if last_checkpoint(folder)[0] else ""
        raise ValueError(
            f"--output_dir {folder} already holds {found}. Give {resume}--overwrite to begin anew (checkpoints are "
            "deleted), or another --output_dir to keep what is there"
        )


@contextmanager
def interruptible(command: str, argv: list[str] | None, args: TrainingArguments) -> Iterator[None]:
    """Ctrl-C inside ends the program with exit code 130 and one line: the command that goes on.

    Args:
        command: name of the command, `argv` its arguments (None: those of the program).
    """
    try:
        yield
    except KeyboardInterrupt:
        if args.process_index == 0:
            print(f"\n{_way_on(command, sys.argv[1:] if argv is None else argv, args)}", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None


def _way_on(command: str, argv: list[str], args: TrainingArguments) -> str:
    last, _ = last_checkpoint(args.output_dir)
    if last is None:
        return (
            f"stopped before the first checkpoint (--save_strategy {args.save_strategy.value}), nothing was saved yet: "
            "the same command begins anew"
        )
    again = [*_without(argv, "--overwrite", "--resume_from_checkpoint"), "--resume_from_checkpoint", "last"]
    start = f"flux-hf {command}" if args.world_size == 1 else f"torchrun ... -m flux_hf.scripts.{command}"
    return f"stopped; this goes on from {last.name}: {start} {shlex.join(again)}"


def _without(argv: list[str], *options: str) -> list[str]:
    """The arguments without these options and their values."""
    kept, skipping = [], False
    for argument in argv:
        skipping = argument in options or (skipping and not argument.startswith("--"))
        if not skipping and argument.partition("=")[0] not in options:
            kept.append(argument)
    return kept

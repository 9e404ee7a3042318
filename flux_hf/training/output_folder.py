"""The folder of a training run: new, gone on with, or begun anew; and what to do after Ctrl-C."""

import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transformers import TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME

from flux_hf.options.interruption import INTERRUPTED


def last_checkpoint(output_dir: str | Path) -> str | None:
    """The checkpoint of the most steps. One that was not written to its end does not count: its trainer_state.json,
    which comes last, is missing."""
    whole = [path.parent for path in Path(output_dir).glob(f"checkpoint-*/{TRAINER_STATE_NAME}")]
    return str(max(whole, key=lambda path: int(path.name.rpartition("-")[2]))) if whole else None


def checkpoint_to_resume(value: str | bool | None, output_dir: str) -> str | None:
    """The checkpoint that `resume_from_checkpoint` means: a folder, or the last one in `output_dir` for `last`, `true`
    and True; None for `false`, False, an empty word and None.

    Raises:
        ValueError: there is none.
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
        return value
    last = last_checkpoint(output_dir)
    if last is None:
        raise ValueError(f"--resume_from_checkpoint: there is no checkpoint in {output_dir}")
    return last


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
    checkpoints = sorted(path for path in folder.glob("checkpoint-*") if path.is_dir())
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
        resume = "--resume_from_checkpoint last to go on from the last one, " if last_checkpoint(folder) else ""
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
    last = last_checkpoint(args.output_dir)
    if last is None:
        return (
            f"stopped before the first checkpoint (--save_strategy {args.save_strategy.value}), nothing was saved yet: "
            "the same command begins anew"
        )
    again = [*_without(argv, "--overwrite", "--resume_from_checkpoint"), "--resume_from_checkpoint", "last"]
    start = f"flux-hf {command}" if args.world_size == 1 else f"torchrun ... -m flux_hf.scripts.{command}"
    return f"stopped; this goes on from {Path(last).name}: {start} {shlex.join(again)}"


def _without(argv: list[str], *options: str) -> list[str]:
    """The arguments without these options and their values."""
    kept, skipping = [], False
    for argument in argv:
        skipping = argument in options or (skipping and not argument.startswith("--"))
        if not skipping and argument.partition("=")[0] not in options:
            kept.append(argument)
    return kept

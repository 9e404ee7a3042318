"""Kills real training runs and lets them go on: python -m tests.killed_runs finetune|pretrain KILLS [SEED]

Every kill is a SIGKILL of a run of its own, every second one while a checkpoint is being written or deleted. The run
goes on with `--resume_from_checkpoint last` (from the start, where no checkpoint was whole), and its weights must be,
bit for bit, those of a run that was never stopped.
"""

import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

import flux_hf.pretraining
import flux_hf.training  # noqa: F401 (before any fork)
from flux_hf.cli import run_command
from flux_hf.scripts import finetune, pretrain
from flux_hf.training.checkpoint_folders import PARTIAL
from tests import tiny_pretraining, tiny_training, video_datasets

GRIDS = ("min_frames", "max_frames", "min_size", "max_size", "size_step", "min_pool_tokens", "max_pool_tokens")
STEPS = 6
ENDED = "no more: it had ended"


class KilledRuns:
    """Runs of one command in `folder`."""

    def __init__(self, command: str, folder: Path, seed: int = 0):
        self.folder, self.random = folder, random.Random(seed)
        data = video_datasets.videofolder(folder / "set", {"train": 6, "validation": 3})
        grids = {name: getattr(tiny_training.arguments(folder), name) for name in GRIDS}
        options = grids | {"dataset": data, "use_cpu": True, "report_to": "none", "max_steps": STEPS}
        options |= {"per_device_train_batch_size": 2, "save_strategy": "steps", "save_steps": 1, "save_total_limit": 2}
        options |= {"drop_path_rate": 0.5, "dataloader_num_workers": 0}
        torch.manual_seed(0)
        if command == "finetune":
            tiny_training.model().save_pretrained(folder / "start")
            tiny_training.processor().save_pretrained(folder / "start")
            options |= {"model": folder / "start", "mixup_alpha": 0.8, "ema_decay": 0.9}
            options |= {"eval_strategy": "steps", "eval_steps": 1, "load_best_model_at_end": True}
            options |= {"metric_for_best_model": "loss", "greater_is_better": False}
        else:
            tiny_pretraining.student().save_pretrained(folder / "start")
            tiny_training.processor().save_pretrained(folder / "start")
            teacher = tiny_pretraining.teacher_folder(folder / "teacher")
            options |= {"model": folder / "start", "teacher": teacher, "teacher_tokens": 16, "view_epochs": 2}
        self.cached = command == "pretrain"
        self.main = {"finetune": finetune.main, "pretrain": pretrain.main}[command]
        self.options = [f"--{name}={value}" for name, value in options.items()]
        self.expected, self.seconds = self.whole_run()

    def start(self, output: Path) -> BaseProcess:
        """The command in a fork of this process, which has imported what takes a new one seconds."""
        again = ["--resume_from_checkpoint", "last"] if any(output.glob("checkpoint-*")) else []
        cache = [f"--teacher_cache={output}.cache"] if self.cached else []
        options = [*self.options, f"--output_dir={output}", *cache, *again]
        process = get_context("fork").Process(target=self._run, args=(options, output.with_suffix(".log")))
        process.start()
        return process

    def _run(self, options: list[str], log: Path) -> None:
        with open(log, "a") as file:
            for descriptor in (1, 2):
                os.dup2(file.fileno(), descriptor)
        run_command("flux-hf", self.main, options)

    def whole_run(self) -> tuple[bytes, float]:
        """Its weights, and the seconds from when its folder was there to its end."""
        output = self.folder / "whole"
        process = self.start(output)
        self.wait_for_folder(process, output)
        began = time.monotonic()
        self.end(process, output)
        return (output / "model.safetensors").read_bytes(), time.monotonic() - began

    def wait_for_folder(self, process: BaseProcess, output: Path) -> None:
        while process.is_alive() and not output.exists():
            time.sleep(0.01)

    def finish(self, output: Path) -> None:
        self.end(self.start(output), output)

    def end(self, process: BaseProcess, output: Path) -> None:
        process.join()
        if process.exitcode != 0:
            raise AssertionError(f"exit code {process.exitcode}: {output.with_suffix('.log').read_text()[-3000:]}")

    def kill(self, number: int) -> str:
        """What was going on when the run of this number was killed; it has gone on to the same end since."""
        output = self.folder / f"run {number}"
        process = self.start(output)
        if number % 2:
            self.wait_until_writing(process, output)
        else:
            self.wait_for_folder(process, output)
            process.join(self.random.uniform(0, 1) * self.seconds)
        process.kill()
        process.join()
        ended = process.exitcode != -signal.SIGKILL
        found = ENDED if ended else self.state(output)
        if ended and process.exitcode != 0:
            raise AssertionError(output.with_suffix(".log").read_text()[-3000:])
        self.finish(output)
        if (output / "model.safetensors").read_bytes() != self.expected:
            raise AssertionError(f"run {number}, killed while {found}, ends with other weights: {output}")
        if left := [path for path in output.rglob("*") if ".partial" in path.name]:
            raise AssertionError(f"run {number} left {left}")
        shutil.rmtree(output)
        return found

    def wait_until_writing(self, process: BaseProcess, output: Path) -> None:
        """Until a moment of the writing of one of the checkpoints."""
        for _ in range(self.random.randrange(STEPS - 1)):
            while process.is_alive() and not (output / PARTIAL).exists():
                time.sleep(0.0005)
            while process.is_alive() and (output / PARTIAL).exists():
                time.sleep(0.0005)
        files = self.random.randrange(20)
        while process.is_alive() and files_below(output / PARTIAL) < files:
            time.sleep(0.0002)

    def state(self, output: Path) -> str:
        partial = output / PARTIAL
        if not partial.exists():
            return "training" if output.exists() else "starting"
        names = ", ".join(sorted(path.name for path in partial.iterdir()))
        return f"writing a checkpoint, {files_below(partial)} files in {names}"


def files_below(folder: Path) -> int:
    return sum(len(names) for *_, names in os.walk(folder))


def main(command: str, kills: int, seed: int = 0) -> Counter:
    with tempfile.TemporaryDirectory() as folder:
        runs, found, number = KilledRuns(command, Path(folder), seed), Counter(), 0
        while found.total() < kills:
            state = runs.kill(number)
            print(f"{command} {number}: killed while {state}; the same weights", flush=True)
            found[state.partition(",")[0]] += state != ENDED
            number += 1
        return found


if __name__ == "__main__":
    print(main(sys.argv[1], *map(int, sys.argv[2:])))

"""Checkpoints that are whole or not there, and what is said of those with missing or damaged files."""

import json
import os
import re
import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed

from flux_hf.training.checkpoint_folders import (
    LIST_OF_FILES,
    PARTIAL,
    check_checkpoint,
    delete_checkpoints,
    last_checkpoint,
    numbered_checkpoints,
)
from flux_hf.training.checkpointed_trainer import CheckpointedTrainer
from flux_hf.training.output_folder import checkpoint_to_resume
from tests import tiny_training
from tests.full_disk import files_of_at_most

SAVING = {"save_strategy": "steps", "save_steps": 1}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a run with an average of weights and checkpoints of steps 1 and 2; read only."""
    folder = tmp_path_factory.mktemp("finished")
    set_seed(0)
    tiny_training.trainer(folder, ema_decay=0.5, **SAVING).train()
    return folder


@pytest.fixture
def run(finished, tmp_path):
    """A copy of it."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def read(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


class Looking(TrainerCallback):
    """Notes which checkpoints there are when one has been saved, and what every one of them holds then."""

    def __init__(self):
        self.seen = []

    def on_save(self, args, state, control, **kwargs):
        self.seen.append([path.name for path in numbered_checkpoints(args.output_dir)])
        assert last_checkpoint(args.output_dir) == (Path(args.output_dir) / f"checkpoint-{state.global_step}", [])


def test_a_checkpoint_has_no_name_while_it_is_written_and_older_ones_stay_until_then(tmp_path, monkeypatch):
    looking, there_while_writing = Looking(), []

    def noting(trainer, folder):
        assert Path(folder).is_dir()
        there_while_writing.append([path.name for path in numbered_checkpoints(tmp_path)])
        return Trainer._save_rng_state(trainer, folder)

    monkeypatch.setattr(CheckpointedTrainer, "_save_rng_state", noting)
    trainer = tiny_training.trainer(tmp_path, max_steps=3, save_total_limit=1, **SAVING)
    trainer.add_callback(looking)
    trainer.train()
    assert there_while_writing == [[], ["checkpoint-1"], ["checkpoint-2"]]
    assert looking.seen == [["checkpoint-1"], ["checkpoint-2"], ["checkpoint-3"]]
    assert not (tmp_path / PARTIAL).exists()


def test_the_best_checkpoint_is_kept_found_and_loaded(tmp_path):
    """Accuracies are made up: the first is the best."""
    accuracies = iter([0.9, 0.5, 0.6])
    trainer = tiny_training.trainer(
        tmp_path, evaluation=tiny_training.clips(4), max_steps=3, save_total_limit=2, eval_strategy="steps",
        eval_steps=1, load_best_model_at_end=True, metric_for_best_model="made_up", greater_is_better=True, **SAVING,
    )  # fmt: skip
    trainer.compute_metrics = lambda _: {"made_up": next(accuracies)}
    trainer.train()
    best = str(tmp_path / "checkpoint-1")
    assert trainer.state.best_model_checkpoint == best
    assert [path.name for path in numbered_checkpoints(tmp_path)] == ["checkpoint-1", "checkpoint-3"]
    for step in (1, 3):
        state = json.loads((tmp_path / f"checkpoint-{step}" / "trainer_state.json").read_text())
        assert state["best_model_checkpoint"] == best
        check_checkpoint(tmp_path / f"checkpoint-{step}")
    trainer.save_model(tmp_path / "saved")
    saved, first = (read(tmp_path / name)["model.safetensors"] for name in ("saved", "checkpoint-1"))
    assert saved == first


FILES = [
    "config.json",
    "model.safetensors",
    "moving_average.safetensors",
    "optimizer.pt",
    "rng_state.pth",
    "scheduler.pt",
    "trainer_state.json",
    "training_args.bin",
    "video_preprocessor_config.json",
]


def refused(path: Path, damage: list[bytes]):
    """Asserts that its checkpoint is refused, naming the file, with each of these contents and without it."""
    name = re.escape(f"{path.parent.name}/{path.name}")
    for content in damage:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"{name} is damaged"):
            check_checkpoint(path.parent)
    path.unlink()
    with pytest.raises(ValueError, match=f"{name} is missing"):
        check_checkpoint(path.parent)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_missing_or_damaged_is_named(run, name):
    folder = run / "checkpoint-2"
    path, content = folder / name, (folder / name).read_bytes()
    check_checkpoint(folder)
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    refused(path, [b"", content[:middle], content[:-1], content + b"\0", flipped])


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "rng_state.pth", "scheduler.pt"])
def test_of_a_checkpoint_without_a_list_all_that_trainer_needs_is_checked(run, name):
    folder = run / "checkpoint-2"
    (folder / LIST_OF_FILES).unlink()
    check_checkpoint(folder)
    path, content = folder / name, (folder / name).read_bytes()
    refused(path, [b"", content[: len(content) // 2], content[:-1]])


def test_a_damaged_list_of_files_is_named(run):
    for content in ("", "[]", '{"model.safetensors": 3}'):
        (run / "checkpoint-2" / LIST_OF_FILES).write_text(content)
        with pytest.raises(ValueError, match=rf"{LIST_OF_FILES} is damaged"):
            check_checkpoint(run / "checkpoint-2")


def test_a_damaged_index_of_weights_is_named(run):
    folder = run / "checkpoint-2"
    (folder / LIST_OF_FILES).unlink()
    for content in ("[]", "{}", '{"weight_map": 3}'):
        (folder / "model.safetensors.index.json").write_text(content)
        with pytest.raises(ValueError, match=r"model\.safetensors\.index\.json is damaged"):
            check_checkpoint(folder)


def test_processes_have_a_state_of_random_numbers_each(run):
    folder = run / "checkpoint-2"
    (folder / LIST_OF_FILES).unlink()
    for rank in (0, 1, 2):
        shutil.copy(folder / "rng_state.pth", folder / f"rng_state_{rank}.pth")
    (folder / "rng_state.pth").unlink()
    check_checkpoint(folder)
    (folder / "rng_state_1.pth").unlink()
    with pytest.raises(ValueError, match=r"rng_state_1\.pth is missing"):
        check_checkpoint(folder)


def test_last_is_the_last_whole_one_and_the_others_are_named(run):
    said = []
    (run / "checkpoint-2" / "optimizer.pt").write_bytes(b"")
    (run / "checkpoint-30").mkdir()
    for value in (True, "true", "last"):
        assert checkpoint_to_resume(value, str(run), said.append) == str(run / "checkpoint-1")
    assert "checkpoint-30/trainer_state.json is missing" in said[0]
    assert "checkpoint-2/optimizer.pt is damaged" in said[1]
    assert str(run / "checkpoint-1") in said[2]
    with pytest.raises(ValueError, match=r"--resume_from_checkpoint: .*checkpoint-2/optimizer\.pt is damaged"):
        checkpoint_to_resume(str(run / "checkpoint-2"), str(run))
    (run / "checkpoint-1" / "scheduler.pt").unlink()
    with pytest.raises(ValueError, match=r"no checkpoint in .* is whole: .*optimizer\.pt .*scheduler\.pt is missing"):
        checkpoint_to_resume("last", str(run))


@pytest.mark.long
def test_a_trainer_goes_on_from_the_last_whole_one_to_the_same_end(run, finished):
    (run / "checkpoint-2" / "rng_state.pth").unlink()
    (run / PARTIAL / "checkpoint-3").mkdir(parents=True)
    set_seed(1)
    trainer = tiny_training.trainer(run, ema_decay=0.5, **SAVING)
    trainer.train(resume_from_checkpoint=True)
    for name in ("model.safetensors", "moving_average.safetensors", "optimizer.pt", "scheduler.pt"):
        assert read(run / "checkpoint-2")[name] == read(finished / "checkpoint-2")[name], name
    assert not (run / PARTIAL).exists()
    with pytest.raises(ValueError, match=r"moving_average\.safetensors is missing"):
        for name in (LIST_OF_FILES, "moving_average.safetensors"):
            (run / "checkpoint-1" / name).unlink()
        tiny_training.trainer(run, ema_decay=0.5).train(resume_from_checkpoint=str(run / "checkpoint-1"))


def test_a_checkpoint_of_the_plain_trainer_is_whole_without_a_list(tmp_path):
    clip = {"pixel_values_videos": torch.zeros(4, 3, 28, 28), "labels": 0}
    quiet = {"use_cpu": True, "report_to": "none", "disable_tqdm": True}
    arguments = TrainingArguments(tmp_path, max_steps=1, per_device_train_batch_size=1, **quiet, **SAVING)
    Trainer(tiny_training.model(), arguments, train_dataset=[clip]).train()
    assert not (tmp_path / "checkpoint-1" / LIST_OF_FILES).exists()
    assert checkpoint_to_resume("last", str(tmp_path)) == str(tmp_path / "checkpoint-1")
    arguments.save_only_model, arguments.max_steps = True, 2
    Trainer(tiny_training.model(), arguments, train_dataset=[clip]).train()
    with pytest.raises(ValueError, match=r"checkpoint-2/optimizer\.pt is missing, and the optimizer with it"):
        checkpoint_to_resume(str(tmp_path / "checkpoint-2"), str(tmp_path))


def test_another_number_of_processes_is_said(run, warnings_of_training):
    for step in (1, 2):
        folder = run / f"checkpoint-{step}"
        (folder / LIST_OF_FILES).unlink()
        shutil.copy(folder / "rng_state.pth", folder / "rng_state_0.pth")
        os.rename(folder / "rng_state.pth", folder / "rng_state_1.pth")
    tiny_training.trainer(run, max_steps=2).train(resume_from_checkpoint="last")
    assert [message for message in warnings_of_training() if "a run of 2 processes, this one has 1" in message]


def test_deleting_leaves_no_halves(run):
    for step in (5, 6, 7):
        shutil.copytree(run / "checkpoint-2", run / f"checkpoint-{step}")
    delete_checkpoints(run, 3, {run / "checkpoint-7", run / "checkpoint-1"})
    names = [path.name for path in numbered_checkpoints(run)]
    assert names == ["checkpoint-1", "checkpoint-6", "checkpoint-7"] and not (run / PARTIAL).exists()
    for limit in (None, 0):
        delete_checkpoints(run, limit, {run / "checkpoint-7"})
        assert [path.name for path in numbered_checkpoints(run)] == names


class FullAfter(TrainerCallback):
    def __init__(self, stack, step: int, size: int):
        self.stack, self.step, self.size = stack, step, size

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            self.stack.enter_context(files_of_at_most(self.size))


@pytest.mark.long
@pytest.mark.parametrize("size", [20_000, 60_000])
def test_a_full_disk_leaves_the_checkpoints_before_it(finished, tmp_path, size):
    sizes = {name: len(content) for name, content in read(finished / "checkpoint-1").items()}
    assert max(sizes.values()) > size
    with ExitStack() as stack:
        trainer = tiny_training.trainer(tmp_path, **SAVING)
        trainer.add_callback(FullAfter(stack, 2, size))
        with pytest.raises(OSError, match=r"checkpoint-2 cannot be written: .* MB are free"):
            trainer.train()
    assert last_checkpoint(tmp_path) == (tmp_path / "checkpoint-1", [])
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]


@pytest.mark.parametrize("there", [False, True])
def test_a_full_disk_leaves_the_model_that_was_there(tmp_path, there):
    trainer = tiny_training.trainer(tmp_path / "run")
    if there:
        trainer.save_model()
    before = read(tmp_path / "run") if there else {}
    with files_of_at_most(60_000), pytest.raises(OSError, match="run cannot be written: "):
        trainer.save_model()
    assert (read(tmp_path / "run") if (tmp_path / "run").exists() else {}) == before

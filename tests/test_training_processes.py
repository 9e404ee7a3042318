"""Training in real processes: several ranks, accumulation, a killed run that goes on. All on CPU with gloo."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests import tiny_aligning, tiny_pretraining, tiny_training, video_datasets

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
# Sums of gradients in another order differ in the last bits, which Adam's normalisation carries into the weights.
TOLERANCE = {"atol": 2e-5, "rtol": 1e-4}
ALL = [f"clip {number}" for number in range(12)]


def torchrun(processes: int) -> list[str]:
    return ["torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]


def python(*arguments: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)


@pytest.fixture
def run(tmp_path):
    """Trains in new processes and returns what each of them wrote."""

    def start(name: str, *, processes: int = 1, expect: int = 0, **settings) -> list[dict]:
        options = tmp_path / f"{name}.json"
        settings = {"output_dir": str(tmp_path / name), "max_steps": -1, "num_train_epochs": 2} | settings
        options.write_text(json.dumps(settings))
        launcher = ["-m", *torchrun(processes)] if processes > 1 else []
        done = python(*launcher, "-m", "tests.train_tiny", str(options))
        assert done.returncode == expect, done.stderr[-3000:]
        if expect:
            return []
        return [json.loads(options.with_suffix(f".rank{rank}.json").read_text()) for rank in range(processes)]

    def weights(name: str) -> dict:
        return torch.load(tmp_path / f"{name}.pt", weights_only=True)

    start.weights = weights
    return start


def assert_equal_weights(mine: dict, theirs: dict):
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        torch.testing.assert_close(value, theirs[name], **TOLERANCE, msg=name)


def test_two_ranks_equal_one_with_twice_the_batch(run):
    (alone,) = run("alone", per_device_train_batch_size=4, optim="sgd", learning_rate=0.05)
    ranks = run("ranks", processes=2, per_device_train_batch_size=2, optim="sgd", learning_rate=0.05)
    assert [report["world_size"] for report in ranks] == [2, 2]
    assert_equal_weights(run.weights("alone"), run.weights("ranks"))
    for (_, one), (_, both) in zip(alone["losses"], ranks[0]["losses"], strict=True):
        assert one == pytest.approx(both, rel=1e-4)
    for step, (grid, names) in enumerate(alone["batches"]):
        parts = [report["batches"][step] for report in ranks]
        assert [part[0] for part in parts] == [grid, grid]
        assert sum((part[1] for part in parts), []) == names
    assert len({tuple(grid) for grid, _ in alone["batches"]}) > 1
    for epoch in range(2):
        seen = [name for report in ranks for _, names in report["batches"][epoch * 3 : epoch * 3 + 3] for name in names]
        assert sorted(seen) == sorted(ALL)


def test_accumulation_equals_a_larger_batch(run):
    (large,) = run("large", per_device_train_batch_size=6)
    (small,) = run("small", per_device_train_batch_size=2, gradient_accumulation_steps=3)
    assert_equal_weights(run.weights("large"), run.weights("small"))
    assert [loss for _, loss in large["losses"]] == pytest.approx([loss for _, loss in small["losses"]], rel=1e-4)
    assert [names for _, names in large["batches"]] == [
        sum((names for _, names in small["batches"][start : start + 3]), []) for start in range(0, 12, 3)
    ]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kill_at", [6, 8])
def test_a_killed_run_goes_on_bit_for_bit(run, tmp_path, workers, kill_at):
    """Epochs have 6 steps, checkpoints come every two: at their border and in the middle of the second."""
    settings = {
        "dataloader_num_workers": workers,
        "drop_path_rate": 0.5,
        "mixup_alpha": 0.8,
        "cutmix_alpha": 1.0,
        "random_erasing": 0.25,
    }
    (whole,) = run("whole", **settings)
    saving = settings | {"save_strategy": "steps", "save_steps": 2}
    run("killed", kill_at=kill_at, expect=-signal.SIGKILL, **saving)
    checkpoint = tmp_path / "killed" / f"checkpoint-{kill_at}"
    assert checkpoint.is_dir()
    assert not (tmp_path / "killed" / f"checkpoint-{kill_at + 2}").exists()
    (resumed,) = run("killed", resume=str(checkpoint), **saving)
    assert resumed["losses"] == whole["losses"]
    assert resumed["batches"] == whole["batches"][kill_at:]
    assert resumed["hash"] == whole["hash"]


def test_two_ranks_resume_in_the_middle_of_an_epoch(run, tmp_path):
    settings = {"processes": 2, "drop_path_rate": 0.5, "save_strategy": "steps", "save_steps": 5}
    whole = run("whole", **settings)
    resumed = run("again", resume=str(tmp_path / "whole" / "checkpoint-5"), **settings)
    assert len(whole[0]["losses"]) == 6
    assert resumed[0]["losses"] == whole[0]["losses"]
    for before, after in zip(whole, resumed, strict=True):
        assert after["batches"] == before["batches"][5:]
    assert resumed[0]["hash"] == whole[0]["hash"]


def test_flux_single_trains_on_two_ranks_although_heads_stay_idle(run):
    ranks = run("single", processes=2, token_budgets=[12], num_train_epochs=1)
    assert len(ranks[0]["losses"]) == 3


def test_evaluation_on_two_ranks_runs_as_many_forwards_on_each(run, tmp_path):
    """Where weights are in shards, a process with fewer would keep the others waiting. Here the second one's batch
    cannot be read."""
    folder = video_datasets.kinetics(tmp_path / "set", {"val": 4})
    for number in (2, 3):
        (folder / "val" / f"clip {number}.mp4").write_bytes(b"no video")
    settings = {"evaluate": str(folder), "per_device_eval_batch_size": 2, "max_steps": 1, "num_train_epochs": 1}
    (alone,) = run("alone", **settings)
    ranks = run("ranks", processes=2, **settings)
    assert [report["forwards"] for report in ranks] == [3, 3]
    assert alone["forwards"] == 3
    for report in (alone, *ranks):
        assert report["evaluation"]["eval_unreadable"] == 2


def test_pretraining_on_two_ranks_equals_one_with_twice_the_batch(run, tmp_path):
    settings = {"teacher": str(tiny_pretraining.teacher_folder(tmp_path / "teacher")), "num_train_epochs": 1}
    settings |= {"optim": "sgd", "learning_rate": 1e-3}
    (alone,) = run("alone", per_device_train_batch_size=4, **settings)
    ranks = run("ranks", processes=2, per_device_train_batch_size=2, **settings)
    assert_equal_weights(run.weights("alone"), run.weights("ranks"))
    assert not [name for name in run.weights("ranks") if "teacher" in name]
    for (_, one), (_, both) in zip(alone["losses"], ranks[0]["losses"], strict=True):
        assert one == pytest.approx(both, rel=1e-4)
    assert len(alone["losses"]) == 3


def test_a_killed_pretraining_goes_on_bit_for_bit(run, tmp_path):
    settings = {"teacher": str(tiny_pretraining.teacher_folder(tmp_path / "teacher")), "drop_path_rate": 0.5}
    (whole,) = run("whole", **settings)
    saving = settings | {"save_strategy": "steps", "save_steps": 2}
    run("killed", kill_at=8, expect=-signal.SIGKILL, **saving)
    (resumed,) = run("killed", resume=str(tmp_path / "killed" / "checkpoint-8"), **saving)
    assert resumed["losses"] == whole["losses"]
    assert resumed["hash"] == whole["hash"]


@pytest.mark.parametrize("chunk", [None, 1])
def test_aligning_on_two_ranks_equals_one_with_twice_the_batch(run, chunk):
    """Every video is told apart from those of both ranks."""
    settings = {"align": True, "num_train_epochs": 1, "optim": "sgd", "learning_rate": 0.05, "pairs_per_chunk": chunk}
    (alone,) = run("alone", per_device_train_batch_size=4, **settings)
    ranks = run("ranks", processes=2, per_device_train_batch_size=2, **settings)
    assert_equal_weights(run.weights("alone"), run.weights("ranks"))
    for (_, one), (_, both) in zip(alone["losses"], ranks[0]["losses"], strict=True):
        assert one == pytest.approx(both, rel=1e-4)
    assert len(alone["losses"]) == 3


def test_retrieval_on_two_ranks_is_that_of_one(run, tmp_path):
    """Also where a video cannot be read, and where the last batch is filled up with others."""
    folder = tiny_aligning.captioned_folder(tmp_path / "set", {"val": 5})
    (folder / "val" / "3.mp4").write_bytes(b"no video")
    settings = {"align": True, "evaluate": str(folder), "per_device_eval_batch_size": 2, "num_train_epochs": 1}
    settings |= {"max_steps": 1, "optim": "sgd", "learning_rate": 0.05}
    (alone,) = run("alone", per_device_train_batch_size=4, **settings)
    ranks = run("ranks", processes=2, per_device_train_batch_size=2, **settings)
    for report in ranks:
        for name, value in alone["evaluation"].items():
            if "r1" in name or "unreadable" in name:
                assert report["evaluation"][name] == pytest.approx(value), name
    assert alone["evaluation"]["eval_unreadable"] == 1 and "eval_r1_16" in alone["evaluation"]


def test_a_killed_aligning_goes_on_bit_for_bit(run, tmp_path):
    settings = {"align": True, "drop_path_rate": 0.5, "num_train_epochs": 4}
    (whole,) = run("whole", **settings)
    saving = settings | {"save_strategy": "steps", "save_steps": 2}
    run("killed", kill_at=8, expect=-signal.SIGKILL, **saving)
    (resumed,) = run("killed", resume=str(tmp_path / "killed" / "checkpoint-8"), **saving)
    assert resumed["losses"] == whole["losses"]
    assert resumed["hash"] == whole["hash"]


def test_a_sharded_step_equals_one_process(tmp_path):
    found = []
    for processes in (1, 2):
        file = tmp_path / f"{processes}.pt"
        done = python("-m", *torchrun(processes), "-m", "tests.train_sharded", str(file))
        assert done.returncode == 0, done.stderr[-3000:]
        found.append(torch.load(file, weights_only=True))
    assert_equal_weights(*found)


def test_the_clips_are_those_the_tests_count_on():
    assert tiny_training.clips().video_names == ALL


def test_a_head_without_gradients_under_gradient_checkpointing(run):
    settings = {"one_budget_per_step": True, "max_steps": 3, "save_strategy": "no"}
    plain = run("plain", processes=2, per_device_train_batch_size=2, **settings)
    checkpointed = run("saving", processes=2, per_device_train_batch_size=2, gradient_checkpointing=True, **settings)
    assert checkpointed[0]["losses"] == pytest.approx(plain[0]["losses"], rel=1e-4)

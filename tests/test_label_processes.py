"""`flux-hf label` over processes: workers that decode, runs that are killed, several ranks, a Ray cluster."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter, deque
from pathlib import Path

import psutil
import pytest

from flux_hf.batch import VideoLabeler
from flux_hf.batch.workers import Workers
from tests.crashing_work import endless, work
from tests.video_files import encode_video

pytestmark = pytest.mark.slow

SECONDS = 900
"""That anything here may take."""
FILES = 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    for number in range(FILES - 1):
        (folder / f"{number:02}.mp4").write_bytes(encode_video(12 + number, height=48, width=64))
    (folder / "nothing.mp4").write_bytes(b"nothing to see")
    return folder


@pytest.fixture(scope="module")
def expected(folder, tiny_checkpoint):
    """What each says alone, in this process."""
    labeler = VideoLabeler(str(tiny_checkpoint), dtype="float32", batch_size=1)
    found = labeler({"path": [str(path) for path in sorted(folder.iterdir())]})
    return dict(zip(found["path"], found["scores"], strict=True))


def command(folder, checkpoint, output, *more) -> list[str]:
    words = ["label", str(folder), "--checkpoint", str(checkpoint), "--output", str(output), "--dtype", "float32"]
    return ["-m", "flux_hf.cli", *words, *more]


def environment(**more) -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"} | more


LEFT_OPEN = """
import sys
from flux_hf.batch import VideoLabeler
if __name__ == "__main__":
    labelers = [VideoLabeler(sys.argv[1], dtype="float32", num_workers=1) for _ in range(2)]
    print(*(labeler({"path": sys.argv[2:]})["error"] for labeler in labelers))
"""


def check(output: Path, expected: dict) -> None:
    """Every video once, with its own answer."""
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["path"] for row in rows] == sorted(expected)
    for row in rows:
        assert row["scores"] == pytest.approx(expected[row["path"]], abs=1e-5)


def test_a_script_that_closes_nothing_ends_without_a_word(folder, tiny_checkpoint, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(LEFT_OPEN)
    words = [sys.executable, str(script), str(tiny_checkpoint), str(folder / "00.mp4")]
    found = subprocess.run(words, env=environment(), capture_output=True, text=True, timeout=SECONDS, check=True)
    assert found.stdout == "[None] [None]\n"
    assert "Exception" not in found.stderr


def test_workers_answer_as_one_process_does(folder, tiny_checkpoint, expected, tmp_path):
    made = subprocess.run(
        [sys.executable, *command(folder, tiny_checkpoint, tmp_path / "o.jsonl", "--num_workers", "2")],
        env=environment(), capture_output=True, text=True, timeout=SECONDS,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    check(tmp_path / "o.jsonl", expected)


def test_work_that_ends_its_process(tmp_path):
    names = ["a", "b", "unlucky", "c", "poison", "d", "e"]
    workers = Workers(work, 2, "ended")
    found = dict(workers.answers(((name, name, str(tmp_path)) for name in names), deque()))
    workers.stop()
    answers = {task[0]: answer for task, answer in found.items()}
    assert answers == {name: "ended" if name == "poison" else name.upper() for name in names}


def test_stop_ends_work_that_goes_on(tmp_path):
    workers, begun = Workers(endless, 2, None), tmp_path / "endless"
    answers = workers.answers([(name, name, str(tmp_path)) for name in ("endless", "quick")], deque())
    assert next(answers)[1] == "quick"
    deadline = time.monotonic() + SECONDS
    while not begun.exists():
        assert time.monotonic() < deadline
    worker = psutil.Process(int(begun.read_text()))
    workers.stop()
    assert not psutil.wait_procs([worker], 60)[1]


def test_killed_again_and_again(folder, tiny_checkpoint, expected, tmp_path):
    """Every run is killed once it has answered some more; none of them loses or doubles a video, and the table that is
    there is whole whenever there is one."""
    output, generator, kills = tmp_path / "o.jsonl", random.Random(0), 0
    records = tmp_path / "o.jsonl.videos" / "videos.0.jsonl"
    words = command(folder, tiny_checkpoint, output, "--num_workers", "1", "--batch_size", "2")
    while kills < 20:
        with open(tmp_path / "log", "ab") as log:
            run = subprocess.Popen([sys.executable, *words], env=environment(), stdout=log, stderr=log)
        before, more, deadline = _size(records), generator.randrange(200, 3000), time.monotonic() + SECONDS
        while not _ended(run) and _size(records) < before + more:
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
        if run.poll() is not None:
            break
        children = psutil.Process(run.pid).children(recursive=True)
        run.send_signal(signal.SIGKILL)
        run.wait()
        assert not psutil.wait_procs(children, 60)[1]
        kills += 1
    assert run.returncode == 0, (tmp_path / "log").read_text()
    assert kills >= 3
    check(output, expected)
    done = Counter(json.loads(line)["video"] for line in records.read_text().splitlines())
    assert set(done.values()) == {1} and len(done) == FILES


def test_ranks_share_the_videos(folder, tiny_checkpoint, expected, tmp_path):
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    words = [*launcher, *command(folder, tiny_checkpoint, tmp_path / "o.jsonl", "--num_workers", "0")]
    subprocess.run([sys.executable, *words], env=environment(), check=True, capture_output=True, timeout=SECONDS)
    check(tmp_path / "o.jsonl", expected)
    shares = [len(path.read_text().splitlines()) for path in (tmp_path / "o.jsonl.videos").glob("videos.*.jsonl")]
    assert sorted(shares) == [FILES // 2, FILES // 2]


def test_ray_goes_on_without_a_worker(folder, tiny_checkpoint, expected, tmp_path):
    """A worker process of Ray is killed once there are answers; every video still is there once."""
    pytest.importorskip("ray")
    output, log = tmp_path / "o.jsonl", tmp_path / "log"
    words = command(folder, tiny_checkpoint, output, "--engine", "ray", "--actors", "1", "--batch_size", "2")
    with open(log, "wb") as file:
        run = subprocess.Popen([sys.executable, *words], env=environment(), stdout=file, stderr=file)
    records, deadline = tmp_path / "o.jsonl.videos" / "videos.0.jsonl", time.monotonic() + SECONDS
    while not _size(records):
        assert not _ended(run) and time.monotonic() < deadline, log.read_text()
    workers = [
        one for one in psutil.Process(run.pid).children(recursive=True) if "MapWorker" in " ".join(one.cmdline())
    ]
    assert workers
    for worker in workers:
        worker.kill()
    assert run.wait(SECONDS) == 0, log.read_text()
    check(output, expected)


def _ended(run: subprocess.Popen) -> bool:
    """Whether it has, or does within a moment: whoever waits leaves the processor to it."""
    try:
        run.wait(0.01)
    except subprocess.TimeoutExpired:
        return False
    return True


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0

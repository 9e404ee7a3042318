"""The commands and the Python of docs/labeling.md run as they stand, on the clips of the package."""

import importlib.util
import io
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from flux_hf import cli
from flux_hf.checkpoints import example_clips

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parent.parent / "docs" / "labeling.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
PYTHON = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    for label, path in list(example_clips().items())[:4] + [("still", example_clips()["still"])]:
        for target in (Path("my/videos") / f"{label}.mp4", Path("my/labelled/test") / label / "0.mp4"):
            (tmp_path / target).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, tmp_path / target)
    shutil.copy(example_clips()["moves_up"], tmp_path / "my" / "videos")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def local(command: str) -> bool:
    return command.startswith("flux-hf label") and not any(word in command for word in ("onnx", "ray"))


@pytest.mark.parametrize("command", [*filter(local, COMMANDS)])
def test_commands(place, command):
    words = shlex.split(command)
    cli.main(words[1:])
    output = Path(words[words.index("--output") + 1])
    if output.suffix == ".jsonl":
        rows = [json.loads(line) for line in output.read_text().splitlines()]
        assert all(row["path"].split("/")[-2] == row["label"] for row in rows)
    else:
        rows = pq.read_table(output).to_pylist()
        assert all(row["error"] is None for row in rows)
        assert "--window" in words or all(Path(row["path"]).stem == row["label"] for row in rows)
        assert "--window" not in words or len(rows) > 6


def test_standard_input(place, monkeypatch, capsys):
    (command,) = (line for line in COMMANDS if line.startswith("find"))
    find, label = command.split(" | ")
    paths = subprocess.run(shlex.split(find), capture_output=True, check=True).stdout
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(paths)))
    cli.main(shlex.split(label)[1:])
    assert "6 videos, 0 unreadable" in capsys.readouterr().out


def test_onnx(place, capsys):
    pytest.importorskip("onnxruntime")
    export, label, _ = (line for line in COMMANDS if "export" in line or "--nproc" in line)
    for command in (export, label):
        cli.main(shlex.split(command)[1:])
    assert "6 videos, 0 unreadable" in capsys.readouterr().out


def test_processes_share(place):
    (command,) = (line for line in COMMANDS if line.startswith("torchrun"))
    words = shlex.split(command)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", *words[1 : words.index("--no-python")]]
    label = words[words.index("label") :]
    subprocess.run([*launcher, "-m", "flux_hf.cli", *label], check=True, timeout=300)
    assert len(pq.read_table("shared.parquet")) == 6


@pytest.mark.parametrize("number", range(2, len(PYTHON)), ids=["ray", "daft"])
def test_python(place, number, capsys):
    if importlib.util.find_spec(["ray", "daft"][number - 2]) is None:
        pytest.skip("it is not installed")
    _run([*PYTHON[:2], PYTHON[number]], capsys)


def test_python_without_engines(place, capsys):
    _run(PYTHON[:2], capsys)


def _run(blocks: list[str], capsys) -> None:
    """Runs blocks one after the other; every comment of a print says what it prints."""
    made = {"__name__": "example"}
    for block in blocks:
        exec(compile(block, "labeling.md", "exec"), made)
    expected = [line.rpartition("  # ")[2] for block in blocks for line in block.splitlines() if "print(" in line]
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("[")] == expected

"""The commands and the Python of docs/watching.md run as they stand, on a camera that the test serves and a clip."""

import json
import os
import re
import shlex
import signal
from dataclasses import fields
from pathlib import Path

import pytest

from flux_hf import cli
from flux_hf.checkpoints import example_clips
from flux_hf.scripts.watch import WatchOptions
from tests.live_streams import deadline, http_camera, jpeg  # noqa: F401

PAGE = (Path(__file__).parent.parent / "docs" / "watching.md").read_text(encoding="utf-8")
COMMANDS = [shlex.split(line)[1:] for line in re.search(r"```\n(.*?)```", PAGE, re.DOTALL)[1].splitlines()]
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("deadline")]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[1])
def test_commands(command, tiny_checkpoint, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    clip = example_clips()["moves_down"]
    os.symlink(tiny_checkpoint, "runs-mine")
    os.mkdir("runs")
    os.rename("runs-mine", "runs/mine")
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def scene():
        for number in range(250):
            yield jpeg(number)
        os.kill(os.getpid(), signal.SIGINT)
        yield None

    try:
        with http_camera(scene) as (_, address):
            places = {"recording.mp4": clip}
            cli.main([command[0], places.get(command[1], address), *command[2:]])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    events = [json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()]
    assert events[0] == "connected" and events[1] == "answer" and events[-1] == "summary"


def test_the_lines_of_the_page_are_those_that_are_printed(tiny_checkpoint, capsys):
    cli.main(["watch", example_clips()["approaches"], f"--checkpoint={tiny_checkpoint}"])
    printed = {line["event"]: line for line in map(json.loads, capsys.readouterr().out.splitlines())}
    shown = [json.loads(line) for line in re.search(r"```json\n(.*?)```", PAGE, re.DOTALL)[1].splitlines()]
    for line in shown:
        if line["event"] in printed:
            assert list(line) == list(printed[line["event"]])
    assert {line["event"] for line in shown} == {*printed, "lost"}


def test_the_example(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    os.symlink(example_clips()["moves_down"], "recording.mp4")
    exec(compile(re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)[1], "watching.md", "exec"), {})
    assert re.search(r"moves_down 0\.\d\d, (64|128|256) tokens, \d+ ms", capsys.readouterr().out)


def test_options_of_the_page_are_there_with_their_defaults():
    defaults = {one.name: one.default for one in fields(WatchOptions)}
    told = re.findall(r"`--(\w+)` seconds \((\d+\.?\d*)\)", PAGE)
    assert len(told) == 4
    for name, value in told:
        assert defaults[name] == float(value)
    assert set(re.findall(r"--(\w+)", PAGE)) <= set(defaults)

"""flux-hf watch on a camera that the test serves: the lines it prints, Ctrl-C, a source that ends, one that breaks."""

import itertools
import json
import os
import signal

import pytest

from flux_hf.scripts import watch
from tests.live_streams import deadline, http_camera, jpeg  # noqa: F401

pytestmark = pytest.mark.usefixtures("deadline")


@pytest.fixture(autouse=True)
def handlers():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell takes from what it runs in the background
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def lines(capsys) -> list[dict]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.fixture
def answered(monkeypatch):
    """The number of lines so far, for the camera that is to do something then."""
    printed = []
    tell = watch._print
    monkeypatch.setattr(watch, "_print", lambda line: (tell(line), printed.append(line)))
    return lambda: sum(line is not None for line in printed)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "silent"), [(signal.SIGINT, False), (signal.SIGTERM, True)])
def test_ends_with_a_summary_when_it_is_stopped(tiny_checkpoint, capsys, answered, number, silent):
    """Also while it waits for a camera that says nothing."""

    def scene():
        numbers = itertools.count()
        while answered() < 4:
            yield jpeg(next(numbers) % 4000)
        os.kill(os.getpid(), number)
        while True:
            yield None if silent else jpeg(next(numbers) % 4000)

    with http_camera(scene) as (_, address):
        options = [f"--checkpoint={tiny_checkpoint}", "--window=0.3", "--stride=0.05", "--every=0.1", "--top_k=2"]
        watch.main([address.replace("//", "//user:secret@"), *options])
    connected, *answers, summary = lines(capsys)
    assert (connected["event"], connected["detail"]) == ("connected", "128x96 mjpeg (mpjpeg)")
    assert len(answers) >= 3 and all(line["event"] == "answer" for line in answers)
    for line in answers:
        assert len(line["labels"]) == 2 and line["labels"][0]["score"] >= line["labels"][1]["score"]
        assert line["token_budget"] in (48, 96) and line["delay"] > 0 and line["dropped"] == 0
        assert line["window"][1] - line["window"][0] == pytest.approx(0.3, abs=0.002)
    assert (summary["event"], summary["reason"], summary["reconnections"]) == ("summary", "interrupted", 0)
    assert summary["answers"] >= len(answers)


def test_a_file_ends_by_itself(tiny_checkpoint, capsys, make_video):
    path = str(make_video("clip.mp4", frames=12, fps=24))
    watch.main([path, f"--checkpoint={tiny_checkpoint}", "--token_budget=48"])
    connected, answer, summary = lines(capsys)
    assert answer["token_budget"] == 48 and answer["pictures"] == 12 and answer["changed"]
    assert (summary["reason"], summary["answers"]) == ("the source ended", 1)


@pytest.mark.slow
def test_a_camera_that_stays_away_is_given_up(tiny_checkpoint, capsys):
    with http_camera(lambda: map(jpeg, range(40)), lambda: iter(())) as (_, address):
        options = [f"--checkpoint={tiny_checkpoint}", "--window=0.3", "--give_up=1.5"]
        with pytest.raises(ValueError, match="given up after"):
            watch.main([address, *options])
    found = lines(capsys)
    assert [line["event"] for line in found if line["event"] != "answer"] == ["connected", "lost", "lost", "summary"]
    assert found[-1]["reason"].startswith("given up after")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--window=0"], "--window must be a number of seconds > 0, got 0.0"),
        (["--stride=-1"], "--stride must be a number of seconds >= 0, got -1.0"),
        (["--token_budget=0"], "--token_budget must be at least 1, got 0"),
        (["--top_k=0"], "--top_k must be at least 1, got 0"),
    ],
)
def test_options_that_are_none(options, message):
    with pytest.raises(ValueError) as error:
        watch.main(["/dev/video0", *options])
    assert str(error.value) == message

"""`flux-hf demo` as a process of its own: asked over HTTP, by gradio's client, and in a real browser."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from flux_hf.checkpoints import default_checkpoint, example_clips
from flux_hf.demo.accuracy import card_accuracy
from tests.browser import CHROMIUM, DRIVER, browser
from tests.conftest import ROOT
from tests.requirements import requirements

pytestmark = pytest.mark.slow
pytest.importorskip("gradio", reason="needs gradio: the extra `demo`")
needs_chromium = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="needs chromium and its driver: apt-get install chromium chromium-driver"
)

PATIENCE = 600
PAGE = (ROOT / "docs" / "demo.md").read_text(encoding="utf-8")

ONLY_LOOPBACK = """
import ipaddress, runpy, sys
def refuse(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        if not ipaddress.ip_address(arguments[1][0]).is_loopback:
            print("ASKED", arguments[1], file=sys.stderr, flush=True)
    if event == "socket.getaddrinfo" and arguments[0] not in (None, "localhost", "127.0.0.1", "0.0.0.0"):
        print("ASKED", arguments[0], file=sys.stderr, flush=True)
sys.addaudithook(refuse)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs a program and says in its errors which other hosts it asks."""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def answering(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=30):
            return True
    except (OSError, urllib.error.URLError):
        return False


@contextmanager
def served(command: list[str], port: int, folder: Path, **environment: str):
    """The address of a command that serves, until the block ends; its output is in `folder`."""
    temporary = folder / "temporary"
    temporary.mkdir()
    inherited = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1"}
    with open(folder / "output", "wb") as output, open(folder / "errors", "wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", ONLY_LOOPBACK, *command],
            cwd=folder,
            env=inherited | environment,
            stdout=output,
            stderr=errors,
        )
        try:
            address = f"http://127.0.0.1:{port}/"
            end = time.monotonic() + PATIENCE
            while not answering(address):
                assert process.poll() is None and time.monotonic() < end, (folder / "errors").read_text()
                time.sleep(0.2)
            yield address, process, temporary
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.wait(60)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """(address, folder of uploads) of a page that lives as long as the tests here; asks no other host."""
    folder, port = tmp_path_factory.mktemp("page"), free_port()
    checkpoint = shutil.copytree(default_checkpoint(), folder / "fluxvit-nano")
    settings = json.loads((checkpoint / "config.json").read_text())
    settings["adaptive_budget"] = {"token_budgets": [64, 128, 256], "confidences": [0.9, 0.9]}
    (checkpoint / "config.json").write_text(json.dumps(settings))
    command = [str(ROOT / "scripts" / "demo.py"), "--checkpoint", str(checkpoint)]
    command += ["--port", str(port), "--upload_mb", "2"]
    with served(command, port, folder) as (address, process, temporary):
        yield address, temporary
    assert process.returncode == 128 + signal.SIGTERM
    assert "ASKED" not in (folder / "errors").read_text()
    assert not list(temporary.glob("flux_hf_demo_*"))
    assert f"fluxvit-nano: {address}" in (folder / "output").read_text()


def uploads(temporary: Path) -> list[str]:
    """Names of the files that were uploaded and are still there."""
    return sorted(path.name for path in temporary.rglob("*") if path.is_file() and path.suffix in (".mp4", ".avi"))


def test_the_policy_names_no_other_host(page):
    with urllib.request.urlopen(page[0], timeout=60) as answer:
        policy = answer.headers["Content-Security-Policy"]
    sources = {source for rule in policy.split(";") for source in rule.split()[1:]}
    assert sources == {"'self'", "data:", "blob:", "'unsafe-inline'", "'unsafe-eval'", "'none'"}


def test_files_of_the_machine_are_not_served(page):
    address, temporary = page
    for path in (ROOT / "setup.py", temporary.parent / "fluxvit-nano" / "config.json", "/etc/hostname"):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(f"{address}gradio_api/file={path}", timeout=PATIENCE)


def test_a_script_asks_the_endpoint(page, tmp_path):
    from gradio_client import Client, handle_file
    from gradio_client.exceptions import AppError

    address, temporary = page
    client = Client(address, verbose=False)
    film = shutil.copy(example_clips()["turns_clockwise"], tmp_path / "Fähre über Öland.mp4")
    answer = client.predict(handle_file(str(film)), 128, api_name="/classify")
    assert answer["labels"][0][0] == "turns_clockwise" and answer["tokens_kept"] == 128
    assert answer["gmacs"] == pytest.approx(0.262, abs=1e-3) and answer["model_ms"] > 0

    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no film")
    with pytest.raises(AppError, match=r"broken\.mp4: ") as refused:
        client.predict(handle_file(str(broken)), 128, api_name="/classify")
    assert str(temporary) not in str(refused.value)
    assert client.predict(handle_file(str(film)), "auto", api_name="/classify")["tokens_kept"] in (64, 128, 256)
    with pytest.raises(AppError, match="token_budget must be"):
        client.predict(handle_file(str(film)), 0, api_name="/classify")
    with pytest.raises(AppError):
        client.predict({"path": str(ROOT / "setup.py"), "meta": {"_type": "gradio.FileData"}}, 1, api_name="/classify")
    assert uploads(temporary) == []
    endpoints = client.view_api(return_format="dict")["named_endpoints"]
    assert list(endpoints) == ["/classify"]


@pytest.fixture(scope="module")
def tab():
    with browser() as tab:
        yield tab


@needs_chromium
class TestInABrowser:
    FILE = "#flux-video input[type=file]"
    LABEL = ".flux-labels .flux-first .flux-name"

    def answered(self, tab, side: str, budget: int | str) -> str:
        """The label on top at a budget, as soon as that is shown."""
        card = f"#flux-answer-{side} .flux-card[data-budget='{budget}']"
        tab.wait(f"side {side} has answered at {budget} tokens", lambda: tab.all(card))
        return tab.text(f"{card} {self.LABEL}")

    @pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
    def test_a_film_is_uploaded_and_the_budget_moved(self, page, tab, tmp_path, make_video, width, dark):
        from selenium.webdriver.common.keys import Keys

        address, temporary = page
        tab.open(address, width, dark=dark)
        name = f"Möwe {width}.mp4"
        tab.upload(self.FILE, shutil.copy(example_clips()["moves_up"], tmp_path / name))
        assert self.answered(tab, "a", 64) == self.answered(tab, "b", 256) == "moves_up"
        assert name in uploads(temporary)
        (known, *_) = card_accuracy(str(default_checkpoint()))
        assert f"64 tokens: {100 * known.top1[64]:.1f} %" in tab.one(".flux-accuracy").get_attribute("innerHTML")
        assert len(tab.all("#flux-answer-a .flux-frames img")) == 8
        tab.wait("the answers are compared", lambda: "multiply-accumulates" in tab.text("#flux-compared"))

        (decoded,) = re.findall(r"decoding, once\n([\d.]+) ms", tab.text("#flux-answer-b"))
        slider = tab.one("#flux-budget-b input[type=range]")
        slider.send_keys(Keys.ARROW_LEFT)
        assert self.answered(tab, "b", 248) == "moves_up"
        assert f"decoding, once\n{decoded} ms" in tab.text("#flux-answer-b")  # not once more
        self.answered(tab, "a", 64)

        film, broken = tmp_path / "film.mp4", tmp_path / f"kaputt {width}.mp4"
        broken.write_bytes(Path(example_clips()["still"]).read_bytes()[:2000])
        tab.one("#flux-video button[aria-label=Clear]").click()
        tab.wait("the upload is deleted", lambda: name not in uploads(temporary))
        tab.upload(self.FILE, broken)
        tab.wait("the error is shown", lambda: broken.name in tab.text("#flux-answer-a .flux-error"))
        assert str(temporary) not in tab.text("body") and "Traceback" not in tab.text("body")
        assert broken.name not in uploads(temporary)
        tab.upload(self.FILE, shutil.copy(example_clips()["recedes"], film))
        assert self.answered(tab, "a", 64) == "recedes"
        assert not tab.all(".flux-error")

        assert tab.overflow() <= 0
        tab.screenshot(tmp_path / "page.png")
        assert (tmp_path / "page.png").stat().st_size > 30_000
        assert tab.hosts() == {"127.0.0.1"} and tab.refused() == []

    def test_an_example(self, page, tab):
        tab.open(page[0])
        tab.one("#flux-examples input[value=moves_down]").click()
        assert self.answered(tab, "a", 64) == "moves_down"
        tab.one("#flux-auto-b input").click()
        assert self.answered(tab, "b", "auto") == "moves_down"
        tab.wait("auto is sure at once", lambda: "64 tokens" in tab.text("#flux-answer-b .flux-note"))

    def test_a_format_that_the_browser_cannot_play(self, page, tab, make_video):
        """It is answered, and nothing but the upload lies in the folder (gradio converts, where it finds ffmpeg)."""
        address, temporary = page
        tab.open(address)
        tab.upload(self.FILE, make_video("Taube.avi", codec="mpeg4"))
        self.answered(tab, "b", 256)
        assert [name for name in uploads(temporary) if "Taube" in name] == ["Taube.avi"]
        tab.one("#flux-video button[aria-label=Clear]").click()
        tab.wait("the upload is deleted", lambda: not any("Taube" in name for name in uploads(temporary)))

    def test_sessions_are_apart(self, page, tab, tmp_path):
        address, temporary = page
        tab.open(address)
        tab.upload(self.FILE, shutil.copy(example_clips()["still"], tmp_path / "mine.mp4"))
        assert self.answered(tab, "b", 256) == "still"
        with browser() as other:
            other.open(address)
            assert "Drop a video" in other.one("#flux-answer-a .flux-empty").text
            other.upload(self.FILE, shutil.copy(example_clips()["moves_down"], tmp_path / "theirs.mp4"))
            assert self.answered(other, "b", 256) == "moves_down"
        tab.wait("what the closed tab had is deleted", lambda: "theirs.mp4" not in uploads(temporary))
        assert self.answered(tab, "b", 256) == "still" and "mine.mp4" in uploads(temporary)

    def test_a_file_that_is_too_large(self, page, tab, tmp_path):
        address, temporary = page
        (tmp_path / "large.mp4").write_bytes(bytes(3_000_000))
        tab.open(address)
        tab.upload(self.FILE, tmp_path / "large.mp4")
        tab.wait("the limit is said", lambda: "exceed the maximum allowed size" in tab.text("body"))
        assert "large.mp4" not in uploads(temporary)


class TestSpace:
    SPACE = ROOT / "scripts" / "space"

    def test_front_matter_and_requirements(self):
        _, front, _ = (self.SPACE / "README.md").read_text(encoding="utf-8").split("---\n", 2)
        settings = yaml.safe_load(front)
        assert settings["sdk"] == "gradio" and (self.SPACE / settings["app_file"]).is_file()
        assert re.fullmatch(r"\d+\.\d+\.\d+", settings["sdk_version"]) and len(settings["short_description"]) <= 60
        assert (self.SPACE / "requirements.txt").read_text().split("\n")[:-1] == requirements("demo")


def test_the_commands_of_the_page(tmp_path):
    """docs/demo.md: the command serves, the Python below asks it."""
    (command,) = re.findall(r"^flux-hf demo --port.*", PAGE, re.MULTILINE)
    (python,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    words, port = shlex.split(command)[2:], free_port()
    old = words[words.index("--port") + 1]
    words[words.index("--port") + 1] = str(port)
    shutil.copy(example_clips()["moves_left"], tmp_path / "clip.mp4")
    with served([str(ROOT / "scripts" / "demo.py"), *words], port, tmp_path):
        done = subprocess.run(
            [sys.executable, "-c", python.replace(old, str(port))], cwd=tmp_path, capture_output=True, text=True
        )
    assert done.returncode == 0, done.stderr
    assert "moves_left" in done.stdout

"""Settings of the test run, and fixtures that several test files share."""

import logging
import os
from fractions import Fraction
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# The mixins of Transformers skip their slow tests by themselves; here the marker decides alone.
os.environ.setdefault("RUN_SLOW", "1")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import av
import numpy as np
import pytest
import torch
from transformers.utils import logging as transformers_logging

import flux_hf
from flux_hf.scripts.benchmarks.measuring import memory
from tests.tiny_models import PATCHES_OF_14
from tests.warm_python import WarmPython

ROOT = Path(__file__).resolve().parent.parent

MARKERS_OF_TRANSFORMERS = (
    "accelerate_tests",
    "flash_attn_test",
    "flash_attn_3_test",
    "flash_attn_4_test",
    "torch_compile_test",
)


def pytest_configure(config):
    """Announce the markers that the mixins of Transformers carry, which strict markers would refuse."""
    for marker in MARKERS_OF_TRANSFORMERS:
        config.addinivalue_line("markers", f"{marker}: from the test suite of Transformers")


@pytest.fixture(scope="session")
def tiny_config():
    """A classifier that computes in milliseconds; its weights mean nothing."""
    return flux_hf.FluxViTConfig(
        **PATCHES_OF_14,
        head_token_budgets=[96, 48],
        id2label={index: f"label {index}" for index in range(4)},
    )


@pytest.fixture(scope="session")
def tiny_processor():
    """Fits the tiny classifier: two budgets, each with a grid that has more tokens than it keeps."""
    return flux_hf.FluxVideoProcessor(token_budget=48, grids={48: (6, 56), 96: (8, 70)})


@pytest.fixture(scope="session")
def tiny_checkpoint(tiny_config, tiny_processor, tmp_path_factory):
    """Folder of a saved tiny classifier with its processor; read only."""
    folder = tmp_path_factory.mktemp("tiny_checkpoint")
    torch.manual_seed(0)
    flux_hf.FluxViTForVideoClassification(tiny_config).save_pretrained(folder)
    tiny_processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def warm_python(tmp_path_factory):
    """Runs code in processes of their own, with a cache of their own."""
    home = tmp_path_factory.mktemp("home")
    with WarmPython({**os.environ, "PYTHONPATH": str(ROOT), "HF_HOME": str(home)}) as python:
        yield python


@pytest.fixture
def warm_measurements(warm_python, monkeypatch, tmp_path):
    """Processes that measure memory begin warm."""

    def run(code: str, *arguments: str) -> str:
        done = warm_python.run(code, *arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    monkeypatch.setattr(memory, "run_python", run)


@pytest.fixture
def make_video(tmp_path):
    """Encodes a real video file below `tmp_path`: a bright square that crosses a noisy scene."""

    def make(
        name: str,
        *,
        frames: int = 12,
        width: int = 96,
        height: int = 72,
        codec: str = "mpeg4",
        fps: int = 12,
        seed: int = 0,
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        scene = np.random.default_rng(seed).integers(0, 160, (height, width, 3), dtype=np.uint8)
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=Fraction(fps))
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.bit_rate = 4_000_000
            for index in range(frames):
                image = scene.copy()
                left = index * (width - 16) // max(frames - 1, 1)
                image[height // 3 : height // 3 + 16, left : left + 16] = 255
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode(None))
        return path

    return make


@pytest.fixture
def warnings_of_training():
    """Call it for the warnings that the trainer has logged."""
    messages = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())
    logger = transformers_logging.get_logger("flux_hf.training")
    logger.addHandler(handler)
    yield lambda: messages
    logger.removeHandler(handler)

"""Transformers' own test mixins, importable as `hf_tests.*`.

They are part of the source distribution of Transformers and of nothing else, so `load` fetches that of the installed
version, once, and keeps its `tests/` folder in a user cache (`FLUX_HF_TEST_CACHE` moves it).
"""

import importlib
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from types import ModuleType

import pytest
import transformers
from filelock import FileLock

FETCH_SECONDS = 300
REGISTRY_SILENT = re.compile(r"No matching distribution found|Could not install packages due to an OSError|timed out")

CONFIG_COMMON_KWARGS = {
    "return_dict": False,
    "output_hidden_states": True,
    "output_attentions": True,
    "dtype": "float16",
    "chunk_size_feed_forward": 5,
    "architectures": ["FluxViTModel"],
    "id2label": {0: "label"},
    "label2id": {"label": "0"},
    "problem_type": "regression",
}


def cache_folder() -> Path:
    """Where fetched suites are kept, one folder per version of Transformers."""
    if os.environ.get("FLUX_HF_TEST_CACHE"):
        return Path(os.environ["FLUX_HF_TEST_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flux_hf" / "tests"


def fetch() -> Path:
    """The unpacked `tests/` folder of the installed Transformers; skips the test module where no registry answers."""
    version = transformers.__version__
    if ".dev" in version:
        pytest.skip(f"transformers {version} is no release: there is no source distribution", allow_module_level=True)
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    tests = folder / f"transformers-{version}" / "tests"
    with FileLock(folder / ".lock"):
        if not tests.is_dir():
            with tempfile.TemporaryDirectory(dir=folder) as work:
                _unpack(_download(version, Path(work)), Path(work))
                (Path(work) / f"transformers-{version}").rename(tests.parent)
    return tests


def _download(version: str, folder: Path) -> Path:
    options = "--quiet --no-deps --no-build-isolation --retries 1 --no-binary transformers".split()
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), f"transformers=={version}"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_SECONDS)
    if run.returncode and REGISTRY_SILENT.search(run.stderr):
        pytest.skip(
            f"no registry gave the source distribution of transformers {version}: {run.stderr.splitlines()[-1]}",
            allow_module_level=True,
        )
    if run.returncode:
        raise RuntimeError(f"fetching the source distribution of transformers {version} failed:\n{run.stderr}")
    return next(folder.glob("transformers-*.tar.gz"))


def _unpack(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as tar:
        wanted = [member for member in tar.getmembers() if member.name.split("/")[1:2] == ["tests"]]
        tar.extractall(folder, members=wanted, filter="data")
    # test_configuration_common imports its own folder as a package.
    (folder / archive.name.removesuffix(".tar.gz") / "tests" / "__init__.py").touch()


def load(name: str) -> ModuleType:
    """Import one file of the suite, for example `load("test_modeling_common")`.

    The source distribution leaves out the helpers in subfolders that these files import; empty stand-ins take their
    place. What they test is not reached here: exporting and text generation.
    """
    if "hf_tests" not in sys.modules:
        _package("hf_tests", fetch())
        for folder in ("exporters", "generation", "utils"):
            _package(f"hf_tests.{folder}")
        _module("hf_tests.exporters.test_export", ExportTesterMixin=type("ExportTesterMixin", (), {}))
        _module("hf_tests.generation.test_utils", GenerationTesterMixin=type("GenerationTesterMixin", (), {}))
        _module("hf_tests.utils.test_configuration_utils", config_common_kwargs=CONFIG_COMMON_KWARGS)
    return importlib.import_module(f"hf_tests.{name}")


def _package(name: str, folder: Path | None = None) -> None:
    _module(name, __path__=[str(folder)] if folder else [])


def _module(name: str, **attributes) -> None:
    module = ModuleType(name)
    vars(module).update(attributes)
    sys.modules[name] = module

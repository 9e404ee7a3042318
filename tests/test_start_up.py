"""What an import costs, counted in modules, and what a long video costs, counted in frames and bytes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from flux_hf.scripts.benchmarks.measuring.files import FileKind, video_file
from flux_hf.scripts.benchmarks.measuring.memory import peak_kilobytes, run_python

ROOT = Path(__file__).parent.parent

IMPORTS = """
import json, sys
before = {name.partition(".")[0] for name in sys.modules}
for name in sys.argv[1:]:
    sys.modules[name] = None  # importing it fails, also where Transformers has imported it
import flux_hf
print(json.dumps(sorted({name.partition(".")[0] for name, module in sys.modules.items() if module} - before)))
"""

REGISTERED = """
import json, sys
from transformers import AutoConfig, AutoModel
config = AutoConfig.for_model("fluxvit", hidden_size=32, num_attention_heads=2, num_hidden_layers=1)
model = AutoModel.from_config(config)
waiting = [finder.module for finder in sys.meta_path if type(finder).__module__.startswith("flux_hf")]
print(json.dumps([type(config).__name__, type(model).__name__, model._auto_class, "transformers" in waiting]))
"""

READ = """
import sys, torch
from flux_hf import FluxVideoProcessor
torch.set_num_threads(1)
for decoding in ("exact", "fast"):
    FluxVideoProcessor(num_frames=8, size=112)(sys.argv[1], return_tensors="pt", decoding=decoding)
"""


def test_importing_leaves_what_it_does_not_need():
    """Registering needs the Auto classes and they need torch: it waits for Transformers."""
    loaded = set(json.loads(run_python("import json, sys, flux_hf; print(json.dumps([*sys.modules]))")))
    assert "flux_hf" in loaded
    assert not loaded & {"av", "datasets", "numpy", "torch", "torchvision", "transformers", "yaml"}


@pytest.mark.long
@pytest.mark.parametrize(
    "first",
    [
        "import flux_hf, importlib.util; importlib.util.find_spec('transformers')",
        pytest.param("from flux_hf import FluxViTForVideoClassification", marks=pytest.mark.slow),
        pytest.param(
            "from flux_hf.processing.pipeline_fluxvit import FluxVideoClassificationPipeline", marks=pytest.mark.slow
        ),
    ],
)
def test_whatever_is_imported_first_the_auto_classes_know_the_model(first):
    """And each class is marked for saving with its code. Nothing but the answer is printed."""
    command = [sys.executable, "-W", "error::DeprecationWarning:flux_hf", "-c", f"{first}\n{REGISTERED}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == ["FluxViTConfig", "FluxViTModel", "AutoModel", False]


def test_importing_adds_nothing_to_what_transformers_imports(warm_python, tmp_path):
    """PyAV, datasets and all the rest wait until they are needed."""
    heavy = {"av", "torchvision", "datasets", "evaluate", "matplotlib", "onnx", "onnxruntime", "sklearn", "yaml", "PIL"}
    done = warm_python.run(IMPORTS, *heavy, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    added = set(json.loads(done.stdout))
    assert "flux_hf" in added and not added & heavy


def test_memory_does_not_grow_with_the_length_of_a_video(tmp_path, warm_measurements):
    """The peak of a process that reads a hundred times longer file is that of one that reads the short file."""
    paths = [str(video_file(FileKind(seconds, 640, 360, 30), tmp_path)) for seconds in (4, 400)]
    short, long = (peak_kilobytes(READ, path) for path in paths)
    assert long < 1.1 * short


@pytest.mark.parametrize("decoding", ["fast", "exact"])
def test_only_frames_that_are_kept_are_converted(decoding, tmp_path, monkeypatch):
    from flux_hf import FluxVideoProcessor
    from flux_hf.processing import video_decoding_fluxvit

    written = []
    original = video_decoding_fluxvit.FrameWriter.write
    monkeypatch.setattr(
        video_decoding_fluxvit.FrameWriter, "write", lambda *args: written.append(args[1]) or original(*args)
    )
    path = video_file(FileKind(20, 128, 96, 50), tmp_path)
    FluxVideoProcessor(num_frames=8, size=56, decoding=decoding)(path)
    assert len(written) == 8

"""What an import costs, counted in modules, and what a long video costs, counted in frames and bytes."""

import json

import pytest

from flux_hf.scripts.benchmarks.measuring.files import FileKind, video_file
from flux_hf.scripts.benchmarks.measuring.memory import peak_kilobytes, run_python

IMPORTS = """
import json, sys
from transformers import AutoConfig, AutoModel, AutoModelForVideoClassification, AutoVideoProcessor
before = set(sys.modules)
import flux_hf
print(json.dumps(sorted({name.partition(".")[0] for name in set(sys.modules) - before})))
"""

REGISTERED = """
import json, sys
from transformers import AutoConfig, AutoModel
config = AutoConfig.for_model("fluxvit", hidden_size=32, num_attention_heads=2, num_hidden_layers=1)
model = AutoModel.from_config(config)
waiting = [finder for finder in sys.meta_path if type(finder).__module__.startswith("flux_hf")]
print(json.dumps([type(config).__name__, type(model).__name__, model._auto_class, len(waiting)]))
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


@pytest.mark.parametrize(
    "first",
    [
        "import flux_hf, importlib.util; importlib.util.find_spec('transformers')",
        "from flux_hf import FluxViTForVideoClassification",
        "from flux_hf.processing.pipeline_fluxvit import FluxVideoClassificationPipeline",
    ],
)
def test_whatever_is_imported_first_the_auto_classes_know_the_model(first):
    """And each class is marked for saving with its code."""
    assert json.loads(run_python(f"{first}\n{REGISTERED}")) == ["FluxViTConfig", "FluxViTModel", "AutoModel", 0]


def test_importing_adds_nothing_to_what_transformers_imports():
    """PyAV, datasets and all the rest wait until they are needed."""
    added = set(json.loads(run_python(IMPORTS)))
    assert "flux_hf" in added
    heavy = {"av", "torchvision", "datasets", "evaluate", "matplotlib", "onnx", "onnxruntime", "sklearn", "yaml", "PIL"}
    assert not added & heavy


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

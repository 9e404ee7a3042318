"""A torchcodec that is installed but cannot be imported, for instance because it is for another torch."""

import json
import os
from pathlib import Path

import pytest

from tests.warm_python import WarmPython

ROOT = Path(__file__).resolve().parent.parent
BROKEN = "raise RuntimeError('Could not load libtorchcodec')\n"
METADATA = "Metadata-Version: 2.1\nName: torchcodec\nVersion: 0.17.0\n"

LOAD = """
import json, sys
from pathlib import Path
from datasets import Dataset, Features, Video, load_dataset
from flux_hf.data import cache_clips, load_video_dataset
from flux_hf.data.checking import check_videos
from tests.test_video_datasets import LAYOUTS, first_number
from tests.video_datasets import CLASSES, videofolder

folder, asked, report = Path(sys.argv[1]), sys.argv[2], {}
for name, (make, options) in LAYOUTS.items():
    if asked not in (name, "all"):
        continue
    data = make(folder / name / "set", {"train": 3})
    if options.get("label_names") == "labels.txt":
        options = {"label_names": data / "labels.txt"}
    for streaming in (False, True):
        rows = load_video_dataset(data, "train", streaming=streaming, **options)
        report[f"{name} {streaming}"] = sorted((first_number(row) // 100, row["label"]) for row in rows)
if asked == "all":
    rows = load_video_dataset(folder / "videofolder" / "set", "train")
    report["checked"] = len(check_videos(rows, num_workers=1))
    report["cached"] = cache_clips(rows, folder / "cache", num_frames=2, size=32, num_workers=1).clips.shape
try:
    Dataset.from_dict({"video": ["a.mp4"]}, features=Features({"video": Video(decode=False)}))
except RuntimeError as error:
    report["without us"] = str(error)
print(json.dumps(report))
"""

PREDICT = """
import json, sys
from transformers import AutoModelForVideoClassification, AutoVideoProcessor, pipeline
from transformers.utils import is_torchcodec_available
import flux_hf
from flux_hf.cli import main
checkpoint, video, dataset, output = sys.argv[1:]
main(["classify", video, "--checkpoint", checkpoint])
main(["evaluate", "--dataset", dataset, "--checkpoint", checkpoint, "--output", output])
processor = AutoVideoProcessor.from_pretrained(checkpoint)
logits = AutoModelForVideoClassification.from_pretrained(checkpoint)(**processor(video, return_tensors="pt")).logits
best = pipeline("video-classification", model=checkpoint)(video)[0]
print(json.dumps({"available": is_torchcodec_available(), "logits": logits[0].tolist(), "best": best}))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Runs Python where torchcodec is broken; gives the last line it printed."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "torchcodec").mkdir()
    (folder / "torchcodec" / "__init__.py").write_text(BROKEN)
    (folder / "torchcodec-0.17.0.dist-info").mkdir()
    (folder / "torchcodec-0.17.0.dist-info" / "METADATA").write_text(METADATA)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]), "OMP_NUM_THREADS": "1"}
    # No set comes prepared out of a cache that another process filled.
    environment["HF_DATASETS_CACHE"] = str(folder / "cache")
    with WarmPython(environment) as python:

        def run(code: str, *arguments) -> str:
            done = python.run(code, *arguments, cwd=folder)
            assert done.returncode == 0, done.stderr
            return done.stdout.splitlines()[-1]

        yield run


@pytest.mark.long
def test_a_folder_of_videos_loads(run, tmp_path):
    report = json.loads(run(LOAD, tmp_path / "data", "videofolder"))
    assert report.pop("without us") == "Could not load libtorchcodec"
    assert list(report.values()) == [[[0, 0], [1, 1], [2, 2]]] * 2


@pytest.mark.slow
def test_every_layout_loads(run, tmp_path):
    report = json.loads(run(LOAD, tmp_path / "data", "all"))
    assert report.pop("without us") == "Could not load libtorchcodec"
    assert (report.pop("checked"), report.pop("cached")) == (0, [3, 2, 32, 32, 3])
    assert len(report) == 16
    assert {name: rows for name, rows in report.items() if rows != [[0, 0], [1, 1], [2, 2]]} == {}


@pytest.mark.long
def test_commands_stock_pipeline_and_auto_classes(run, tiny_checkpoint, make_video, tmp_path):
    dataset, output = make_video("set/test/label 0/a.mp4").parents[2], tmp_path / "out.json"
    make_video("set/test/label 1/b.mp4")
    report = json.loads(run(PREDICT, tiny_checkpoint, make_video("clip.mp4"), dataset, output))
    assert report["available"]
    assert report["best"]["label"] == f"label {report['logits'].index(max(report['logits']))}"
    assert json.loads(output.read_text())["num_videos"] == 2

"""The benchmark of watching: phases of load and tables; and the claim that memory is flat over an hour of video."""

import json
import re

import pytest

from flux_hf import FluxVideoProcessor, FluxViTForVideoClassification
from flux_hf.scripts.benchmarks.measuring.watching import moving_texture, under_load
from flux_hf.scripts.benchmarks.report import watching_tables

HOUR = """
import json, sys, torch
from pathlib import Path
from flux_hf import FluxVideoProcessor, FluxViTForVideoClassification
from flux_hf.scripts.benchmarks.measuring.watching import memory_over_time
torch.set_num_threads(1)
model = FluxViTForVideoClassification.from_pretrained(sys.argv[1]).eval()
processor = FluxVideoProcessor.from_pretrained(sys.argv[1])
print(json.dumps(memory_over_time(Path(sys.argv[2]), model, processor, speed=24, stride=2.0, latency=60.0)))
"""


@pytest.mark.slow
def test_the_second_third_is_the_busy_one(tiny_checkpoint, tmp_path):
    model = FluxViTForVideoClassification.from_pretrained(tiny_checkpoint).eval()
    processor = FluxVideoProcessor.from_pretrained(tiny_checkpoint)
    path = moving_texture(tmp_path / "texture.mp4", 15, 10, width=64, height=48, key_every=10)
    row = under_load(path, model, processor, seconds=15, busy=1, latency=5, stride=0.2)
    assert [part["part"] for part in row["parts"]] == ["alone", "busy", "alone again"]
    assert all(0 < part["delay"]["median"] <= part["delay"]["p95"] <= part["delay"]["most"] for part in row["parts"])
    assert sum(part["answers"] for part in row["parts"]) == len(row["over_time"])
    assert (row["pictures"], row["dropped"]) == (150, 0)
    memory = {"seconds": 3600, "answers": 9, "kilobytes": 2048, "kilobytes_per_hour": -512}
    made = watching_tables({"watching": [{"model": "tiny", "rate": 10} | row], "memory": memory})
    assert "| tiny | 10 | 150 | 0 |" in made["dropped"] and "| 1.0 | 9 | 2 | -0.5 |" in made["memory"]
    assert len(re.findall(r"^\| tiny \|", made["delay"], re.MULTILINE)) == 3


@pytest.mark.slow
def test_memory_is_flat_over_an_hour_of_video(tiny_checkpoint, tmp_path, warm_python):
    """Two and a half minutes of a clock that is 24 times as fast."""
    path = moving_texture(tmp_path / "hour.mp4", 3600, 5, width=96, height=72, key_every=10)
    done = warm_python.run(HOUR, tiny_checkpoint, path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["seconds"] > 3590 and found["answers"] > 200 and found["pictures"] + found["dropped"] == 18000
    assert found["kilobytes_per_hour"] < 8 * 1024

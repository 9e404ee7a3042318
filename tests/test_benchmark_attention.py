"""The benchmark of attention in training, at a tiny size."""

import json

import pytest

from flux_hf.files import read_json
from flux_hf.scripts.benchmarks import attention
from flux_hf.scripts.benchmarks.report import attention_tables
from tests.tiny_models import PATCHES_OF_14


@pytest.mark.slow
def test_both_kinds_of_attention_are_timed_in_both_types(tmp_path):
    config, output = tmp_path / "config.json", tmp_path / "attention.json"
    config.write_text(json.dumps(PATCHES_OF_14))
    options = {"model_config": config, "output": output, "batch_size": 2, "num_frames": 4, "size": 28, "repeats": 1}
    attention.main([*(f"--{name}={value}" for name, value in options.items()), "--token_budgets", "8", "4"])
    result = read_json(output)
    assert [(row["type"], row["token_budget"]) for row in result["rows"]] == [
        ("float32", 8), ("float32", 4), ("bf16", 8), ("bf16", 4)
    ]  # fmt: skip
    for row in result["rows"]:
        assert list(row["runs"]) == ["sdpa", "sdpa, compiled", "eager", "eager, compiled"]
        assert all(run["seconds"] > 0 for run in row["runs"].values())
    assert "| bf16 | 4 |" in attention_tables(result)["steps"]

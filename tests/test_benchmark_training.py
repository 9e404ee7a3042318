"""The training benchmark, on a few tiny clips."""

import json

import pytest

from flux_hf.scripts.benchmarks import training as benchmark_training
from flux_hf.scripts.benchmarks.measuring.steps import StepOptions, step_kilobytes
from flux_hf.scripts.benchmarks.report import training_tables
from tests.test_modeling import SIZES


@pytest.mark.slow
@pytest.mark.parametrize("tubelet_size", [1, 2])
def test_the_training_benchmark_writes_what_it_measured(tmp_path, tubelet_size):
    (tmp_path / "config.json").write_text(json.dumps(SIZES | {"tubelet_size": tubelet_size}))
    output = tmp_path / "benchmark.json"
    options = {
        "num_videos": 4,
        "batch_size": 2,
        "steps": 2,
        "size": 56,
        "cached_size": 64,
        "num_frames": 4 * tubelet_size,
    }
    listed = [f"--{name}={value}" for name, value in options.items()]
    benchmark_training.main(
        [*listed, "--workers", "0", "1", "--output", str(output), "--model_config", str(tmp_path / "config.json")]
    )
    result = json.loads(output.read_text())
    assert [(row["source"], row["workers"]) for row in result["loader"]] == [
        ("decoded clips", 0), ("decoded clips", 1), ("video files", 0), ("video files", 1)
    ]  # fmt: skip
    assert all(row["clips_per_second"] > 0 for row in result["loader"])
    training = result["training"]
    least = 3 * 2 * training["gmacs_forward_per_clip"] / training["matmul_gmacs_per_second"]
    assert training["runs"].keys() == {"Flux-Multi", "separate"}
    assert all(entry["seconds"] > least > 0 for entry in training["runs"].values())
    assert [row["workers"] for row in result["loader_share"]] == [0, 1]
    assert all(row["data_seconds"] > 0 and row["step_seconds"] > 0 for row in result["loader_share"])
    assert [row["token_budgets"] for row in result["memory"]] == [[48, 32, 16], [48], [32], [16]]
    assert all(row["kilobytes"] > 0 for row in result["memory"])
    assert {"command", "date", "machine", "versions"} <= result.keys()
    assert "| 48 + 32 + 16 |" in training_tables(result)["memory"]


@pytest.mark.long
def test_memory_of_a_step_grows_with_its_tokens(tmp_path, warm_measurements):
    config = tmp_path / "config.json"
    config.write_text(json.dumps(SIZES | {"head_token_budgets": [512, 16], "patch_size": 2, "position_size": 8}))
    options = StepOptions(model_config=str(config), num_frames=8, size=16)
    few, many = (step_kilobytes(options, [budget]) for budget in (16, 512))
    assert many - few > 8 * 496 * 2 * 10 * SIZES["hidden_size"] * 4 >> 10  # ten values per token, layer and channel

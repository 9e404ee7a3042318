"""The side-by-side experiment and the training benchmark, on a few tiny clips."""

import json

import pytest

from flux_hf.motion_clips import LABELS, render_clip
from flux_hf.scripts import benchmark_training, compare_training
from flux_hf.training.comparison import METHODS, plot, summary
from tests import tiny_training

TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "mlp_ratio": 1.0,
    "position_frames": 4,
    "position_size": 56,
    "projection_dim": 16,
    "pooler_num_attention_heads": 2,
    "head_token_budgets": [32, 24, 12],
}


@pytest.fixture
def command(tmp_path):
    for split in ("train", "test"):
        for number, label in enumerate(list(LABELS)[:4]):
            (tmp_path / "clips" / split / label).mkdir(parents=True)
            render_clip(tmp_path / "clips" / split / label / f"{number}.mp4", label=label, seed=number)
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    args = tiny_training.arguments(tmp_path / "run")
    names = ("min_frames", "max_frames", "min_size", "max_size", "size_step", "min_pool_tokens", "max_pool_tokens")
    options = {name: getattr(args, name) for name in names} | {
        "dataset": tmp_path / "clips",
        "cache_dir": tmp_path / "cache",
        "cached_frames": 8,
        "cached_size": 56,
        "model_config": tmp_path / "config.json",
        "num_frames": 4,
        "size": 42,
        "max_steps": 2,
        "per_device_train_batch_size": 2,
        "output_dir": tmp_path / "run",
        "output": tmp_path / "comparison.json",
        "plot": tmp_path / "comparison.png",
        "use_cpu": True,
        "disable_tqdm": True,
    }

    def run(*more, **changes):
        listed = [f"--{name}={value}" for name, value in (options | changes).items()]
        compare_training.main([*listed, "--token_budgets", "32", "24", "12", *more])
        return json.loads((tmp_path / "comparison.json").read_text())

    return run


@pytest.mark.slow
def test_all_methods_and_seeds_and_only_what_is_missing(command, capsys, tmp_path):
    first = command("--seeds", "0", "--methods", "fixed grid", "Flux-Multi")
    assert [(run["method"], run["seed"]) for run in first["runs"]] == [("fixed grid", 0), ("Flux-Multi", 0)]
    assert list(first["runs"][0]["top1"]) == ["36", "18", "9", "4"]
    capsys.readouterr()
    both = command("--seeds", "0", "1")
    trained = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith('{"method"')]
    assert [(run["method"], run["seed"]) for run in trained] == [("Flux-Single", 0), *((m, 1) for m in METHODS)]
    assert both["runs"][:2] == first["runs"]
    assert {m: row["9"]["seeds"] for m, row in both["summary"].items()} == dict.fromkeys(METHODS, 2)
    assert (tmp_path / "comparison.png").stat().st_size > 1000
    with pytest.raises(SystemExit, match="other settings"):
        command("--seeds", "0", max_steps=3)


def test_the_summary_by_hand(tmp_path):
    runs = [
        {"method": "Flux-Multi", "seed": seed, "top1": {"8": top1, "4": 0.5}} for seed, top1 in enumerate((0.2, 0.4))
    ]
    figures = summary(runs)["Flux-Multi"]
    assert figures["8"] == {"mean": pytest.approx(0.3), "std": pytest.approx(0.1 * 2**0.5), "seeds": 2}
    assert figures["4"]["std"] == 0.0
    plot(runs, tmp_path / "plot.svg")
    assert (tmp_path / "plot.svg").read_text().count("<use ") >= 2


@pytest.mark.slow
def test_the_training_benchmark_writes_what_it_measured(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    output = tmp_path / "benchmark.json"
    options = {"num_videos": 4, "batch_size": 2, "steps": 2, "size": 56, "num_frames": 4, "cached_size": 64}
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
    assert training["clips_per_second"] < training["floor_clips_per_second"]
    assert training["time_over_floor"] == pytest.approx(
        training["floor_clips_per_second"] / training["clips_per_second"]
    )
    assert {"command", "date", "machine", "versions"} <= result.keys()

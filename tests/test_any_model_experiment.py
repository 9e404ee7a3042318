"""The experiment on other models than FluxViT, on clips so few and small that it takes seconds."""

import json

import pytest

from flux_hf.scripts.experiments.any_model import compare, merge, report, run
from flux_hf.scripts.experiments.any_model.models import BUDGETS, enabled_model
from tests.video_datasets import CLASSES, videofolder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two clips of each of three classes to train on and one to validate on."""
    clips = {"train": 2 * len(CLASSES), "validation": len(CLASSES)}
    return videofolder(tmp_path_factory.mktemp("clips"), clips)


@pytest.fixture
def options(folder, tmp_path):
    where = ["--cache", str(tmp_path / "cache"), "--runs", str(tmp_path / "runs")]
    return ["--data", str(folder), "--steps", "2", "--held_out", "1", *where]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["videomae", "vjepa2"])
def test_one_run(model, options, tmp_path):
    run.main([*options, "--model", model, "--regime", "flux", "--seed", "1"])
    found = json.loads((tmp_path / "runs" / f"{model}-flux-1.json").read_text())
    rules = [(row["rule"], row["tokens"]) for row in found["rows"]]
    assert rules == [*(("group_dynamic", tokens) for tokens in BUDGETS), ("random", 72), ("uniform", 72)]
    assert (found["train_clips"], found["test_clips"]) == (6, 3)
    assert all(row["top1"] * 3 == pytest.approx(round(row["top1"] * 3)) for row in found["rows"])
    assert found["recipe"]["token_budgets"] == BUDGETS[:3] and found["settings"]["steps"] == 2
    assert 1e6 < found["parameters"] < 3e6


def test_both_ways_start_from_the_same_weights_and_seeds_draw_their_own_clips(options):
    names = list(CLASSES)
    first, again, other = (enabled_model("vjepa2", names, seed).classifier.weight for seed in (0, 0, 1))
    assert first.equal(again) and not first.equal(other)
    (chosen,) = run.parse_options(run.RunOptions, options, "")
    dataset = run.all_clips(chosen)
    drawn = [[set(part["row"][:]) for part in run.drawn(dataset, 1, seed)] for seed in range(4)]
    assert all(len(train) == 6 and len(test) == 3 and not train & test for train, test in drawn)
    assert len({frozenset(test) for _, test in drawn}) > 1


@pytest.mark.slow
def test_all_runs_are_done_once(options, tmp_path, capfd):
    output, plot = tmp_path / "results.json", tmp_path / "plot.png"
    command = [*options, "--models", "videomae", "--seeds", "0", "--jobs", "2", "--output", str(output)]
    compare.main([*command, "--plot", str(plot)])
    found = json.loads(output.read_text())
    assert [one["regime"] for one in found["trainings"]] == ["flux", "stock"]
    assert found["baselines"][0]["top1"]["majority"] == pytest.approx(1 / 3)
    assert plot.read_bytes().startswith(b"\x89PNG") and report.accuracy_table(found) in capfd.readouterr().out
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("*.json")}
    assert len(made) == 3
    compare.main([*command, "--plot", str(plot)])
    assert made == {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("*.json")}
    with pytest.raises(ValueError, match="of other clips or settings; name another --runs"):
        compare.main([*command, "--steps", "3"])
    broken = [*command, "--seeds", "0", "1", "--workers", "-1"]
    with pytest.raises(RuntimeError, match="2 of 2 trainings failed, see their logs in .*: videomae-stock-1"):
        compare.main(broken)


def written_runs(folder, top1: dict[tuple[str, int, int], float]):
    """Files of runs with these figures: (regime, seed, tokens) -> top-1."""
    head = {"command": "go", "date": "today", "machine": {}, "versions": {}, "settings": {"steps": 9}}
    for regime, seed in {key[:2] for key in top1}:
        rows = [
            {"rule": "group_dynamic", "tokens": tokens, "top1": value}
            for (how, which, tokens), value in top1.items()
            if (how, which) == (regime, seed)
        ]
        rows.append({"rule": "random", "tokens": 72, "top1": 0.25})
        one = {"model": "vjepa2", "regime": regime, "seed": seed, "parameters": 2_000_000, "seconds": 10 * (seed + 1)}
        one |= {"train_clips": 6, "test_clips": 3, "rows": rows}
        (folder / f"vjepa2-{regime}-{seed}.json").write_text(json.dumps(head | one))
    baselines = {"seed": 0, "seconds": 1, "top1": {"thumbnails": 0.9, "majority": 0.125}}
    (folder / "baselines-0.json").write_text(json.dumps(head | baselines))


def test_tables_show_means_over_seeds(tmp_path):
    stock = {
        ("stock", seed, tokens): 0.9 - 0.1 * seed - 0.3 * (tokens < 288) for seed in (0, 1) for tokens in (288, 72)
    }
    flux = {("flux", 0, 288): 0.85, ("flux", 0, 72): 0.8}
    written_runs(tmp_path, stock | flux)
    output = tmp_path / "all" / "results.json"
    accuracy = merge.merge(tmp_path, output, None).splitlines()
    assert accuracy[2:] == [
        "| V-JEPA 2 | stock | the selector | 85.0 ± 7.1 | 55.0 ± 7.1 |",
        "| V-JEPA 2 | stock | random tokens | – | 25.0 ± 0.0 |",
        "| V-JEPA 2 | Flux | the selector | 85.0 ± 0.0 | 80.0 ± 0.0 |",
        "| V-JEPA 2 | Flux | random tokens | – | 25.0 ± 0.0 |",
    ]
    made = report.tables(output)
    assert "| V-JEPA 2 | stock | 2.0 M | 2 | 9 | 6 | 3 | 15 |" in made["any_model.training"]
    assert "80.0 ± 0.0, above stock training (55.0 ± 7.1)" in made["any_model.verdict"]
    (tmp_path / "baselines-0.json").write_text('{"settings": {"steps": 8}}')
    with pytest.raises(ValueError, match="of different clips or settings"):
        merge.merge(tmp_path, output, None)
    with pytest.raises(ValueError, match="holds no run"):
        merge.merge(tmp_path / "all", output.with_name("other.json"), None)

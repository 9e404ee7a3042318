"""The experiment on other models than FluxViT, on clips so few and small that it takes seconds."""

import json

import pytest

from flux_hf.scripts.experiments.any_model import compare, merge, report, run
from flux_hf.scripts.experiments.any_model.models import SETTINGS, enabled_model
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
@pytest.mark.parametrize(("model", "quarter"), [("videomae", 72), ("vjepa2", 16)])
def test_one_run(model, quarter, options, tmp_path):
    run.main([*options, "--model", model, "--regime", "flux", "--seed", "1"])
    found = json.loads((tmp_path / "runs" / f"{model}-flux-1.json").read_text())
    rules, budgets = [(row["rule"], row["tokens"]) for row in found["rows"]], SETTINGS[model].budgets
    assert rules == [*(("group_dynamic", tokens) for tokens in budgets), ("random", quarter), ("uniform", quarter)]
    assert (found["train_clips"], found["test_clips"]) == (6, 3)
    assert all(row["top1"] * 3 == pytest.approx(round(row["top1"] * 3)) for row in found["rows"])
    assert found["recipe"]["token_budgets"] == budgets[:3]
    assert (found["setting"]["steps"], found["recipe"]["max_steps"]) == (2, 2)
    assert found["recipe"]["learning_rate"] == found["setting"]["learning_rate"] == SETTINGS[model].learning_rate
    assert 5e5 < found["parameters"] < 3e6


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


@pytest.mark.parametrize("model", SETTINGS)
def test_stock_training_has_one_grid_and_flux_training_others_around_it(model):
    setting = SETTINGS[model]
    stock, flux = (run.budgets_and_grids(setting, regime) for regime in run.REGIMES)
    frames, size = setting.grid
    assert stock["token_budgets"] == [setting.budgets[0]] and flux["token_budgets"] == setting.budgets[:3]
    assert (stock["min_frames"], stock["max_frames"], stock["min_size"], stock["max_size"]) == (
        *2 * [frames],
        *2 * [size],
    )
    assert flux["min_frames"] < frames < flux["max_frames"] and flux["min_size"] < size < flux["max_size"]
    assert flux["min_pool_tokens"] < stock["min_pool_tokens"] == stock["max_pool_tokens"] < flux["max_pool_tokens"]


SETTING = {"grid": [16, 96], "steps": 9, "learning_rate": 0.001}


def written_runs(folder, model: str, top1: dict[tuple[str, int, int], float], setting=SETTING):
    """Files of runs with these figures: (regime, seed, tokens) -> top-1."""
    head = {"command": "go", "date": "today", "machine": {"cores": 2}, "versions": {}, "data": {"held_out": 1}}
    for regime, seed in {key[:2] for key in top1}:
        rows = [
            {"rule": "group_dynamic", "tokens": tokens, "top1": value}
            for (how, which, tokens), value in top1.items()
            if (how, which) == (regime, seed)
        ]
        rows.append({"rule": "random", "tokens": max(key[2] for key in top1) // 4, "top1": 0.25})
        one = {"model": model, "regime": regime, "seed": seed, "parameters": 2_000_000, "seconds": 10 * (seed + 1)}
        one |= {"setting": setting, "train_clips": 6, "test_clips": 3, "rows": rows}
        (folder / f"{model}-{regime}-{seed}.json").write_text(json.dumps(head | one))
    baselines = {"seed": 0, "seconds": 1, "top1": {"thumbnails": 0.9, "majority": 0.125}}
    (folder / "baselines-0.json").write_text(json.dumps(head | baselines))


def test_tables_show_means_over_seeds(tmp_path):
    stock = {("stock", seed, tokens): 0.9 - 0.1 * seed - 0.3 * (tokens < 64) for seed in (0, 1) for tokens in (64, 16)}
    flux = {("flux", 0, 64): 0.85, ("flux", 0, 16): 0.8}
    written_runs(tmp_path, "vjepa2", stock | flux)
    written_runs(tmp_path, "videomae", {("stock", 0, 288): 1.0}, SETTING | {"steps": 8})
    output = tmp_path / "all" / "results.json"
    accuracy = merge.merge(tmp_path, output, None).splitlines()
    assert accuracy[2:] == [
        "| VideoMAE, 288 tokens | stock | the selector | 100.0 ± 0.0 | – | – | – |",
        "| VideoMAE, 288 tokens | stock | random tokens | – | – | 25.0 ± 0.0 | – |",
        "| V-JEPA 2, 64 tokens | stock | the selector | 85.0 ± 7.1 | – | 55.0 ± 7.1 | – |",
        "| V-JEPA 2, 64 tokens | stock | random tokens | – | – | 25.0 ± 0.0 | – |",
        "| V-JEPA 2, 64 tokens | Flux | the selector | 85.0 ± 0.0 | – | 80.0 ± 0.0 | – |",
        "| V-JEPA 2, 64 tokens | Flux | random tokens | – | – | 25.0 ± 0.0 | – |",
    ]
    made = report.tables(output)
    assert "| V-JEPA 2 | stock | 2.0 M | 16 x 96 px | 9 | 0.001 | 2 | 6 | 3 | 15 |" in made["any_model.training"]
    assert "thumbnails 90.0 ± 0.0" in made["any_model.training"]
    other, own = made["any_model.verdict"].splitlines()
    assert "not measured" in other
    assert "+20.0 ± 0.0 points with 1/4 of the tokens (above in 1 of 1 seeds)" in own
    assert "-5.0 ± 0.0 points with all of the tokens (above in 0 of 1 seeds)" in own
    assert [line.count("`go`, today; cores 2") for line in made["any_model"].splitlines()] == [1, 1]


def test_runs_of_other_conditions_are_not_mixed(tmp_path):
    output = tmp_path / "all" / "results.json"
    written_runs(tmp_path, "vjepa2", {("stock", 0, 64): 0.5})
    written_runs(tmp_path, "vjepa2", {("stock", 1, 64): 0.5}, SETTING | {"steps": 8})
    with pytest.raises(ValueError, match="of vjepa2 in .* are of different settings or machines"):
        merge.merge(tmp_path, output, None)
    (tmp_path / "baselines-0.json").write_text('{"data": {"held_out": 2}}')
    with pytest.raises(ValueError, match="of different clips"):
        merge.merge(tmp_path, output, None)
    with pytest.raises(ValueError, match="holds no run"):
        merge.merge(tmp_path / "all", output, None)

"""Figures in README and docs are those of docs/results."""

import json
from pathlib import Path

from flux_hf import default_checkpoint
from flux_hf.benchmarking.report import performance_page

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def result(name: str) -> dict:
    return json.loads((ROOT / "docs" / "results" / f"{name}.json").read_text(encoding="utf-8"))


def test_accuracy_of_the_default_checkpoint():
    card = (Path(default_checkpoint()) / "README.md").read_text(encoding="utf-8")
    rendered, photos = (result(name)["budgets"] for name in ("motion_test", "motion_photos"))
    for budget in ("256", "128", "64"):
        gmacs, *top1 = (rendered[budget]["gmacs"], *(100 * each[budget]["top1"] for each in (rendered, photos)))
        assert f"| {budget} of 1152 | {gmacs:.3f} | {top1[0]:.1f} | {top1[1]:.1f} |" in README
        line = next(line for line in card.splitlines() if line.startswith(f"| {budget} |"))
        assert f"| {gmacs:.3f} | {top1[0]:.1f} (" in line and f"| {top1[1]:.1f} (" in line


def test_flux_multi_beside_the_default_checkpoint():
    card = (Path(default_checkpoint()) / "README.md").read_text(encoding="utf-8")
    for row, name in (("this checkpoint", "motion_test"), ("after Flux-Multi", "motion_test_flux_multi")):
        top1 = (100 * result(name)["budgets"][budget]["top1"] for budget in ("256", "128", "64"))
        assert f"| {row} | {' | '.join(f'{each:.1f}' for each in top1)} |" in card


def test_grids_of_the_default_checkpoint():
    page = (ROOT / "docs" / "token_optimization.md").read_text(encoding="utf-8")
    found = result("token_optimization")
    before, after = (found["test"][name]["budgets"] for name in ("before", "after"))
    for budget in ("256", "128", "64"):
        frames, size = found["budgets"][budget]["grid"]
        cells = f"{100 * before[budget]['top1']:.1f} | {frames} x {size}² | {100 * after[budget]['top1']:.1f}"
        assert f"| {budget} | {cells} |" in page
    assert f"took {100 * found['compute']['share']:.0f} % of the evaluations" in page


def test_the_headline_experiment():
    page = (ROOT / "docs" / "token_optimization.md").read_text(encoding="utf-8")
    found = result("headline_nano")
    cells = {(row["method"], row["same"], row["saving"], row["budget"]): row for row in found["means"]}
    assert {row["seeds"] for row in found["means"]} == {3}

    def line(name: str, method: str, same: str, saving: str) -> str:
        rows = [cells[method, same, saving, budget] for budget in found["budgets"]]
        texts = ["{top1:.1f} ± {spread:.1f}".format(**_percent(row, "top1", "spread")) for row in rows]
        return f"| {name} | {' | '.join(texts)} |"

    for name, method, same, saving in (
        ("plain ViT", "plain", "clips", "selector"),
        ("FluxViT, fixed grid", "flux_fixed", "clips", "selector"),
        ("FluxViT, Flux-Single (144)", "flux_single", "clips", "selector"),
        ("FluxViT, Flux-Multi", "flux_multi", "clips", "selector"),
        ("FluxViT, Flux-Multi, Token Optimization", "flux_multi", "clips", "token_optimization"),
        ("FluxViT, Flux-Multi, same compute", "flux_multi", "compute", "selector"),
    ):
        assert line(name, method, same, saving) in page and line(name, method, same, saving) in README
    for name, saving in (
        ("the selector", "selector"),
        ("without groups of frames", "dynamic"),
        ("random tokens", "random"),
        ("random tubes", "tube"),
        ("fewer frames", "frames"),
        ("fewer pixels", "pixels"),
    ):
        assert all(line(name, method, "clips", saving) in page for method in ("flux_multi", "flux_fixed"))
    multi, fixed, plain = (
        {budget: cells[method, "clips", "selector", budget]["top1"] for budget in found["budgets"]}
        for method in ("flux_multi", "flux_fixed", "plain")
    )
    assert multi[72] > fixed[288] and multi[36] > max(plain[288], fixed[36])
    gmacs = {budget: cells["flux_multi", "clips", "selector", budget]["gmacs"] for budget in found["budgets"]}
    assert [round(100 * gmacs[budget] / gmacs[288]) for budget in (72, 36)] == [22, 11]
    assert all(f"{each:.3f}" in README for each in gmacs.values())
    for seed in (0, 1, 2):
        rows = [
            row for row in found["rows"] if (row["seed"], row["same"], row["saving"]) == (seed, "clips", "selector")
        ]
        for budget in (72, 36):
            best = max((row for row in rows if row["budget"] == budget), key=lambda row: row["top1"])
            assert best["method"] == "flux_multi"


def test_the_comparison_of_pretraining():
    page = (ROOT / "docs" / "pretraining.md").read_text(encoding="utf-8")
    rows = result("compare_pretraining")["summary"]
    assert {row["top1"]["seeds"] for row in rows} == {3}
    by_setting = {(row["mode"], row["share"], row["tokens"], row["start"]): row for row in rows}
    for mode, share, tokens in {setting[:3] for setting in by_setting}:
        found = (by_setting.get((mode, share, tokens, start)) for start in ("scratch", "Flux-Multi", "Flux-Single"))
        cells = (
            "-" if row is None else "{mean:.1f} ± {std:.1f}".format(**_percent(row["top1"], "mean", "std"))
            for row in found
        )
        assert f"| {mode} | {100 * share:g} % | {tokens} | {' | '.join(cells)} |" in page
        assert by_setting[mode, share, tokens, "Flux-Multi"]["gain"]["mean"] >= 0.3195  # 32 points, rounded
    students = result("compare_pretraining")["students"]
    for seed in (0, 1, 2):
        multi, single = (students[f"{start}_{seed}"]["step_seconds"] for start in ("Flux-Multi", "Flux-Single"))
        assert single < multi / 2


def test_speed_of_pretraining():
    page = (ROOT / "docs" / "pretraining.md").read_text(encoding="utf-8")
    found = result("benchmark_pretraining")
    assert f"a step takes {1000 * found['step_seconds']:.0f} ms, {found['time_over_floor']:.1f} times its floor" in page
    assert f"takes {100 * found['teacher_share']:.0f} % of it" in page


def _percent(values: dict, *names: str) -> dict:
    return {name: 100 * values[name] for name in names}


def test_the_page_on_performance_is_made_of_the_benchmarks():
    names = ("benchmark_decoding", "benchmark_model", "benchmark_end_to_end", "benchmark_training")
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert page == performance_page([result(name) for name in names])


def test_speed_in_the_readme():
    film = "60 s 1280x720 H.264, key frame every 250"
    (decoding,) = (row for row in result("benchmark_decoding")["decoding"] if row["file"] == film)
    (labels,) = (row for row in result("benchmark_end_to_end")["end_to_end"] if row["file"] == film)
    best = decoding["best_peer"]
    for entry in (
        decoding["readers"]["fast"],
        decoding["readers"][best],
        labels["models"]["FluxViT-S at 512 tokens"],
        labels["models"]["VideoMAE-B"],
    ):
        assert f" {1000 * entry['seconds']:.0f} ms" in README

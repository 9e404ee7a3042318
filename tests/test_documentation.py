"""Figures in README and docs are those of docs/results."""

import json
from pathlib import Path
from statistics import mean

import torch

from flux_hf import FluxViTConfig, FluxViTForVideoClassification, default_checkpoint
from flux_hf.benchmarking.report import performance_page
from flux_hf.pretraining.comparison import table

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
    found = result("compare_pretraining")
    rows = found["summary"]
    assert table(rows) in page
    assert {row["top1"]["seeds"] for row in rows} == {3} and len(rows) == 2 * 3 * 3 * 3
    smallest = min(row["gain"]["mean"] for row in rows if row["start"] != "scratch")
    assert f"wins by {int(100 * smallest)} points or more" in page
    scratch, multi = (
        {row["tokens"]: row["top1"]["mean"] for row in rows if shown(row, "finetune", 0.01, start)}
        for start in ("scratch", "Flux-Multi")
    )
    assert min(scratch.values()) > 3 / 9
    text = README.replace("\n", " ")
    assert f"has {100 * multi[128]:.1f} % at 128 tokens and {100 * multi[32]:.1f} % at 32" in text
    assert f"from scratch {100 * scratch[128]:.1f} % and {100 * scratch[32]:.1f} %" in text
    steps = {
        start: mean(found["students"][f"{start}_{seed}"]["step_seconds"] for seed in range(3))
        for start in ("Flux-Multi", "Flux-Single")
    }
    assert f"({steps['Flux-Single']:.1f} s against {steps['Flux-Multi']:.1f} s)" in page


def test_sizes_of_teacher_and_students_of_the_comparison():
    page = (ROOT / "docs" / "pretraining.md").read_text(encoding="utf-8")
    teacher = FluxViTConfig.from_pretrained(default_checkpoint())
    student = FluxViTConfig.from_json_file(ROOT / "scripts" / "configs" / "models" / "fluxvit_pico.json")
    with torch.device("meta"):
        sizes = [FluxViTForVideoClassification(config).num_parameters() / 1e6 for config in (teacher, student)]
    assert f"the default checkpoint, {sizes[0]:.2f} M parameters" in page
    assert f"`fluxvit_pico`, {sizes[1]:.2f} M," in page


def shown(row: dict, mode: str, share: float, start: str) -> bool:
    return (row["mode"], row["share"], row["start"]) == (mode, share, start)


def test_the_comparison_with_a_foreign_teacher():
    page = (ROOT / "docs" / "pretraining.md").read_text(encoding="utf-8")
    found = result("compare_pretraining_foreign")
    scratch = [row for row in result("compare_pretraining")["summary"] if row["start"] == "scratch"]
    assert table([*scratch, *found["summary"]]) in page
    assert {row["top1"]["seeds"] for row in found["summary"]} == {3} and len(found["summary"]) == 2 * 3 * 3
    start = {(row["mode"], row["share"], row["tokens"]): row["top1"]["mean"] for row in scratch}
    gains = {
        setting: 100 * (row["top1"]["mean"] - start[setting])
        for row in found["summary"]
        for setting in [(row["mode"], row["share"], row["tokens"])]
    }
    few = [gain for (mode, share, _), gain in gains.items() if mode == "finetune" and share < 1]
    assert f"{min(gains.values()):+.1f} to {max(gains.values()):+.1f} points" in page
    assert f"at 1 % and 10 % fine-tuning gains {max(few):.1f} at most" in page
    students = list(found["students"].values())
    assert f"ends at {mean(student['loss'] for student in students):.1f}" in page
    teacher, step = (mean(student[name] for student in students) for name in ("teacher_seconds", "step_seconds"))
    assert len(students) == 3 and f"{teacher:.1f} s of the {step:.1f} s of a step" in page.replace("\n", " ")


def test_a_longer_training_from_scratch():
    page = (ROOT / "docs" / "pretraining.md").read_text(encoding="utf-8").replace("\n", " ")
    short, long = result("compare_pretraining"), result("compare_pretraining_longer")
    assert long["settings"]["finetune_overrides"] == ["max_steps=1500"]
    rows = {(row["share"], row["tokens"]): row["top1"] for row in long["summary"]}
    for share in (0.1, 1):
        top1 = (f"{100 * rows[share, tokens][what]:.1f}" for tokens in (128, 64, 32) for what in ("mean", "std"))
        assert "{} ± {} / {} ± {} / {} ± {}".format(*top1) + f" % with {100 * share:g} % of the labels" in page
    behind = min(
        row["top1"]["mean"] - rows[row["share"], row["tokens"]]["mean"]
        for row in short["summary"]
        if (row["mode"], row["start"]) == ("finetune", "Flux-Multi") and row["share"] > 0.01
    )
    assert f"{int(100 * behind)} points or more behind" in page
    students = [300 * short["students"][f"Flux-Multi_{seed}"]["step_seconds"] for seed in range(3)]
    tuned = [run["train_seconds"] for run in short["runs"] if (run["mode"], run["start"]) == ("finetune", "Flux-Multi")]
    scratch = mean(run["train_seconds"] for run in long["runs"])
    assert f"{mean(students) + mean(tuned):.0f} s on one core, fine-tuning included" in page
    assert f"1500 steps, {scratch:.0f} s, give" in page


def test_speed_of_pretraining():
    page = (ROOT / "docs" / "pretraining.md").read_text(encoding="utf-8")
    found = result("benchmark_pretraining")
    assert f"a step takes {1000 * found['step_seconds']:.0f} ms, {found['time_over_floor']:.1f} times its floor" in page
    assert f"takes {100 * found['teacher_share']:.0f} % of it" in page


def _percent(values: dict, *names: str) -> dict:
    return {name: 100 * values[name] for name in names}


def test_the_page_on_performance_is_made_of_the_benchmarks():
    names = ("decoding", "alternatives", "model", "model_batch8", "options", "end_to_end", "training")
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert page == performance_page([result(f"benchmark_{name}") for name in names])


def test_speed_in_the_readme():
    film = "60 s 1280x720 H.264, key frame every 250"
    rows = result("benchmark_decoding")["decoding"]
    decoding = next(row for row in rows if (row["file"], row["num_frames"]) == (film, 8))
    (labels,) = (row for row in result("benchmark_end_to_end")["end_to_end"] if row["file"] == film)
    for entry in (
        decoding["readers"]["fast"],
        decoding["readers"][decoding["best_peer"]],
        labels["models"]["FluxViT-S at 512 tokens"],
        labels["models"]["VideoMAE-B"],
    ):
        assert f" {1000 * entry['seconds']:.0f} ms" in README
    assert f"V-JEPA 2-L in {labels['models']['V-JEPA 2-L']['seconds']:.0f} s" in README
    text = README.replace("\n", " ")
    assert len({row["file"] for row in rows}) == 11 and len(rows) == 22
    for name, wording in (
        ("fast_speedup", "that is {} to {} times as fast as the best of them"),
        ("fast_limit", "would be {} to {} times as fast"),
        ("exact_speedup", "exact middle frames are read {} to {} times as fast, slower in VP9 alone"),
    ):
        ratios = [row[name] for row in rows]
        assert wording.format(f"{min(ratios):.1f}", f"{max(ratios):.1f}") in text
    assert all(("VP9" in row["file"]) == (row["exact_speedup"] < 1) for row in rows)
    over = [
        row["forward_over_floor"]
        for row in result("benchmark_model")["model"]
        if (row["model"], row["batch"]) == ("small", 1)
    ]
    assert f"takes {min(over):.2f} to {max(over):.2f} times as long" in text


def test_limits_of_speed():
    page = (ROOT / "docs" / "performance_limits.md").read_text(encoding="utf-8").replace("\n", " ")
    decoding = result("benchmark_decoding")["decoding"]
    ten_minutes = [row["fast_limit"] for row in decoding if row["file"].startswith("10 min") and "H.264" in row["file"]]
    assert sum(limit < 50 for limit in ten_minutes) == 7 and len(ten_minutes) == 8
    assert f"between {min(ten_minutes):.0f} and {max(ten_minutes):.0f} times" in page
    vp9 = [row for row in decoding if "VP9" in row["file"]]
    exact, limit = ([row[name] for row in vp9] for name in ("exact_speedup", "exact_limit"))
    assert f"{min(exact):.2f} to {max(exact):.2f} times as fast as the best other reader" in page
    assert f"libav alone {min(limit):.2f} to {max(limit):.2f} times" in page
    rows = [*result("benchmark_model")["model"], *result("benchmark_model_batch8")["model"]]
    for name in ("small", "base"):
        for batch in (1, 2, 8):
            ratios = [
                row["forward_over_floor"]
                for row in rows
                if (row["model"], row["batch"]) == (name, batch) and row["token_budget"] >= 1024
            ]
            assert f"| {name} | {batch} | {min(ratios):.2f} to {max(ratios):.2f} |" in page
    (base,) = (row for row in rows if (row["model"], row["batch"], row["token_budget"]) == ("base", 1, 2048))
    naive = base["runs"]["naive"]["seconds"]
    assert f"{naive / base['runs']['forward']['seconds']:.2f} times as long as ours" in page
    assert f"{naive / base['runs']['floor']['seconds']:.2f} times as long as the floor" in page
    (small,) = (row for row in rows if (row["model"], row["batch"], row["token_budget"]) == ("small", 8, 2048))
    assert f"(with eight: {small['naive_over_forward']:.2f})" in page
    startup = result("benchmark_end_to_end")["startup"]
    seconds = {name: entry["seconds"] for name, entry in startup.items()}
    added = seconds["flux_hf and the Auto classes"] - seconds["transformers and its Auto classes"]
    assert f"{seconds['transformers']:.1f} s" in page and f"{seconds['flux_hf']:.1f} s" in page
    assert f"{added:.2f} s more" in page
    assert max(row["ratio"] for row in result("benchmark_decoding")["memory"]["rows"]) < 1.01

"""The proof in miniature: students, probes and fine-tuning on part of the labels."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from flux_hf.data import CachedClips
from flux_hf.pretraining import PretrainOptions
from flux_hf.scripts.benchmarks import pretraining as benchmark_pretraining
from flux_hf.scripts.benchmarks.report import pretraining_tables
from flux_hf.scripts.experiments.motion_clips import LABELS, render_clip
from flux_hf.scripts.experiments.pretraining import compare as compare_pretraining
from flux_hf.scripts.experiments.pretraining.comparison import (
    STARTS,
    labelled_part,
    plot,
    pretrained_student,
    summary,
    table,
)
from tests import tiny_pretraining
from tests.test_recipes import EXPERIMENTS, OVERRIDES, shrunk_config


@pytest.fixture
def arguments(tmp_path):
    for split in ("train", "test"):
        for number, label in enumerate(LABELS):
            (tmp_path / "clips" / split / label).mkdir(parents=True)
            for clip in range(2):
                path = tmp_path / "clips" / split / label / f"{number}{clip}.mp4"
                render_clip(path, label=label, seed=(number, clip))
    config = shrunk_config(tmp_path, "fluxvit_nano")
    recipes = {}
    for name in ("pretrain_nano", "motion_nano"):
        written = yaml.safe_load((EXPERIMENTS / f"{name}.yaml").read_text()) | OVERRIDES
        written |= {"cache_dir": str(tmp_path / "cache"), "model_config": str(config)}
        written["dataset"] = [str(tmp_path / "clips")] if name == "pretrain_nano" else str(tmp_path / "clips")
        written["output_dir"] = str(tmp_path / "run")
        recipes[name] = tmp_path / f"{name}.yaml"
        recipes[name].write_text(yaml.safe_dump(written))
    teacher = tiny_pretraining.teacher_folder(tmp_path / "teacher")
    return [
        *("--teacher", str(teacher), "--students", str(tmp_path / "students")),
        *("--pretrain_recipe", str(recipes["pretrain_nano"]), "--finetune_recipe", str(recipes["motion_nano"])),
        *("--output", str(tmp_path / "out.json"), "--plot", str(tmp_path / "out.png")),
    ]


@pytest.fixture
def command(arguments, tmp_path):
    def run(*more):
        compare_pretraining.main([*arguments, *more])
        return json.loads((tmp_path / "out.json").read_text())

    return run


@pytest.mark.slow
def test_students_once_and_only_the_missing_runs(command, tmp_path, capsys):
    first = command("--seeds", "0", "--shares", "0.5", "--modes", "probe", "--starts", "scratch", "Flux-Multi")
    settings = [(run["seed"], run["start"], run["mode"], run["share"]) for run in first["runs"]]
    assert settings == [(0, "scratch", "probe", 0.5), (0, "Flux-Multi", "probe", 0.5)]
    assert [run["clips"] for run in first["runs"]] == [9, 9]
    assert first["runs"][0]["top1"].keys() == {"256", "128", "64"}
    student = tmp_path / "students" / "Flux-Multi_0" / "model.safetensors"
    trained = student.stat().st_mtime_ns
    capsys.readouterr()
    both = command("--seeds", "0", "--shares", "0.5", "1")
    assert student.stat().st_mtime_ns == trained
    assert both["runs"][:2] == first["runs"]
    assert len(both["runs"]) == 3 * 2 * 2
    assert both["students"].keys() == {"Flux-Multi_0", "Flux-Single_0"}
    assert 0 < both["students"]["Flux-Multi_0"]["teacher_seconds"] < both["students"]["Flux-Multi_0"]["step_seconds"]
    printed = capsys.readouterr().out
    assert "| probe | 50 % | 256 |" in printed
    assert (tmp_path / "out.png").stat().st_size > 1000
    single = json.loads((tmp_path / "students" / "Flux-Single_0" / "trainer_state.json").read_text())["log_history"]
    assert {name for name in single[0] if name.startswith("pooled")} == {"pooled_128"}
    with pytest.raises(ValueError, match="other settings"):
        command("--seeds", "0", "--finetune_overrides", "max_steps=3")
    (tmp_path / "out.json").unlink()
    heads = ("--finetune_overrides", "head_token_budgets=66 60", "token_budgets=66 60")
    (run,) = command("--seeds", "0", "--starts", "scratch", "--shares", "1", "--modes", "probe", *heads)["runs"]
    assert run["top1"].keys() == {"66", "60"}
    (tmp_path / "out.json").unlink()
    with pytest.raises(ValueError, match=r"Flux-Multi_0 holds results of other options \(overrides"):
        command("--seeds", "0", "--starts", "Flux-Multi", "--pretrain_overrides", "learning_rate=0.1")


@pytest.mark.slow
def test_a_student_without_a_logged_loss_and_options_of_probes(command):
    more = ("--seeds", "0", "--starts", "Flux-Multi", "--shares", "0.5", "--modes", "probe")
    few = ("--pretrain_overrides", "max_steps=1", "logging_steps=5")
    heads = ("--probe_overrides", "head_token_budgets=66 60", "token_budgets=66 60")
    found = command(*more, *few, *heads)
    assert found["students"] == {}
    assert found["runs"][0]["top1"].keys() == {"66", "60"}


@pytest.mark.slow
def test_processes_share_a_file_of_results(arguments, tmp_path):
    begin = [sys.executable, compare_pretraining.__file__, *arguments, "--shares", "0.5", "1", "--modes", "probe"]
    begin += ["--starts", "scratch", "--seeds"]
    processes = [subprocess.Popen([*begin, seed], env=os.environ | {"OMP_NUM_THREADS": "1"}) for seed in "01"]
    assert [process.wait() for process in processes] == [0, 0]
    runs = json.loads((tmp_path / "out.json").read_text())["runs"]
    assert sorted((run["seed"], run["share"]) for run in runs) == [(0, 0.5), (0, 1), (1, 0.5), (1, 1)]


def test_a_student_with_other_settings_is_refused(tmp_path):
    options = PretrainOptions(dataset=["any"], teacher="one")
    home, settings = tmp_path / "Flux-Multi_3", {"teacher": "one", "recipe": {"max_steps": 5}, "overrides": []}

    def student(**changes):
        args = tiny_pretraining.arguments(tmp_path / "run")
        return pretrained_student("Flux-Multi", 3, options, args, tmp_path, settings | changes)

    with pytest.raises(ValueError, match="give --model "):  # The settings are there before training begins.
        student()
    assert json.loads((home / "student.json").read_text()) == {"start": "Flux-Multi", "seed": 3} | settings
    (home / "trainer_state.json").write_text("{}")
    assert student() == home
    with pytest.raises(ValueError, match=r"other options \(overrides: .*; teacher: "):
        student(teacher="two", overrides=["max_steps=6"])
    with pytest.raises(ValueError, match=r"other options \(recipe.max_steps: 5 there, 6 now\)"):
        student(recipe={"max_steps": 6})
    (home / "student.json").unlink()
    with pytest.raises(ValueError, match="holds no student.json"):
        student()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--starts", "nothing"), "starts must be of scratch"),
        (("--shares", "2"), "shares"),
        (("--pretrain_overrides", "max_steps"), "name=value"),
    ],
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        compare_pretraining.main(["--teacher", "any", *options])


def test_part_of_the_labels_of_every_class():
    labels = np.array([0] * 20 + [1] * 10 + [2])
    pixels = np.arange(31, dtype=np.uint8)[:, None, None, None, None]
    clips = CachedClips(pixels, labels, ["a", "b", "c"], [f"clip {number}" for number in range(31)])
    parts = {share: labelled_part(clips, share, seed=3) for share in (0.01, 0.1, 1.0)}
    assert np.bincount(parts[0.01].labels).tolist() == [1, 1, 1]
    assert np.bincount(parts[0.1].labels).tolist() == [2, 1, 1]
    assert parts[1.0].video_names == clips.video_names
    assert set(parts[0.01].video_names) <= set(parts[0.1].video_names)
    assert labelled_part(clips, 0.1, seed=4).video_names != parts[0.1].video_names
    for part in parts.values():
        assert [int(name.split()[1]) for name in part.video_names] == part.clips.flatten().tolist()
        assert labels[part.clips.flatten()].tolist() == part.labels.tolist()


def test_summary_table_and_plot_by_hand(tmp_path):
    runs = [
        {"seed": seed, "start": start, "mode": "probe", "share": 0.1, "top1": {"64": top1}}
        for start, values in (("scratch", (0.2, 0.4)), ("Flux-Multi", (0.5, 0.9)))
        for seed, top1 in enumerate(values)
    ]
    scratch, multi = summary(runs)
    assert (scratch["start"], multi["start"]) == STARTS[:2]
    assert scratch["top1"] == {"mean": pytest.approx(0.3), "std": pytest.approx(0.02**0.5), "seeds": 2}
    assert "gain" not in scratch
    assert multi["gain"] == {"mean": pytest.approx(0.4), "std": pytest.approx(0.02**0.5), "seeds": 2}
    assert table(summary(runs)).splitlines()[-1] == "| probe | 10 % | 64 | 30.0 ± 14.1 | 70.0 ± 28.3 (+40.0) |"
    plot(summary(runs), tmp_path / "plot.svg")
    assert Path(tmp_path / "plot.svg").read_text().count("<use ") >= 2


@pytest.mark.slow
def test_the_benchmark_writes_what_it_measured(tmp_path):
    config, output = shrunk_config(tmp_path, "fluxvit_nano"), tmp_path / "benchmark.json"
    options = {"model_config": config, "teacher_config": config, "output": output, "batch_size": 2, "steps": 2}
    options |= {"num_frames": 4, "size": 48, "teacher_tokens": 80}
    listed = [f"--{name}={value}" for name, value in options.items()]
    benchmark_pretraining.main([*listed, "--token_budgets", "64", "32"])
    result = json.loads(output.read_text())
    assert 0 < result["teacher_seconds"] < result["step_seconds"]
    (over_floor,) = (line for line in pretraining_tables(result)["step"].splitlines() if "step / floor" in line)
    assert float(over_floor.split("|")[2]) > 1
    assert {"command", "date", "machine", "versions"} <= result.keys()

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
from flux_hf.options import parse_options
from flux_hf.pretraining import FluxPreTrainingArguments, PretrainOptions
from flux_hf.scripts.benchmarks import pretraining as benchmark_pretraining
from flux_hf.scripts.benchmarks.report import pretraining_tables
from flux_hf.scripts.experiments.motion_clips import LABELS, render_clip
from flux_hf.scripts.experiments.pretraining import compare as compare_pretraining
from flux_hf.scripts.experiments.pretraining.comparison import (
    NOT_RUN,
    labelled_part,
    manipulation_tables,
    plot,
    pretrained_student,
    steps_as_long,
    summary,
    table,
)
from flux_hf.training import FinetuneOptions, FluxTrainingArguments
from tests import tiny_pretraining
from tests.test_recipes import EXPERIMENTS, OVERRIDES, shrunk_config

HERE = Path(compare_pretraining.__file__).parent


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
    assert both["students"]["Flux-Multi_0"]["seconds"] > both["students"]["Flux-Multi_0"]["step_seconds"]
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
    assert found["students"]["Flux-Multi_0"].keys() == {"seconds"}
    assert found["runs"][0]["top1"].keys() == {"66", "60"}


@pytest.mark.slow
def test_scratch_gets_the_time_of_the_student(command, tmp_path):
    starts = ("--starts", "scratch-as-long", "Flux-Multi", "scratch", "--modes", "finetune")
    found = command("--seeds", "0", "--clips_per_class", "1", "2", *starts)
    runs = {(run["start"], run["clips_per_class"]): run for run in found["runs"]}
    assert [runs["scratch", count]["clips"] for count in (1, 2)] == [9, 18]
    seconds = found["students"]["Flux-Multi_0"]["seconds"]
    for count in (1, 2):
        short, long = runs["Flux-Multi", count], runs["scratch-as-long", count]
        assert short["steps"] == runs["scratch", count]["steps"] == 2
        assert long["steps"] == round(2 * (seconds + short["train_seconds"]) / short["train_seconds"]) > 2
    with pytest.raises(ValueError, match="clips_per_class is 3, but .* has 2 clips"):
        command("--seeds", "0", "--starts", "scratch", "--clips_per_class", "3")


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
        (("--clips_per_class", "0"), "clips_per_class must be above 0"),
        (("--starts", "scratch-as-long", "scratch"), "starts must name both"),
        (("--pretrain_overrides", "max_steps"), "name=value"),
    ],
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        compare_pretraining.main(["--teacher", "any", *options])


@pytest.mark.parametrize("clips", ["", "manipulation_"])
def test_students_and_classifiers_share_grid_heads_and_cache(clips):
    students, args = parse_options(
        (PretrainOptions, FluxPreTrainingArguments), [str(HERE / f"{clips}students.yaml"), "--teacher", "any"], ""
    )
    options = (FinetuneOptions, FluxTrainingArguments)
    classifiers, their_args = parse_options(options, [str(HERE / f"{clips}classifiers.yaml")], "")
    assert students.dataset == [classifiers.dataset]
    for name in ("model_config", "head_token_budgets", "cache_dir", "cached_frames", "cached_size"):
        assert getattr(students, name) == getattr(classifiers, name)
    for name in ("token_budgets", "min_frames", "max_frames", "min_size", "max_size", "use_cpu"):
        assert getattr(args, name) == getattr(their_args, name)
    assert (args.max_frames, args.max_size) == (classifiers.num_frames, classifiers.size)


def test_part_of_the_labels_of_every_class():
    labels = np.array([0] * 20 + [1] * 10 + [2])
    pixels = np.arange(31, dtype=np.uint8)[:, None, None, None, None]
    clips = CachedClips(pixels, labels, ["a", "b", "c"], [f"clip {number}" for number in range(31)])
    parts = {share: labelled_part(clips, ("share", share), seed=3) for share in (0.01, 0.1, 1.0)}
    assert np.bincount(parts[0.01].labels).tolist() == [1, 1, 1]
    assert np.bincount(parts[0.1].labels).tolist() == [2, 1, 1]
    assert parts[1.0].video_names == clips.video_names
    assert set(parts[0.01].video_names) <= set(parts[0.1].video_names)
    assert labelled_part(clips, ("share", 0.1), seed=4).video_names != parts[0.1].video_names
    for part in parts.values():
        assert [int(name.split()[1]) for name in part.video_names] == part.clips.flatten().tolist()
        assert labels[part.clips.flatten()].tolist() == part.labels.tolist()


def test_a_number_of_labels_of_every_class():
    labels = np.array([0] * 5 + [1] * 3)
    pixels = np.arange(8, dtype=np.uint8)[:, None, None, None, None]
    clips = CachedClips(pixels, labels, ["open", "close"], [f"clip {number}" for number in range(8)])
    parts = [labelled_part(clips, ("clips_per_class", count), seed=3) for count in (1, 3)]
    assert [np.bincount(part.labels).tolist() for part in parts] == [[1, 1], [3, 3]]
    assert set(parts[0].video_names) < set(parts[1].video_names)
    assert [int(name.split()[1]) for name in parts[1].video_names] == parts[1].clips.flatten().tolist()
    with pytest.raises(ValueError, match="clips_per_class is 4, but close has 3 clips"):
        labelled_part(clips, ("clips_per_class", 4), seed=3)


def test_steps_in_the_time_of_a_student(tmp_path):
    """40 steps in 10 s, after 25 s of pre-training: 35 s, of which each four steps take one."""
    run, home = {"seed": 3, "steps": 40, "train_seconds": 10.0}, tmp_path / "Flux-Multi_3"
    home.mkdir()
    (home / "time.json").write_text(json.dumps({"seconds": 25.0, "resumed": False}))
    assert steps_as_long(run, tmp_path) == 140
    (home / "time.json").write_text(json.dumps({"seconds": 25.0, "resumed": True}))
    with pytest.raises(ValueError, match="Flux-Multi_3 was trained in several parts"):
        steps_as_long(run, tmp_path)


def runs_of(labels: dict, accuracies: dict[str, tuple], **more) -> list[dict]:
    return [
        {"seed": seed, "start": start, "mode": "probe", "top1": {"64": top1}} | labels | more
        for start, values in accuracies.items()
        for seed, top1 in enumerate(values)
    ]


def test_summary_table_and_plot_by_hand(tmp_path):
    runs = runs_of({"share": 0.1}, {"scratch": (0.2, 0.4), "Flux-Multi": (0.5, 0.9)})
    scratch, multi = summary(runs)
    assert (scratch["start"], multi["start"]) == ("scratch", "Flux-Multi")
    assert scratch["top1"] == {"mean": pytest.approx(0.3), "std": pytest.approx(0.02**0.5), "seeds": 2}
    assert "gain" not in scratch
    assert multi["gain"] == {"mean": pytest.approx(0.4), "std": pytest.approx(0.02**0.5), "seeds": 2}
    assert table(summary(runs)).splitlines()[-1] == "| probe | 10 % | 64 | 30.0 ± 14.1 | 70.0 ± 28.3 (+40.0) |"
    plot(summary(runs), tmp_path / "plot.svg")
    assert Path(tmp_path / "plot.svg").read_text().count("<use ") >= 2
    with pytest.raises(ValueError, match="clips_per_class and share"):
        plot(summary(runs + runs_of({"clips_per_class": 5}, {"scratch": (0.2,)})), tmp_path / "mixed.svg")


def test_the_gain_is_over_scratch_of_the_same_time(tmp_path):
    accuracies = {"scratch": (0.2, 0.4), "Flux-Multi": (0.5, 0.9), "scratch-as-long": (0.45, 0.75)}
    runs = runs_of({"clips_per_class": 5}, accuracies)
    runs += runs_of({"clips_per_class": 20}, {"scratch": (0.6,), "Flux-Multi": (0.8,)})
    lines = table(summary(runs)).splitlines()
    assert lines[2] == "| probe | 5 a class | 64 | 30.0 ± 14.1 | 60.0 ± 21.2 | 70.0 ± 28.3 (+10.0) |"
    assert lines[3] == "| probe | 20 a class | 64 | 60.0 | - | 80.0 (+20.0) |"


def test_tables_of_the_teachers_that_were_tried(tmp_path):
    assert set(manipulation_tables(tmp_path).values()) == {NOT_RUN}
    labels, result = {"clips_per_class": 5}, {"command": "compare", "date": "2000-01-01", "versions": {}}
    runs = runs_of(labels, {"scratch": (0.1,), "Flux-Multi": (0.5,)}, steps=40, train_seconds=10.0)
    runs += runs_of(labels, {"scratch-as-long": (0.2,)}, steps=140, train_seconds=36.0)
    result |= {"machine": {}, "students": {"Flux-Multi_0": {"seconds": 25.0}}, "runs": runs}
    (tmp_path / "manipulation_default.json").write_text(json.dumps(result))
    found = manipulation_tables(tmp_path)
    (line,) = found["pretraining.manipulation"].splitlines()[2:]
    assert line.endswith("| none | 5 a class | 64 | 10.0 | 20.0 | 50.0 (+30.0) |")
    (line,) = found["pretraining.manipulation_times"].splitlines()[2:]
    assert line.endswith("| 25 s | 40 | 35 s | 140 | 36 s |")


@pytest.mark.slow
def test_the_benchmark_writes_what_it_measured(tmp_path):
    config, output = shrunk_config(tmp_path, "fluxvit_nano"), tmp_path / "benchmark.json"
    options = {"model_config": config, "teacher_config": config, "output": output, "batch_size": 2, "steps": 2}
    options |= {"num_frames": 4, "size": 48, "teacher_tokens": 70}
    listed = [f"--{name}={value}" for name, value in options.items()]
    benchmark_pretraining.main([*listed, "--token_budgets", "64", "32"])
    result = json.loads(output.read_text())
    assert 0 < result["teacher_seconds"] < result["step_seconds"]
    (over_floor,) = (line for line in pretraining_tables(result)["step"].splitlines() if "step / floor" in line)
    assert float(over_floor.split("|")[2]) > 1
    assert {"command", "date", "machine", "versions"} <= result.keys()

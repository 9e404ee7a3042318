"""Pre-train students, then fine-tune and probe them with few and many labels, beside the same model from scratch.

Both recipes are used as they are, but for the overrides. Every finished run is written at once; started again, the
command goes on with the runs that are missing, and an interrupted pre-training at its last checkpoint, if its recipe
saves any. Processes with different starts or seeds may share one file of results.

python scripts/experiments/motion_clips/make.py --output_dir data/motion_easy --train 4500 --validation 180 \\
    --test 450 --max_hardness 0.35 --seed 1
python scripts/experiments/pretraining/compare.py --teacher flux_hf/checkpoints/fluxvit-nano \\
    --plot compare_pretraining.png
"""

import copy
import json
import shlex
from dataclasses import asdict, dataclass, field
from pathlib import Path

import yaml

from flux_hf.cli import run_command
from flux_hf.files import read_json, write_json
from flux_hf.options import check_checkpoints, parse_options
from flux_hf.options.pretraining import teacher_checkpoint

EXPERIMENTS = "scripts/experiments/pretraining"
COMMAND = f"{EXPERIMENTS}/compare.py"


@dataclass
class ComparisonOptions:
    teacher: str = field(metadata={"help": "Checkpoint of the teacher, as in flux-hf pretrain."})
    pretrain_recipe: str = field(default=f"{EXPERIMENTS}/students.yaml", metadata={"help": "Recipe of the students."})
    finetune_recipe: str = field(
        default=f"{EXPERIMENTS}/classifiers.yaml",
        metadata={
            "help": "Recipe of the classifiers; needs cache_dir, num_frames and size (the test grid), token_budgets."
        },
    )
    pretrain_overrides: list[str] = field(
        default_factory=list,
        metadata={"help": 'name=value of options of the first recipe: max_steps=9 "token_budgets=64 32".'},
    )
    finetune_overrides: list[str] = field(
        default_factory=list, metadata={"help": "The same for the second one, in both modes."}
    )
    probe_overrides: list[str] = field(
        default_factory=list, metadata={"help": "Further options for probes, for instance learning_rate=0.004."}
    )
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "One run of everything per seed."})
    shares: list[float] | None = field(
        default=None,
        metadata={"help": "Shares of the labels to train on. Default: 0.01 0.1 1, with clips_per_class none."},
    )
    clips_per_class: list[int] | None = field(
        default=None, metadata={"help": "Train on that many labelled clips of every class."}
    )
    starts: list[str] = field(
        default_factory=lambda: ["scratch", "Flux-Multi", "Flux-Single"],
        metadata={
            "help": "Some of these and scratch-as-long: as many steps as pre-training and fine-tuning of Flux-Multi, "
            "both timed here, have time for."
        },
    )
    modes: list[str] | None = field(default=None, metadata={"help": "Some of finetune and probe. Default: both."})
    test_split: str = field(default="test", metadata={"help": "Split to test on."})
    students: str = field(default="runs/compare_pretraining", metadata={"help": "Folder of the pre-trained students."})
    output: str = field(default="compare_pretraining.json", metadata={"help": "JSON file to write and to go on from."})
    plot: str | None = field(default=None, metadata={"help": "Picture to draw (.png, .svg); needs flux_hf[plot]."})


def main(argv: list[str] | None = None) -> None:
    (comparison,) = parse_options(ComparisonOptions, argv, __doc__)
    from filelock import FileLock

    from flux_hf.data import cache_clips, load_video_dataset
    from flux_hf.pretraining import FluxPreTrainingArguments, PretrainOptions
    from flux_hf.provenance import provenance
    from flux_hf.scripts.experiments.pretraining.comparison import (
        AS_LONG,
        FROM_SCRATCH,
        MODES,
        MULTI,
        STARTS,
        TIME,
        labels_of,
        plot,
        pretrained_student,
        steps_as_long,
        summary,
        table,
        train_and_test,
    )
    from flux_hf.scripts.experiments.rows import after_earlier_commands
    from flux_hf.training import FinetuneOptions, FluxTrainingArguments

    starts, modes = comparison.starts, comparison.modes or list(MODES)
    for name, chosen, known in (("starts", starts, STARTS), ("modes", modes, MODES)):
        if unknown := sorted(set(chosen) - set(known)):
            raise ValueError(f"{name} must be of {', '.join(known)}, not {', '.join(unknown)}")
    if AS_LONG in starts and MULTI not in starts:
        raise ValueError(f"{AS_LONG} is as long as {MULTI}: starts must name both")
    amounts = _amounts(comparison)
    student_options, student_args = _read(
        (PretrainOptions, FluxPreTrainingArguments),
        comparison.pretrain_recipe,
        [*comparison.pretrain_overrides, f"teacher={comparison.teacher}"],
    )
    recipe, types = comparison.finetune_recipe, (FinetuneOptions, FluxTrainingArguments)
    by_mode = {
        "finetune": _read(types, recipe, comparison.finetune_overrides),
        "probe": _read(types, recipe, [*comparison.finetune_overrides, *comparison.probe_overrides]),
    }
    options, args = by_mode["finetune"]
    if not all((options.cache_dir, options.num_frames, options.size, options.model_config, args.token_budgets)):
        raise ValueError(f"{recipe} must give cache_dir, model_config, token_budgets, num_frames and size")
    check_checkpoints(teacher=teacher_checkpoint(comparison.teacher))
    train, test = (
        cache_clips(
            load_video_dataset(options.dataset, split, video_root=options.video_root, label_names=options.labels_file),
            options.cache_dir,
            num_frames=options.cached_frames,
            size=options.cached_size,
        )
        for split in (options.train_split, comparison.test_split)
    )
    output, settings = Path(comparison.output), _settings(comparison)
    done = {(run["seed"], run["start"], run["mode"], labels_of(run)): run for run in _finished_runs(output, settings)}
    for seed in comparison.seeds:
        for start in sorted(starts, key=lambda start: start == AS_LONG):
            wanted = [(seed, start, mode, labels) for mode in modes for labels in amounts]
            missing = [setting for setting in wanted if setting not in done]
            if not missing:
                continue
            student = pretrained_student(
                *(start, seed, student_options, copy.deepcopy(student_args), Path(comparison.students)),
                settings=_student_settings(comparison),
            )
            for _, _, mode, (kind, amount) in missing:
                run_options, run_args = copy.deepcopy(by_mode[mode])
                run_args.seed, run_args.eval_strategy, run_args.save_strategy = seed, "no", "no"
                if start == AS_LONG:
                    fine_tuned = done[seed, MULTI, mode, (kind, amount)]
                    run_args.max_steps = steps_as_long(fine_tuned, Path(comparison.students))
                run = {"seed": seed, "start": start, "mode": mode, kind: amount}
                run |= train_and_test(mode, (kind, amount), student, run_options, train, test, run_args)
                done[seed, start, mode, (kind, amount)] = run
                print(json.dumps(run))
                with FileLock(f"{output}.lock"):
                    runs = [*_finished_runs(output, settings), run]
                    head = provenance(f"python {COMMAND}", argv)
                    result = after_earlier_commands(Path(output), head) | {"settings": settings}
                    trained = {f"{run['start']}_{run['seed']}" for run in runs if run["start"] not in FROM_SCRATCH}
                    result |= {"students": _speed(Path(comparison.students), trained, TIME), "runs": runs}
                    write_json(output, result)
    rows = summary(_finished_runs(output, settings))
    print(table(rows))
    if comparison.plot:
        plot(rows, comparison.plot)


def _amounts(comparison: ComparisonOptions) -> list[tuple[str, float]]:
    """Each the kind of labels and the number."""
    shares, clips = comparison.shares, comparison.clips_per_class or []
    if shares is None:
        shares = [] if clips else [0.01, 0.1, 1.0]
    if not all(0 < share <= 1 for share in shares):
        raise ValueError(f"shares must be above 0 and at most 1, got {shares}")
    if not all(count > 0 for count in clips):
        raise ValueError(f"clips_per_class must be above 0, got {clips}")
    return [("share", share) for share in shares] + [("clips_per_class", count) for count in clips]


def _read(types, recipe: str, overrides: list[str]) -> tuple:
    if wrong := [entry for entry in overrides if "=" not in entry]:
        raise ValueError(f"overrides must be name=value, got {', '.join(wrong)}")
    named = [(name, shlex.split(values)) for name, _, values in (entry.partition("=") for entry in overrides)]
    return parse_options(types, [recipe, *(part for name, values in named for part in (f"--{name}", *values))], __doc__)


def _settings(comparison: ComparisonOptions) -> dict:
    """What all runs of one file must share, the recipes with their content."""
    free = ("seeds", "shares", "clips_per_class", "starts", "modes", "output", "plot", "students")
    settings = {name: value for name, value in asdict(comparison).items() if name not in free}
    return settings | {name: _content(settings[name]) for name in ("pretrain_recipe", "finetune_recipe")}


def _content(recipe: str) -> dict:
    return yaml.safe_load(Path(recipe).read_text())


def _finished_runs(output: Path, settings: dict) -> list[dict]:
    if not output.exists():
        return []
    found = read_json(output)
    if found["settings"] != settings:
        raise ValueError(f"{output} has runs with other settings; name another output")
    return found["runs"]


def _student_settings(comparison: ComparisonOptions) -> dict:
    """What all students of one folder must share, but for start and seed."""
    return {
        "teacher": comparison.teacher,
        "recipe": _content(comparison.pretrain_recipe),
        "overrides": comparison.pretrain_overrides,
    }


def _speed(students: Path, names: set[str], time_file: str) -> dict:
    """Of every student the `seconds` of its training and, where its log has a loss, the last one and the mean seconds
    of a step and of what it waited for: clips, teacher."""
    found = {}
    for name in sorted(names):
        found[name] = {"seconds": read_json(students / name / time_file)["seconds"]}
        history = read_json(students / name / "trainer_state.json")["log_history"]
        if entries := [entry for entry in history if "loss" in entry]:
            found[name] |= {"loss": entries[-1]["loss"]} | {
                part: sum(entry[part] for entry in entries) / len(entries)
                for part in ("data_seconds", "teacher_seconds", "step_seconds")
            }
    return found


if __name__ == "__main__":
    run_command(COMMAND, main)

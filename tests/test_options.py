"""Options: from the command line, from recipes, and what is said where they do not fit."""

from dataclasses import dataclass, field, fields
from types import SimpleNamespace
from typing import ClassVar

import pytest
from datasets.exceptions import DatasetNotFoundError
from transformers import TrainingArguments

from flux_hf import default_checkpoint
from flux_hf.data import MissingSplitError
from flux_hf.options import check_checkpoints, naming_split, parse_options
from flux_hf.options.errors import not_found
from flux_hf.options.pretraining import FluxPreTrainingOptions
from flux_hf.options.training import ClipTrainingOptions, FluxTrainingOptions
from flux_hf.processing.frame_sampling_fluxvit import DECODING_MODES
from flux_hf.processing.views_fluxvit import CLIP_SAMPLINGS
from flux_hf.scripts.evaluate_checkpoint import EvaluateOptions
from flux_hf.scripts.optimize_tokens import OptimizeTokensOptions
from flux_hf.token_optimization import OBJECTIVES


@dataclass
class Options:
    dataset: str = field(metadata={"help": "needed"})
    rate: float = field(default=0.5, metadata={"help": "a number"})
    budgets: list[int] | None = field(default=None, metadata={"help": "numbers, 50 %% of them"})
    flip: bool = field(default=True, metadata={"help": "a switch"})
    kind: str = field(default="one", metadata={"help": "a choice", "choices": ("one", "other")})


@dataclass
class LightOptions:
    completed_by: ClassVar[str] = "tests.test_options:CompleteOptions"
    own: int = field(default=1, metadata={"help": "a number"})


@dataclass
class CompleteOptions(LightOptions):
    inherited: str = field(default="", metadata={"help": "a word"})


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("dataset: clips\nrate: 1e-3\nbudgets: [3, 2]\n")
    return str(path)


def test_command_line():
    (options,) = parse_options(Options, ["--dataset", "clips", "--budgets", "4", "2", "--no_flip"])
    assert options == Options("clips", 0.5, [4, 2], False)


def test_a_recipe_gives_defaults_and_arguments_win(recipe):
    assert parse_options(Options, [recipe]) == (Options("clips", 1e-3, [3, 2]),)
    assert parse_options(Options, [recipe, "--rate", "2"]) == (Options("clips", 2.0, [3, 2]),)


def test_values_stand_first_by_position_or_name():
    first = {"dataset": "DATA", "budgets": "N"}
    assert parse_options(Options, ["clips", "3", "2", "--rate", "1"], "", first) == (Options("clips", 1.0, [3, 2]),)
    assert parse_options(Options, ["clips", "--budgets", "3"], "", first) == (Options("clips", 0.5, [3]),)
    assert parse_options(Options, ["--dataset", "clips"], "", first) == (Options("clips"),)


def test_values_after_two_dashes_may_begin_with_one(recipe, capsys):
    first = {"dataset": "DATA", "budgets": "N"}
    assert parse_options(Options, ["--", "-clips", "-3"], "", first) == (Options("-clips", 0.5, [-3]),)
    assert parse_options(Options, ["--rate", "1", "--", "--help"], "", first) == (Options("--help", 1.0),)
    assert parse_options(Options, ["a", "--rate", "1", "--", "-3", "-2"], "", first) == (Options("a", 1.0, [-3, -2]),)
    assert parse_options(Options, [recipe, "--", "-x"], "", first) == (Options("-x", 1e-3, [3, 2]),)
    assert parse_options(Options, [recipe, "--"]) == (Options("clips", 1e-3, [3, 2]),)
    for arguments, message in (
        (["--dataset", "x", "--", "-y"], "no option takes -y"),
        (["x", "--", "--rate"], "argument --budgets: invalid int value: '--rate'"),
    ):
        with pytest.raises(SystemExit):
            parse_options(Options, arguments, "", first if arguments[0] == "x" else None)
        assert capsys.readouterr().err.splitlines()[1] == f"error: {message}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rate: 1\n", "missing: --dataset"),
        ("dataset: a\nspeed: 3\nrat: 1\n", "unknown options: rat, speed; did you mean rate?"),
        ("- dataset\n", "recipe.yaml must hold lines `option: value`, got ['dataset']"),
        ("dataset: [a\n", "recipe.yaml is not YAML: "),
        ("dataset: a\nrate: 1\ndataset: b\n", "recipe.yaml is not YAML: dataset is there twice"),
        ("dataset: a\nrate: [1]\n", "--rate takes float values, got [1]"),
        ("dataset: a\nrate: .nan\n", "--rate takes float values, got nan"),
        ("dataset: a\nrate: true\n", "--rate takes float values, got True"),
        ("dataset: a\nbudgets: 64\n", "--budgets takes a list, got 64"),
        ("dataset: a\nbudgets: [64, 1.5]\n", "--budgets takes int values, got 1.5"),
        ("dataset: 5\n", "--dataset takes str values, got 5"),
        ("5: a\n", "recipe.yaml must hold lines"),
        ("a: \0\n", "recipe.yaml, line 1"),
        ("a: 2026-13-45\n", "recipe.yaml is not YAML: month"),
        ("[" * 50_000, "recipe.yaml is not YAML: line 1: more than"),
        ("a: &x [1]\nb: [" + "*x, " * 50 + "]", "recipe.yaml is not YAML: line 2: more than"),
        ("a: !!python/object/apply:os.getcwd []\n", "recipe.yaml is not YAML: could not determine a constructor"),
    ],
)
def test_missing_and_unknown_options_are_named(tmp_path, capsys, text, message):
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(SystemExit) as error:
        parse_options(Options, [str(tmp_path / "recipe.yaml")])
    assert error.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--speed", "error: there is no option --speed"),
        ("--kind=ohter", "error: argument --kind: must be one or other, got ohter; did you mean other?"),
        ("--ra=fast", "error: argument --rate: invalid float value: 'fast'"),
        ("--rates=3", "error: there is no option --rates; did you mean --rate?"),
    ],
)
def test_wrong_arguments_are_a_usage_error_of_three_lines(capsys, argument, message):
    with pytest.raises(SystemExit) as error:
        parse_options(Options, ["--dataset", "clips", argument])
    assert error.value.code == 2
    assert capsys.readouterr().err.splitlines()[1:-1] == [message]


def help_of(capsys, types, argument: str) -> str:
    with pytest.raises(SystemExit) as end:
        parse_options(types, ["--dataset", "clips", argument], "What it does.")
    assert end.value.code == 0
    return capsys.readouterr().out


def test_help_names_values_and_defaults(capsys):
    lines = [" ".join(line.split()) for line in help_of(capsys, Options, "-h").splitlines()]
    assert lines[0].endswith(" --dataset TEXT [--option VALUE ...]") and lines[2] == "What it does."
    assert [line for line in lines if line.startswith("--")] == [
        "--dataset TEXT needed",
        "--rate FLOAT a number (default: 0.5)",
        "--budgets INT [INT ...] numbers, 50 % of them",
        "--flip [BOOL] a switch (default: True)",
        "--kind {one,other} a choice (default: one)",
    ]


def test_inherited_options_wait_for_help_all(capsys):
    shown = help_of(capsys, [Options, LightOptions], "--help")
    everything = help_of(capsys, [Options, LightOptions], "--help_all")
    assert "--own INT" in shown and "--inherited TEXT" not in shown
    assert everything.index("--rate FLOAT") < everything.index("--own INT") < everything.index("--inherited TEXT")
    _, filled = parse_options([Options, LightOptions], ["--dataset", "clips", "--own", "2", "--inherited", "yes"])
    assert filled == CompleteOptions(2, "yes")


@pytest.mark.parametrize("options", [FluxTrainingOptions, FluxPreTrainingOptions])
def test_what_most_runs_need_is_shown_first_with_the_defaults_of_transformers(capsys, options):
    shown = help_of(capsys, [options], "--help").partition("what most runs need:")[2].partition("\n\n")[0]
    needed = [name for name in options.shown_first if name not in ("dataset", "teacher", "model")]
    assert [line.split()[0] for line in shown.splitlines() if line.startswith("  --")] == [f"--{n}" for n in needed]
    theirs = TrainingArguments.__dataclass_fields__
    own = {field.name: field.default for field in fields(ClipTrainingOptions) if field.name in needed}
    assert own == {name: theirs[name].default for name in needed}


@pytest.mark.parametrize(
    ("options", "name", "accepted"),
    [
        (EvaluateOptions, "clip_sampling", CLIP_SAMPLINGS),
        (EvaluateOptions, "decoding", DECODING_MODES),
        (OptimizeTokensOptions, "objective", (*OBJECTIVES, "adaptive")),
    ],
)
def test_choices_of_options_are_those_of_what_they_choose(options, name, accepted):
    assert options.__dataclass_fields__[name].metadata["choices"] == accepted


@pytest.mark.parametrize(("split", "named"), [("val", "--first"), ("train", "--second"), ("test", "--second, --third")])
def test_a_missing_split_names_its_option(split, named):
    options = SimpleNamespace(first="val", second=["train", "test"], third="test")
    with pytest.raises(ValueError, match=f"^{named}: clips has no split '{split}', it has dev$"):
        with naming_split(options, "first", "second", "third"):
            raise MissingSplitError("clips", split, ["dev"])


def test_checkpoints_that_are_not_there(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    check_checkpoints(model=str(tmp_path), teacher=None, start="default", other=default_checkpoint())
    with pytest.raises(ValueError, match="^--teacher (.*nowhere): there is no folder \\1 here$"):
        check_checkpoints(model=str(tmp_path), teacher=str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="^--model (.*config.json): \\1 is a file, not a folder$"):
        check_checkpoints(model=str(tmp_path / "config.json"))
    with pytest.raises(ValueError, match="there is no folder runs/nope here, and the Hub, .* cannot be reached$"):
        check_checkpoints(model="runs/nope")  # tests are offline


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("runs/nope", DatasetNotFoundError("it doesn't exist"), "runs/nope here, and nothing of that name on the Hub"),
        ("nope", ConnectionError("offline"), "nope here, and the Hub, which might have it, cannot be reached"),
        ("./nope", ConnectionError("offline"), "there is no folder ./nope here"),
        ("me/own", FileNotFoundError("its file is not there"), "its file is not there"),
    ],
)
def test_what_is_neither_here_nor_on_the_hub(name, error, message):
    assert message in not_found(name, error)

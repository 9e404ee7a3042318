from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from flux_hf.data import MissingSplitError
from flux_hf.options import check_checkpoints, naming_split, parse_options


@dataclass
class Options:
    dataset: str = field(metadata={"help": "needed"})
    rate: float = field(default=0.5, metadata={"help": "a number"})
    budgets: list[int] | None = field(default=None, metadata={"help": "numbers"})


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("dataset: clips\nrate: 1e-3\nbudgets: [3, 2]\n")
    return str(path)


def test_command_line():
    (options,) = parse_options(Options, ["--dataset", "clips", "--budgets", "4", "2"])
    assert options == Options("clips", 0.5, [4, 2])


def test_a_recipe_gives_defaults_and_arguments_win(recipe):
    assert parse_options(Options, [recipe]) == (Options("clips", 1e-3, [3, 2]),)
    assert parse_options(Options, [recipe, "--rate", "2"]) == (Options("clips", 2.0, [3, 2]),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rate: 1\n", "--dataset"),
        ("dataset: a\nspeed: 3\nrat: 1\n", "unknown options: rat, speed"),
        ("- dataset\n", "recipe.yaml must hold lines `option: value`, got ['dataset']"),
        ("dataset: [a\n", "recipe.yaml is not YAML: "),
    ],
)
def test_missing_and_unknown_options_are_named(tmp_path, capsys, text, message):
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(SystemExit) as error:
        parse_options(Options, [str(tmp_path / "recipe.yaml")])
    assert error.value.code == 2
    assert message in capsys.readouterr().err


def test_unknown_arguments_are_a_usage_error(capsys):
    with pytest.raises(SystemExit) as error:
        parse_options(Options, ["--dataset", "clips", "--speed", "3"])
    assert error.value.code == 2
    assert capsys.readouterr().err.endswith("error: unrecognized arguments: --speed 3\n")


@pytest.mark.parametrize(("split", "named"), [("val", "--first"), ("train", "--second"), ("test", "--second, --third")])
def test_a_missing_split_names_its_option(split, named):
    options = SimpleNamespace(first="val", second=["train", "test"], third="test")
    with pytest.raises(ValueError, match=f"^{named}: clips has no split '{split}', it has dev$"):
        with naming_split(options, "first", "second", "third"):
            raise MissingSplitError("clips", split, ["dev"])


def test_checkpoints_that_are_not_there(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    check_checkpoints(model=str(tmp_path), teacher=None)
    with pytest.raises(ValueError, match="^--teacher .*nowhere: "):
        check_checkpoints(model=str(tmp_path), teacher=str(tmp_path / "nowhere"))

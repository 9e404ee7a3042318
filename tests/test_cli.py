"""The console command: what it lists, what it runs, what it says about names it does not know."""

import ast
import subprocess
import sys

import pytest

import flux_hf
from flux_hf import cli
from tests import video_datasets


@pytest.fixture
def scripts(tmp_path, monkeypatch):
    """A folder with one command in the place of `flux_hf.scripts`."""
    (tmp_path / "__init__.py").write_text("")
    (tmp_path / "_helper.py").write_text("")
    (tmp_path / "say_hello.py").write_text(
        '"""Greet somebody.\n\nMore."""\nimport sys\n\n\ndef main(argv=None):\n    print(sys.argv[0], argv)\n'
    )
    package = type(sys)("flux_hf.scripts")
    package.__file__ = str(tmp_path / "__init__.py")
    package.__path__ = [str(tmp_path)]
    monkeypatch.setitem(sys.modules, "flux_hf.scripts", package)
    monkeypatch.delitem(sys.modules, "flux_hf.scripts.say_hello", raising=False)
    monkeypatch.setattr(sys, "argv", ["flux-hf"])


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
def test_overview_lists_commands_without_importing_them(scripts, capsys, arguments):
    cli.main(arguments)
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert lines == [["say-hello", "Greet somebody."], ["env", cli.ENVIRONMENT_HELP]]
    assert "flux_hf.scripts.say_hello" not in sys.modules


@pytest.mark.parametrize("name", ["say-hello", "say_hello"])
def test_runs_the_main_of_a_script(scripts, capsys, name):
    cli.main([name, "--to", "you"])
    assert capsys.readouterr().out == "flux-hf say-hello ['--to', 'you']\n"


@pytest.mark.parametrize(
    ("name", "meant"),
    [("say", "say"), ("say-it", "say-it-loud"), ("say_it", "say-it-loud"), ("sa", "sa"), ("tell", "tell")],
)
def test_first_words_of_a_name_are_enough(name, meant):
    """When they fit one command only, and are no command themselves."""
    assert cli.full_name(name.replace("_", "-"), ["say", "say-hello", "say-it-loud", "tell-me", "tell-you"]) == meant


def test_runs_a_script_by_its_first_word(scripts, capsys):
    cli.main(["say", "--to", "you"])
    assert capsys.readouterr().out == "flux-hf say-hello ['--to', 'you']\n"


def test_takes_its_arguments_from_the_command_line(scripts, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["flux-hf", "say-hello", "x"])
    cli.main()
    assert capsys.readouterr().out == "flux-hf say-hello ['x']\n"


@pytest.mark.parametrize("name", ["say-goodbye", "-x", "_helper", "__init__"])
def test_unknown_names_end_with_the_list_of_names(scripts, capsys, name):
    with pytest.raises(SystemExit) as stop:
        cli.main([name])
    assert stop.value.code == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert len(shown.err.splitlines()) == 1
    assert shown.err.endswith("there are: say-hello, env\n")


def test_version(capsys):
    cli.main(["--version"])
    assert capsys.readouterr().out == f"{flux_hf.__version__}\n"


def test_environment_names_what_a_bug_report_needs(capsys):
    cli.main(["env"])
    names = {line.split("  ")[0] for line in capsys.readouterr().out.splitlines()}
    assert names >= {"flux_hf", "python", "platform", *cli.REPORTED_PACKAGES, "libavcodec", "cpu capability", "gpu"}


def test_every_shipped_command_has_a_line_of_help():
    files = cli.command_files()
    assert files
    assert [name for name, path in files.items() if not cli.summary(path)] == []


def test_every_shipped_command_also_runs_as_a_file():
    for name, path in cli.command_files().items():
        body = ast.parse(path.read_text(encoding="utf-8")).body
        mains = [node for node in body if isinstance(node, ast.FunctionDef) and node.name == "main"]
        assert [(len(node.args.args), len(node.args.defaults)) for node in mains] == [(1, 1)], name
        assert ast.unparse(body[-1]) == f"if __name__ == '__main__':\n    run_command('{name}', main)"


@pytest.mark.parametrize(
    "error", [ValueError("no\n such  split"), OSError("no such split"), ImportError("no such split")]
)
def test_what_a_user_can_put_right_is_one_line(scripts, tmp_path, error):
    (tmp_path / "say_hello.py").write_text(f"def main(argv=None):\n    raise {error!r}\n")
    with pytest.raises(SystemExit) as stop:
        cli.main(["say"])
    assert stop.value.code == "flux-hf say-hello: error: no such split"  # Python prints it and ends with exit code 1


def test_an_error_without_a_message_says_what_it_is():
    def main(argv):
        raise FileNotFoundError

    with pytest.raises(SystemExit, match="^flux-hf say: error: FileNotFoundError$"):
        cli.run_command("say", main)


@pytest.mark.parametrize("error", [RuntimeError, KeyError, TypeError, AssertionError])
def test_bugs_keep_their_traceback(scripts, tmp_path, error):
    (tmp_path / "say_hello.py").write_text(f"def main(argv=None):\n    raise {error.__name__}('a bug')\n")
    with pytest.raises(error, match="a bug"):
        cli.main(["say-hello"])


@pytest.mark.parametrize("start", [["-m", "flux_hf.cli", "finetune"], [cli.command_files()["finetune"]]])
def test_files_and_the_console_command_say_the_same(tmp_path, start):
    folder = video_datasets.videofolder(tmp_path / "clips", {"train": 2})
    options = ["--dataset", str(folder), "--output_dir", str(tmp_path / "out"), "--train_split", "dev"]
    run = subprocess.run([sys.executable, *start, *options], capture_output=True, text=True)
    line = f"flux-hf finetune: error: --train_split: {folder} has no split 'dev', it has train"
    assert (run.returncode, run.stderr.splitlines()[-1]) == (1, line)
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("name", ["finetune", "pretrain"])
def test_a_command_started_as_a_file_finds_the_evaluate_library(name):
    """Training computes accuracy with it, and there is an `evaluate.py` beside the command."""
    run = subprocess.run([sys.executable, cli.command_files()[name], "--help"], capture_output=True, text=True)
    assert run.stdout.startswith(f"usage: {name}.py"), run.stderr

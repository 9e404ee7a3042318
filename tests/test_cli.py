"""The console command: what it lists, what it runs, what it says about names it does not know, and how fast."""

import ast
import importlib
import io
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import flux_hf
import flux_hf.scripts
from flux_hf import cli
from tests import video_datasets

SCRIPTS = Path(flux_hf.scripts.__file__).parent
HEAVY = {"accelerate", "av", "datasets", "evaluate", "matplotlib", "numpy", "torch", "torchvision", "transformers"}


@pytest.fixture
def say_hello(tmp_path, monkeypatch):
    """A command of that name, in a file to write over."""
    path = tmp_path / "say_it.py"
    path.write_text(
        '"""Greet somebody.\n\nMore."""\nimport sys\n\n\ndef main(argv=None):\n    print(sys.argv[0], argv)\n'
    )
    monkeypatch.setattr(flux_hf.scripts, "__path__", [*flux_hf.scripts.__path__, str(tmp_path)])
    monkeypatch.setitem(cli.COMMANDS, "say-hello", "say_it")
    monkeypatch.setattr(sys, "argv", ["flux-hf"])
    importlib.invalidate_caches()
    yield path
    sys.modules.pop("flux_hf.scripts.say_it", None)


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"], ["help"]])
def test_overview_lists_commands_without_importing_them(say_hello, capsys, arguments):
    cli.main(arguments)
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert [name for name, _ in lines] == [*cli.COMMANDS]
    assert lines[-1] == ["say-hello", "Greet somebody."]
    assert "flux_hf.scripts.say_it" not in sys.modules


def test_users_see_what_users_need():
    assert [*cli.COMMANDS] == (
        "classify label watch finetune pretrain align evaluate evaluate-retrieval optimize-tokens embed search demo "
        "convert push export check-videos recipes env".split()
    )


@pytest.mark.parametrize("name", ["say-hello", "say_hello"])
def test_runs_the_main_of_a_script(say_hello, capsys, name):
    cli.main([name, "--to", "you"])
    assert capsys.readouterr().out == "flux-hf say-hello ['--to', 'you']\n"


def test_takes_its_arguments_from_the_command_line(say_hello, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["flux-hf", "say-hello", "x"])
    cli.main()
    assert capsys.readouterr().out == "flux-hf say-hello ['x']\n"


@pytest.mark.parametrize(
    ("typed", "error"),
    [
        ("finetun", "there is no command finetun; did you mean finetune?"),
        ("convert-checkpoint", "there is no command convert-checkpoint; did you mean convert?"),
        ("zzz", "there is no command zzz"),
        ("-x", "there is no command -x"),
        ("finetune own_clip", "there is no recipe 'own_clip'; did you mean own_clips?"),
        ("finetune own_clips --datset x", "there is no option --datset; did you mean --dataset?"),
        ("finetune own_clips --learning-rte 1", "there is no option --learning-rte; did you mean --learning_rate?"),
        ("pretrain pretrain_small", "missing: --dataset, --teacher"),
        ("finetune", "missing: --dataset; there is no RECIPE either (`flux-hf recipes` lists them)"),
        ("finetune own_clips", "missing: --dataset"),
        ("finetune own_clips --num_workers 2", "no option --num_workers; did you mean --dataloader_num_workers?"),
        ("evaluate --dataset x --clip_sampling midles", "did you mean middles?"),
        ("evaluate", "missing: --dataset"),
        ("convert weights.pth", "missing: FOLDER"),
        ("push", "missing: FOLDER, USER/NAME"),
        ("export a b c", "no option takes c"),
        ("classify clip.mp4 --top_k 1 other.mp4", "no option takes other.mp4; values without an option come first"),
        ("classify clip.mp4 --top_k one", "argument --top_k/--top-k: invalid int value: 'one'"),
        ("recipes own_clips more", "unrecognized arguments: more"),
    ],
)
def test_usage_errors_are_three_lines(capsys, monkeypatch, typed, error):
    monkeypatch.setattr(sys, "argv", ["flux-hf"])
    with pytest.raises(SystemExit) as stop:
        cli.main(typed.split())
    shown = capsys.readouterr()
    usage, message, hint = shown.err.splitlines()
    name = typed.split()[0]
    program = f"flux-hf {name}" if name in cli.COMMANDS else "flux-hf"
    assert (stop.value.code, shown.out, hint) == (2, "", f"hint: {program} --help")
    assert usage.startswith(f"usage: {program} ")
    assert message.startswith("error: ") and message.endswith(error)


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("classify", "VIDEO [VIDEO ...]"),
        ("finetune", "RECIPE --dataset TEXT"),
        ("pretrain", "RECIPE --dataset TEXT [TEXT ...] --teacher TEXT"),
        ("convert", "FILE FOLDER"),
        ("export", "CHECKPOINT FOLDER"),
        ("push", "FOLDER USER/NAME"),
        ("recipes", "[NAME]"),
        ("env", ""),
    ],
)
def test_usage_shows_what_stands_first(capsys, monkeypatch, name, first):
    monkeypatch.setattr(sys, "argv", ["flux-hf"])
    with pytest.raises(SystemExit):
        cli.main([name, "--help"])
    usage = f"usage: flux-hf {name} {first} [--option VALUE ...]"
    if name in ("recipes", "env"):  # no options
        usage = f"usage: flux-hf {name} {first}".rstrip()
    shown = capsys.readouterr().out
    assert shown.startswith(f"{usage}\n\n{cli.summary(cli.COMMANDS[name])[:60]}")
    assert "positional arguments" not in shown and "show this help" not in shown


def started(command: list[str]) -> tuple[str, float]:
    """What a process prints, and the CPU seconds that it took."""
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True)
    with process.stdout:
        output = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return output, used.ru_utime + used.ru_stime


@pytest.mark.parametrize("name", [None, *cli.COMMANDS])
def test_help_is_quick(name):
    """Measured at 0.1 s of CPU time; a process that imports torch takes several seconds."""
    command = [] if name is None else [name]
    output, seconds = started(["-m", "flux_hf.cli", *command, "--help"])
    assert output.startswith(" ".join(["usage: flux-hf", *command]))
    assert seconds < 2
    if name is not None:
        assert started([str(SCRIPTS / f"{cli.COMMANDS[name]}.py"), "--help"])[0] == output


def test_commands_import_nothing_heavy():
    modules = [f"flux_hf.scripts.{module}" for module in cli.COMMANDS.values()]
    code = f"import sys, importlib\nfor name in {modules}: importlib.import_module(name)\nprint(*sys.modules)"
    loaded = set(started(["-c", code])[0].split())
    assert set(modules) <= loaded and not loaded & HEAVY


@pytest.mark.parametrize("arguments", [["--help"], ["classify", "--help"]])
def test_a_reader_that_has_gone_is_no_error(arguments):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-m", "flux_hf.cli", *arguments], stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_version(capsys):
    cli.main(["--version"])
    assert capsys.readouterr().out == f"{flux_hf.__version__}\n"


def test_environment_names_what_a_bug_report_needs(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["flux-hf"])
    cli.main(["env"])
    names = {line.split("  ")[0] for line in capsys.readouterr().out.splitlines()}
    assert names >= {"flux_hf", "python", "torch", "transformers", "av", "libavcodec", "cpu capability", "gpu"}


def test_every_command_has_a_line_of_help():
    assert [name for name, module in cli.COMMANDS.items() if not 0 < len(cli.summary(module)) <= 100] == []


def test_every_script_is_a_command_and_also_runs_as_a_file():
    assert sorted(cli.COMMANDS.values()) == sorted(path.stem for path in SCRIPTS.glob("[!_]*.py"))
    for name, module in cli.COMMANDS.items():
        body = ast.parse((SCRIPTS / f"{module}.py").read_text(encoding="utf-8")).body
        mains = [node for node in body if isinstance(node, ast.FunctionDef) and node.name == "main"]
        assert [(len(node.args.args), len(node.args.defaults)) for node in mains] == [(1, 1)], name
        assert ast.unparse(body[-1]) == f"if __name__ == '__main__':\n    run_command('flux-hf {name}', main)"


def test_no_script_hides_a_library():
    """A script started as a file has its folder first on the path: an `evaluate.py` there would be that library."""
    assert find_spec("evaluate") is not None
    assert [path.stem for path in SCRIPTS.glob("[!_]*.py") if find_spec(path.stem) is not None] == []


def test_ctrl_c_ends_a_command_without_a_traceback(say_hello):
    say_hello.write_text("def main(argv=None):\n    raise KeyboardInterrupt\n")
    with pytest.raises(SystemExit) as stop:
        cli.main(["say-hello"])
    assert stop.value.code == 130


@pytest.mark.parametrize(
    "error", [ValueError("no\n such  split"), OSError("no such split"), ImportError("no such split")]
)
def test_what_a_user_can_put_right_is_one_line(say_hello, error):
    say_hello.write_text(f"def main(argv=None):\n    raise {error!r}\n")
    with pytest.raises(SystemExit) as stop:
        cli.main(["say-hello"])
    assert stop.value.code == "flux-hf say-hello: error: no such split"  # Python prints it and ends with exit code 1


def test_an_error_without_a_message_says_what_it_is(monkeypatch):
    def main(argv):
        raise FileNotFoundError

    monkeypatch.setattr(sys, "argv", ["x"])
    with pytest.raises(SystemExit, match="^decoding: error: FileNotFoundError$"):
        cli.run_command("decoding", main)


@pytest.mark.parametrize("error", [RuntimeError, KeyError, TypeError, AssertionError])
def test_bugs_keep_their_traceback(say_hello, error):
    say_hello.write_text(f"def main(argv=None):\n    raise {error.__name__}('a bug')\n")
    with pytest.raises(error, match="a bug"):
        cli.main(["say-hello"])


@pytest.mark.parametrize("start", [["-m", "flux_hf.cli", "recipes"], [SCRIPTS / "list_recipes.py"]])
def test_files_and_the_console_command_say_the_same(start):
    run = subprocess.run([sys.executable, *start, "own_clip"], capture_output=True, text=True)
    line = "flux-hf recipes: error: there is no recipe 'own_clip'; did you mean own_clips?"
    assert (run.returncode, run.stdout, run.stderr) == (1, "", f"{line}\n")


def test_a_split_that_is_not_there_names_its_option(tmp_path, monkeypatch):
    folder = video_datasets.videofolder(tmp_path / "clips", {"train": 2})
    monkeypatch.setattr(sys, "argv", ["flux-hf"])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        cli.main(["finetune", "own_clips", "--dataset", str(folder), "--train_split", "dev", "--use_cpu"])
    assert stop.value.code == f"flux-hf finetune: error: --train_split: {folder} has no split 'dev', it has train"


def test_names_cannot_steer_a_terminal(monkeypatch):
    """Errors show what is not printable; a name that the encoding lacks is written as Python writes it."""

    def refuses(argv):
        print("größe")
        raise ValueError("no label \x1b[2J\nhere")

    output = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", output)
    with pytest.raises(SystemExit) as stop:
        cli.run_command("flux-hf x", refuses)
    output.flush()
    assert stop.value.code == r"flux-hf x: error: no label \x1b[2J here"
    assert output.buffer.getvalue() == rb"gr\xf6\xdfe" + b"\n"

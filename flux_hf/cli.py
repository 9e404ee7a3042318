"""The console command ``flux-hf``: runs the commands of ``flux_hf.scripts`` by name."""

import ast
import os
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import flux_hf
from flux_hf.options.errors import did_you_mean, usage_error
from flux_hf.tables import printable

COMMANDS = {
    "classify": "classify",
    "label": "label",
    "watch": "watch",
    "finetune": "finetune",
    "pretrain": "pretrain",
    "align": "align",
    "evaluate": "evaluate_checkpoint",
    "evaluate-retrieval": "evaluate_retrieval",
    "optimize-tokens": "optimize_tokens",
    "embed": "embed",
    "search": "search",
    "demo": "demo",
    "convert": "convert_checkpoint",
    "push": "push_to_hub",
    "export": "export",
    "check-videos": "check_videos",
    "recipes": "list_recipes",
    "env": "show_environment",
}
"""Every command, in the order of the overview, with its module in `flux_hf.scripts`."""

USAGE = "flux-hf COMMAND ..."


def summary(module: str) -> str:
    """The first line of the docstring of a module of `flux_hf.scripts`, read without importing it."""
    source = Path(find_spec(f"flux_hf.scripts.{module}").origin).read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


def overview() -> str:
    """What `flux-hf --help` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {summary(module)}" for name, module in COMMANDS.items()]
    return "\n".join([f"usage: {USAGE}", "", *lines, "", "flux-hf COMMAND --help explains one of them."])


def run_command(program: str, main: Callable[[list[str] | None], None], argv: list[str] | None = None) -> None:
    """Call the `main` of a command, and end the program with an exit code where it fails.

    ValueError, OSError and ImportError, which the user can put right, give one line, `PROGRAM: error: ...`, and code 1.
    Ctrl-C gives 130. Output that nobody reads any more (`| head`) gives 141, as in a shell. Other exceptions are bugs
    and keep their traceback.

    Args:
        program: what is typed to run it, as `flux-hf finetune`; usage and errors start with it.
        argv: the arguments, default `sys.argv[1:]`.
    """
    sys.argv[0] = program
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that the terminal's encoding lacks is no error
    try:
        main(argv)
        sys.stdout.flush()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left to print goes nowhere
        raise SystemExit(141) from None
    except (ValueError, OSError, ImportError) as error:
        message = " ".join(_own_words(error).split()) or type(error).__name__
        raise SystemExit(f"{program}: error: {printable(message, None)}") from error


def _own_words(error: Exception) -> str:
    """The message; of an error in a worker of a `DataLoader` without the traceback that PyTorch puts before it."""
    message = str(error)
    if not message.startswith(f"Caught {type(error).__name__} in DataLoader worker"):
        return message
    return message.rpartition(f"\n{type(error).__name__}: ")[2]


def main(argv: list[str] | None = None) -> None:
    """Run `flux-hf COMMAND ...`; hyphens and underscores in the name are the same."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        return run_command("flux-hf", lambda _: print(overview()))
    if arguments[0] == "--version":
        return print(flux_hf.__version__)
    name, *rest = arguments
    name = name.replace("_", "-")
    if name not in COMMANDS:
        usage_error(USAGE, f"there is no command {name}{did_you_mean(name, COMMANDS)}", "flux-hf --help")
    run_command(f"flux-hf {name}", import_module(f"flux_hf.scripts.{COMMANDS[name]}").main, rest)


if __name__ == "__main__":
    main()

"""The console command ``flux-hf``: runs the commands of ``flux_hf.scripts`` by name."""

import ast
import platform
import sys
from collections.abc import Callable
from importlib import import_module, metadata
from pathlib import Path

import flux_hf

ENVIRONMENT_HELP = "Print the versions that a bug report should name."
REPORTED_PACKAGES = (
    "torch",
    "torchvision",
    "transformers",
    "accelerate",
    "datasets",
    "huggingface_hub",
    "numpy",
    "av",
)


def command_files() -> dict[str, Path]:
    """The commands by name, with the file of each. A command is a module of `flux_hf.scripts`."""
    folder = Path(import_module("flux_hf.scripts").__file__).parent
    files = (path for path in folder.glob("*.py") if not path.name.startswith("_"))
    return {path.stem.replace("_", "-"): path for path in sorted(files)}


def summary(path: Path) -> str:
    """The first line of a file's docstring, read without importing the file."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0]


def usage() -> str:
    """The overview that `flux-hf --help` prints."""
    commands = {name: summary(path) for name, path in command_files().items()}
    commands["env"] = ENVIRONMENT_HELP
    width = max(map(len, commands))
    lines = [f"  {name:<{width}}  {text}".rstrip() for name, text in commands.items()]
    return "\n".join(
        [
            "usage: flux-hf COMMAND ...",
            "",
            *lines,
            "",
            "flux-hf COMMAND --help explains one of them. The first words of a name are enough.",
        ]
    )


def full_name(name: str, commands) -> str:
    """The command that `name` or its first words mean: `convert` is `convert-checkpoint`, if no other starts so."""
    longer = [command for command in commands if command.startswith(f"{name}-")]
    return longer[0] if name not in commands and len(longer) == 1 else name


def environment() -> str:
    """Versions of everything that decoding and computing depend on, one per line."""
    import av
    import torch

    facts = {"flux_hf": flux_hf.__version__, "python": platform.python_version(), "platform": platform.platform()}
    for package in REPORTED_PACKAGES:
        try:
            facts[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            facts[package] = "not installed"
    for library, version in sorted(av.library_versions.items()):
        facts[library] = ".".join(map(str, version))
    facts["cpu capability"] = f"{torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"
    if torch.cuda.is_available():
        facts["gpu"] = ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
    else:
        facts["gpu"] = "none"
    width = max(map(len, facts))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in facts.items())


def run_command(name: str, main: Callable[[list[str] | None], None], argv: list[str] | None = None) -> None:
    """Call the `main` of a command. What its user can put right, ValueError, OSError and ImportError, ends the program
    with one line, `flux-hf NAME: error: ...`, and exit code 1; other exceptions are bugs and keep their traceback."""
    try:
        main(argv)
    except (ValueError, OSError, ImportError) as error:
        message = " ".join(str(error).split()) or type(error).__name__
        raise SystemExit(f"flux-hf {name}: error: {message}") from error


def main(argv: list[str] | None = None) -> None:
    """Run `flux-hf COMMAND ...`; hyphens and underscores in the name are the same, its first words
    are enough."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return
    if arguments[0] == "--version":
        print(flux_hf.__version__)
        return

    name, *rest = arguments
    name = name.replace("_", "-")
    if name == "env":
        print(environment())
        return
    files = command_files()
    name = full_name(name, files)
    if name not in files:
        print(f"flux-hf: unknown command {name!r}; there are: {', '.join([*files, 'env'])}", file=sys.stderr)
        raise SystemExit(2)
    sys.argv[0] = f"flux-hf {name}"
    run_command(name, import_module(f"flux_hf.scripts.{files[name].stem}").main, rest)


if __name__ == "__main__":
    main()

"""What setup.py requires. Run as a program it prints the oldest versions allowed, as constraints for pip."""

import runpy
from pathlib import Path
from unittest.mock import patch

ROOT = Path(__file__).resolve().parent.parent


def setup_arguments() -> dict:
    """The arguments that setup.py gives to `setuptools.setup`."""
    with patch("setuptools.setup") as setup:
        runpy.run_path(str(ROOT / "setup.py"))
    return setup.call_args.kwargs


def requirements(*extras: str) -> list[str]:
    """The lines of install_requires and of these extras."""
    arguments = setup_arguments()
    return [*arguments["install_requires"], *(line for name in extras for line in arguments["extras_require"][name])]


if __name__ == "__main__":
    for line in requirements("test"):
        name, _, version = line.partition(">=")
        if version:
            print(f"{name}=={version}")

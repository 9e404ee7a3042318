"""The checkpoint that ships with the package."""

from pathlib import Path


def default_checkpoint() -> str:
    """Folder of `fluxvit-nano`: what the main thing in front of a static camera does (see the README.md in it)."""
    return str(Path(__file__).parent / "fluxvit-nano")

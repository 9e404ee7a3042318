"""The checkpoint that ships with the package, and clips to try it on."""

from pathlib import Path


def default_checkpoint() -> str:
    """Folder of `fluxvit-nano`: what the main thing in front of a static camera does (see the README.md in it)."""
    return str(Path(__file__).parent / "fluxvit-nano")


def example_clips() -> dict[str, str]:
    """Paths of nine rendered clips by their label, one for every label of the default checkpoint."""
    return {path.stem: str(path) for path in sorted((Path(__file__).parent / "clips").glob("*.mp4"))}

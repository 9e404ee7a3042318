"""The checkpoint that ships with the package, and clips to try it on."""

from pathlib import Path


def default_checkpoint() -> str:
    """Folder of `fluxvit-nano`: what the main thing in front of a static camera does (see the README.md in it)."""
    return str(Path(__file__).parent / "fluxvit-nano")


def checkpoint_path(checkpoint: str | None) -> str | None:
    """The folder or Hub id that an option means: `default` is the checkpoint of the package (`./default` a folder)."""
    return default_checkpoint() if checkpoint == "default" else checkpoint


def checkpoint_name(checkpoint: str) -> str:
    """What a result calls a checkpoint: the folder's name for that of the package, else what was given."""
    return Path(default_checkpoint()).name if checkpoint_path(checkpoint) == default_checkpoint() else checkpoint


def example_clips() -> dict[str, str]:
    """Paths of nine rendered clips by their label, one for every label of the default checkpoint."""
    return {path.stem: str(path) for path in sorted((Path(__file__).parent / "clips").glob("*.mp4"))}

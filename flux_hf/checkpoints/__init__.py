"""The checkpoint that ships with the package, and clips to try it on."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError


def default_checkpoint() -> str:
    """Folder of `fluxvit-nano`: what the main thing in front of a static camera does (see the README.md in it)."""
    return str(Path(__file__).parent / "fluxvit-nano")


def checkpoint_path(checkpoint: str | None) -> str | None:
    """The folder or Hub id that an option means: `default` is the checkpoint of the package (`./default` a folder)."""
    return default_checkpoint() if checkpoint == "default" else checkpoint


def checkpoint_name(checkpoint: str) -> str:
    """What a result calls a checkpoint: the folder's name for that of the package, else what was given."""
    return Path(default_checkpoint()).name if checkpoint_path(checkpoint) == default_checkpoint() else checkpoint


@contextmanager
def reading_weights(checkpoint: str | Path) -> Iterator[None]:
    """For loading a checkpoint.

    Raises:
        ValueError: in place of what its files provoke where they are damaged, or pickles with more than tensors in
            them, which are never run.
    """
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        raise ValueError(f"{checkpoint}: its model.safetensors is damaged: {error}") from error
    except UnpicklingError:  # its message ends with the advice to let the file run its code
        raise ValueError(
            f"{checkpoint} is refused: its weights are a pickle, damaged or with more than tensors in it, which could "
            "run code when read; accepted is model.safetensors"
        ) from None


def check_weights(model, checkpoint: str | Path) -> None:
    """Raises ValueError naming the first of a model's weights that is not finite: it would answer nothing."""
    for name, weight in model.named_parameters():
        if not weight.isfinite().all():
            raise ValueError(f"{checkpoint}: {name} holds numbers that are not finite")


def example_clips() -> dict[str, str]:
    """Paths of nine rendered clips by their label, one for every label of the default checkpoint."""
    return {path.stem: str(path) for path in sorted((Path(__file__).parent / "clips").glob("*.mp4"))}

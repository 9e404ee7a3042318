"""Reading `.pth` files without running what is in them."""

import argparse
import re
from pathlib import Path
from pickle import UnpicklingError

import torch

WRAPPERS = ("module", "model", "state_dict")
"""Keys under which training code keeps the state dict: DeepSpeed, as FluxViT uses it; UMT and VideoMAE; others."""

PREFIXES = ("module.", "_orig_mod.")
"""What DistributedDataParallel and torch.compile put before every name."""


def read_state_dict(path: str | Path) -> dict[str, torch.Tensor]:
    """The model's tensors of a `.pth` file, bare or wrapped (`WRAPPERS`), on the CPU.

    Files are read with `weights_only=True`. Beside tensors and plain values only `argparse.Namespace` is let through,
    which holds the training options in files of UMT, VideoMAE and InternVideo2 and has no code of its own.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: naming the file, when it is no PyTorch file, holds other Python objects, or no state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a file")
    content = _load(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, expected a dictionary of tensors")
    state_dict = _unwrap(content, path)
    for prefix in PREFIXES:
        if all(key.startswith(prefix) for key in state_dict):
            state_dict = {key.removeprefix(prefix): tensor for key, tensor in state_dict.items()}
    return state_dict


def _load(path: Path):
    with torch.serialization.safe_globals([argparse.Namespace]):
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except (UnpicklingError, RuntimeError, EOFError, KeyError) as error:
            found = re.search(r"Unsupported (?:global|class)[^\n]*?([\w.]+\.[\w.]+)", str(error))
            if found is None:
                reason = str(error).partition("\n")[0] or "it is empty"
                raise ValueError(f"{path} cannot be read as a PyTorch file: {reason}") from error
            raise ValueError(
                f"{path} is refused: it holds Python objects beyond tensors and plain values ({found[1]}), which could "
                f"run code when read. Save its state dict alone, with the code it comes from: "
                f"torch.save(model.state_dict(), ...)"
            ) from error


def _unwrap(content: dict, path: Path) -> dict[str, torch.Tensor]:
    for candidate in (content, *(content.get(key) for key in WRAPPERS)):
        if isinstance(candidate, dict) and candidate and all(map(torch.is_tensor, candidate.values())):
            return dict(candidate)
    raise ValueError(
        f"{path} holds no state dict, neither bare nor under one of {', '.join(WRAPPERS)}; "
        f"its keys are {', '.join(map(str, list(content)[:12]))}"
    )

"""Reading files of weights without running what is in them."""

import argparse
import re
import tarfile
import warnings
import zipfile
from pathlib import Path

import torch

from flux_hf.files import read_tensors

WRAPPERS = ("module", "model", "state_dict")
"""Keys under which training code keeps the state dict: DeepSpeed, as FluxViT uses it; UMT and VideoMAE; others."""

PREFIXES = ("module.", "_orig_mod.")
"""What DistributedDataParallel and torch.compile put before every name."""

MOST_UNPACKED = 10
"""torch.save does not compress; an archive that claims to hold more than this many times its size is none of its."""

ACCEPTED = "accepted is a file of torch.save(model.state_dict(), ...) or safetensors"


def read_state_dict(path: str | Path) -> dict[str, torch.Tensor]:
    """The model's tensors of a `.pth` file, bare or wrapped (`WRAPPERS`), or of a `.safetensors` file, on the CPU.

    Pickles are read with `weights_only=True`. Beside tensors and plain values only `argparse.Namespace` is let through,
    which holds the training options in files of UMT, VideoMAE and InternVideo2 and has no code of its own.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: naming the file, when it is no PyTorch file, is damaged, holds other Python objects or no state
            dict, or tensors that are no weights: sparse, quantised or complex ones, views larger than what they are
            views of, numbers that are not finite.
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
    for name, tensor in state_dict.items():
        if wrong := _no_weights(tensor):
            raise ValueError(f"{path}: the tensor {name[:100]!r} {wrong}")
    storages = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in state_dict.values()
    }
    if sum(storages.values()) > path.stat().st_size:  # older PyTorch fills up what a damaged file lacks
        raise ValueError(
            f"{path} is damaged: it lacks numbers of its tensors, which are {sum(storages.values())} bytes"
        )
    return state_dict


def _load(path: Path):
    if path.suffix == ".safetensors":
        return read_tensors(path)
    _check_archive(path)
    try:
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # whatever a damaged or made-up pickle leads to
        raise ValueError(_refusal(path, str(error))) from None


def _check_archive(path: Path) -> None:
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if unpacked > MOST_UNPACKED * path.stat().st_size:
        raise ValueError(
            f"{path} is refused: an archive of {path.stat().st_size} bytes that claims to hold {unpacked}; {ACCEPTED}"
        )


def _refusal(path: Path, said: str) -> str:
    """Our own words: those of PyTorch end with the advice to let the file run its code."""
    if found := re.search(r"GLOBAL (\S+)|unrecognized function (\S+)|Unsupported class (\S+)", said):
        name = next(group for group in found.groups() if group)
        return (
            f"{path} is refused: it holds Python objects beyond tensors and plain values ({name}), which could run "
            f"code when read. Save its state dict alone, with the code it comes from: "
            f"torch.save(model.state_dict(), ...)"
        )
    if "TorchScript" in said:
        return f"{path} is refused: it is a TorchScript archive, which holds code; {ACCEPTED}"
    if zipfile.is_zipfile(path):
        reason = said.partition("\n")[0].partition(". ")[0]
        return f"{path} is damaged{'' if 'eights' in reason else f': {reason}'}; {ACCEPTED}"
    if tarfile.is_tarfile(path):
        return f"{path} is a tar archive; {ACCEPTED}"
    with open(path, "rb") as file:
        start = file.read(12)
    if start.startswith(b"\x80"):
        return f"{path} is a damaged file, or a plain pickle, which could run code when read; {ACCEPTED}"
    return f"{path} is no PyTorch file: {f'it starts with {start!r}' if start else 'it is empty'}; {ACCEPTED}"


def _unwrap(content: dict, path: Path) -> dict[str, torch.Tensor]:
    for candidate in (content, *(content.get(key) for key in WRAPPERS)):
        if isinstance(candidate, dict) and candidate and all(map(torch.is_tensor, candidate.values())):
            if unnamed := [key for key in candidate if not isinstance(key, str)]:
                raise ValueError(f"{path}: names of tensors must be text, one is {unnamed[0]!r:.100}")
            return dict(candidate)
    raise ValueError(
        f"{path} holds no state dict, neither bare nor under one of {', '.join(WRAPPERS)}; "
        f"its keys are {', '.join(f'{key!s:.100}' for key in list(content)[:12])}"
    )


def _no_weights(tensor: torch.Tensor) -> str | None:
    """Why a tensor cannot be a model's weights; None where it can."""
    kind = f"is {'' if tensor.layout == torch.strided else f'{tensor.layout} '}{tensor.dtype} on {tensor.device}"
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex() or tensor.device.type != "cpu":
        return f"{kind}, accepted are dense real numbers"
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return (
            f"has the shape {tuple(tensor.shape)}, but the file holds {tensor.untyped_storage().nbytes()} bytes of it"
        )
    if tensor.is_floating_point() and not tensor.float().isfinite().all():
        return "holds numbers that are not finite"
    return None

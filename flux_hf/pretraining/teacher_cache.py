"""Outputs of the teacher on disk, for epochs that show views again."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file

from flux_hf.files import read_tensors, whole_file
from flux_hf.modeling.token_selection_fluxvit import GROUP_DYNAMIC, SelectionRule, selection_name, selection_rule
from flux_hf.pretraining.teacher import Teacher, TeacherOutput


class TeacherCache:
    """Keeps outputs of a teacher by the content of a clip, one file each in fp16 (unit vectors lose 3 digits of 7).

    Args:
        directory: of all caches; each teacher and choice of layers, tokens and precision has a folder in it.
        mixed_precision: of the autocast that the teacher runs under, "no" without.
        token_selection: rule of the mask that the teacher sees.

    Raises:
        ValueError: the rule is a random one, so that outputs cannot be looked up by the clip.
    """

    def __init__(
        self,
        directory: str | Path,
        teacher: Teacher,
        layers: list[int],
        teacher_tokens: int,
        mixed_precision: str = "no",
        token_selection: str | SelectionRule | Callable = GROUP_DYNAMIC,
    ):
        rule = selection_name(token_selection)
        if selection_rule(token_selection).random:
            raise ValueError(f"teacher_cache excludes token_selection {rule!r}, which draws other tokens every time")
        described = f"{teacher.description()} {layers} {teacher_tokens} {mixed_precision}"
        described += "" if rule == GROUP_DYNAMIC else f" {rule}"
        self.folder = Path(directory) / hashlib.sha256(described.encode()).hexdigest()[:16]

    def get(self, digests: list[str], device: torch.device) -> TeacherOutput | None:
        """The outputs of a batch of clips, None unless all are there.

        Raises:
            ValueError: a file is damaged; names it.
        """
        paths = [self._path(digest) for digest in digests]
        if not all(path.exists() for path in paths):
            return None
        clips = [_read(path) for path in paths]
        joined = {name: torch.stack([clip[name] for clip in clips]).to(device).float() for name in clips[0]}
        count = len(joined) - 2
        return TeacherOutput([joined[f"layer_{i}"] for i in range(count)], joined["pooled"], joined["saliency"])

    def put(self, digests: list[str], output: TeacherOutput) -> None:
        """Keep the outputs of a batch of clips."""
        named = {f"layer_{i}": layer for i, layer in enumerate(output.layers)}
        named |= {"pooled": output.pooled, "saliency": output.saliency}
        named = {name: value.detach().cpu().half() for name, value in named.items()}
        for place, digest in enumerate(digests):
            with whole_file(self._path(digest)) as unfinished:
                save_file({name: value[place].contiguous() for name, value in named.items()}, unfinished)

    def _path(self, digest: str) -> Path:
        return self.folder / f"{digest}.safetensors"


def _read(path: Path) -> dict[str, torch.Tensor]:
    try:
        return read_tensors(path)
    except ValueError as error:
        raise ValueError(f"{error}; delete it, the teacher makes it again") from error


def clip_digest(clip: torch.Tensor) -> str:
    """sha256 over the values and shape of a float32 clip on the CPU."""
    content = clip.contiguous()
    return hashlib.sha256(f"{tuple(content.shape)}".encode() + content.numpy().tobytes()).hexdigest()

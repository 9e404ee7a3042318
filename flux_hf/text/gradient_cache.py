"""Gradients of a contrastive loss over more pairs than fit into memory (GradCache, arXiv 2101.06983)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import nn
from torch.utils.checkpoint import get_device_states, set_device_states

from flux_hf.modeling.modeling_fluxvit_clip import FluxViTClipOutput

PER_PAIR = ("video_embeds", "text_embeds", "pooler_output", "aligned")
ONCE = ("logit_scale", "logit_bias")


def cached_backward(
    model: nn.Module,
    batch: dict,
    pairs_at_once: int,
    loss_parts: Callable[[FluxViTClipOutput], dict[str, torch.Tensor]],
    backward: Callable[[torch.Tensor], None] = torch.Tensor.backward,
) -> dict[str, torch.Tensor]:
    """Adds to the parameters' gradients what `sum(loss_parts(model(**batch)).values()).backward()` adds, and holds the
    activations of `pairs_at_once` pairs only. Everything runs through the model twice.

    The pairs are embedded in chunks without a graph, the loss of all of them gives the gradient of every embedding, and
    each chunk is run again, with the random numbers of its first run, and gets its part of that gradient.

    Args:
        model: a [`FluxViTClipModel`], also wrapped in DistributedDataParallel, which then synchronises once.
        batch: what `forward` takes, without labels. Tensors have as many rows as there are videos or, without videos,
            texts; what is no tensor is the same for all.
        pairs_at_once: pairs of a chunk; the last may have fewer.
        loss_parts: terms of the loss of an output for all pairs, as `model.loss_parts` gives them. It is
            given what embeds the pairs, the scale and the bias, but no logits.
        backward: runs the backward pass of a loss, as `accelerator.backward` does.

    Returns:
        The terms, without a graph.

    Raises:
        ValueError: `pairs_at_once` is less than 1, or a tensor has another number of rows.
    """
    chunks = _chunks(batch, pairs_at_once)
    states, outputs = [], []
    for chunk in chunks:
        states.append(_RandomNumbers(chunk))
        with torch.no_grad():
            outputs.append(_tensors(model(**chunk)))
    leaves = {
        name: torch.cat([output[name] for output in outputs]) if name[0] in PER_PAIR else tensor.detach().clone()
        for name, tensor in outputs[0].items()
    }
    for leaf in leaves.values():
        leaf.requires_grad_()
    with torch.enable_grad():
        parts = loss_parts(_output(leaves))
        backward(sum(parts.values()))
    gradients = [
        {name: leaf.grad.split(pairs_at_once)[place] for name, leaf in leaves.items() if _has_gradient(name, leaf)}
        for place in range(len(chunks))
    ]
    gradients[-1] |= {name: leaf.grad for name, leaf in leaves.items() if name[0] in ONCE and leaf.grad is not None}
    del leaves, outputs
    for place, (chunk, state) in enumerate(zip(chunks, states, strict=True)):
        last = place == len(chunks) - 1
        with nullcontext() if last else getattr(model, "no_sync", nullcontext)(), state.again():
            tensors = _tensors(model(**chunk))
            wanted = {name: gradient for name, gradient in gradients[place].items() if tensors[name].requires_grad}
            torch.autograd.backward([tensors[name] for name in wanted], list(wanted.values()))
    return {name: part.detach() for name, part in parts.items()}


def _has_gradient(name: tuple, leaf: torch.Tensor) -> bool:
    return name[0] in PER_PAIR and leaf.grad is not None


def _chunks(batch: dict, pairs_at_once: int) -> list[dict]:
    rows = {name: len(value) for name, value in batch.items() if isinstance(value, torch.Tensor)}
    if pairs_at_once < 1:
        raise ValueError(f"pairs_at_once must be at least 1, got {pairs_at_once}")
    if len(set(rows.values())) != 1:
        raise ValueError(f"the tensors of a batch must have the same number of rows, got {rows}")
    pairs = next(iter(rows.values()))
    return [
        {name: value[start : start + pairs_at_once] if name in rows else value for name, value in batch.items()}
        for start in range(0, pairs, pairs_at_once)
    ]


def _tensors(output: FluxViTClipOutput) -> dict[tuple[str, int | None], torch.Tensor]:
    """What a loss is made of, by name and, where there is one per budget, number."""
    found = {}
    for name in (*PER_PAIR, *ONCE):
        value = output[name] if name in output else None
        if isinstance(value, tuple):
            found |= {(name, number): tensor for number, tensor in enumerate(value)}
        elif value is not None:
            found[name, None] = value
    return found


def _output(tensors: dict[tuple[str, int | None], torch.Tensor]) -> FluxViTClipOutput:
    fields = {}
    for (name, number), tensor in tensors.items():
        fields[name] = tensor if number is None else (*fields.get(name, ()), tensor)
    return FluxViTClipOutput(**fields)


class _RandomNumbers:
    """The state of torch's generators, of the CPU and of the devices that a batch is on."""

    def __init__(self, batch: dict):
        self.cpu = torch.get_rng_state()
        self.devices, self.states = get_device_states(*batch.values())

    @contextmanager
    def again(self) -> Iterator[None]:
        """That state, and afterwards the one before."""
        with torch.random.fork_rng(self.devices):
            torch.set_rng_state(self.cpu)
            set_device_states(self.devices, self.states)
            yield


__all__ = ["cached_backward"]

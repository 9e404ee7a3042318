"""The arithmetic floor of a forward, and the parts that are not arithmetic."""

from collections.abc import Callable

import torch
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from flux_hf.modeling.modeling_fluxvit import FluxViTForVideoClassification
from flux_hf.modeling.token_selection_fluxvit import kept_positions, select_tokens, take_tokens, token_importance

GROUPS = {
    "matmuls": ("aten::addmm", "aten::mm", "aten::bmm", "aten::matmul", "aten::linear", "mkldnn::_linear_pointwise"),
    "attention": ("aten::scaled_dot_product_attention",),
    "norms": ("aten::rms_norm", "aten::layer_norm"),
    "activation": ("aten::gelu",),
}
"""Share -> the operators whose time it is, children included; one inside another counts once."""


def matmuls_and_attention(
    model: FluxViTForVideoClassification, batch: int, grid_tokens: int, num_tokens: int, *, backward: bool = False
) -> Callable[[], object]:
    """Only the matrix products and attentions of a forward, with its weights, at its shapes, in its type and on its
    device: nothing between them. With `backward` also those of the gradients, each after its own forward; patches are
    then embedded twice, as in training: all without a gradient, and those kept with one."""
    config, sequence = model.config, num_tokens + 1
    embedding, pooler = model.fluxvit.embeddings.patch_embedding, model.fluxvit.poolers[0]

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=model.dtype, device=model.device)

    patches = random(batch, grid_tokens, embedding.projection.in_features)
    kept = patches[:, :num_tokens].clone().requires_grad_() if backward else patches
    tokens = random(batch, sequence, config.hidden_size).requires_grad_(backward)
    hidden = random(batch, sequence, int(config.hidden_size * config.mlp_ratio)).requires_grad_(backward)
    head_shape = (batch, config.num_attention_heads, sequence, config.hidden_size // config.num_attention_heads)
    heads = [random(*head_shape).requires_grad_(backward) for _ in range(3)]
    asking = random(batch, 1, config.hidden_size).requires_grad_(backward)
    pooled_heads = tokens.unflatten(-1, (pooler.num_heads, -1)).transpose(1, 2).detach().requires_grad_(backward)
    asking_heads = asking.unflatten(-1, (pooler.num_heads, -1)).transpose(1, 2).detach().requires_grad_(backward)

    def do(product: Callable, *inputs: torch.Tensor | None) -> torch.Tensor:
        output = product(*inputs)
        if backward:
            wanted = [each for each in inputs if each is not None and each.requires_grad]
            torch.autograd.grad(output, wanted, output.detach())
        return output

    def linear(layer: torch.nn.Linear, x: torch.Tensor) -> torch.Tensor:
        return do(F.linear, x, layer.weight, layer.bias)

    def run():
        if backward:
            with torch.no_grad():
                embedding.projection(patches)
        linear(embedding.projection, kept)
        for layer in model.fluxvit.encoder.layers:
            linear(layer.attention.query, tokens)
            linear(layer.attention.key, tokens)
            linear(layer.attention.value, tokens)
            do(F.scaled_dot_product_attention, *heads)
            linear(layer.attention.output, tokens)
            linear(layer.mlp.up, tokens)
            linear(layer.mlp.down, hidden)
        linear(pooler.query, asking)
        linear(pooler.key, tokens)
        linear(pooler.value, tokens)
        do(F.scaled_dot_product_attention, asking_heads, pooled_heads, pooled_heads)
        return linear(pooler.output, asking[:, 0])

    return run


def selection_and_positions(
    model: FluxViTForVideoClassification, batch: int, grid: tuple[int, int, int], token_budget: int
) -> Callable[[], object]:
    """What a forward does to choose its tokens and to add their positions, on (frames, rows, columns) patches."""
    tokens = torch.randn(batch, *grid, model.config.hidden_size, dtype=model.dtype, device=model.device)
    embeddings = model.fluxvit.embeddings

    def run():
        cls, positions = embeddings.position_embedding(*grid)
        if token_budget < tokens[0, ..., 0].numel():
            kept = kept_positions(select_tokens(token_importance(tokens), token_budget), token_budget)
            chosen = take_tokens(tokens.flatten(1, 3), kept) + positions[kept]
        else:
            chosen = tokens.flatten(1, 3) + positions
        return torch.cat([(embeddings.cls_token + cls).expand(batch, -1, -1), chosen], dim=1)

    return run


def shares(run: Callable[[], object]) -> dict[str, float]:
    """Share of a call's time in each of `GROUPS`, from the profiler; the rest is "other"."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        run()
    group_of = {operator: name for name, operators in GROUPS.items() for operator in operators}
    spent, events = dict.fromkeys(GROUPS, 0.0), profiler.events()
    whole = sum(event.self_cpu_time_total for event in events)
    for event in events:
        if event.key in group_of and not any(parent.key in group_of for parent in _parents(event)):
            spent[group_of[event.key]] += event.cpu_time_total
    found = {name: seconds / whole for name, seconds in spent.items()}
    return found | {"other": 1 - sum(found.values())}


def _parents(event):
    while (event := event.cpu_parent) is not None:
        yield event

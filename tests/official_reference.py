"""Forward passes of official models, written out step by step from their description and without any of our modules.

`flux_forward` is checked against recorded outputs of the official code in tests/test_conversion.py.
"""

import torch
from torch.nn import functional as F

RMS_EPS = 1e-6


def backbone_weights(
    *,
    width: int,
    depth: int,
    patch: int = 14,
    tubelet: int = 1,
    table: tuple[int, int] | None,
    biases: bool = False,
    seed: int = 0,
) -> dict[str, torch.Tensor]:
    """Random weights of the ViT that FluxViT and InternVideo2 share, under the official names; with `biases`, of the
    ViT of UMT and VideoMAE. `table` is (frames, side) of a learned position table."""
    rand = _random(seed)
    weights = {
        "patch_embed.proj.weight": rand(width, 3, tubelet, patch, patch) * 0.05,
        "patch_embed.proj.bias": rand(width) * 0.1,
    }
    if table:
        weights["cls_token"] = rand(1, 1, width)
        weights["pos_embed"] = rand(1, 1 + table[0] * table[1] ** 2, width) * 0.5
    for index in range(depth):
        block = {
            "norm1.weight": 1 + 0.1 * rand(width),
            "attn.qkv.weight": rand(3 * width, width) * width**-0.5,
            "attn.proj.weight": rand(width, width) * width**-0.5,
            "attn.proj.bias": rand(width) * 0.1,
            "norm2.weight": 1 + 0.1 * rand(width),
            "mlp.fc1.weight": rand(4 * width, width) * width**-0.5,
            "mlp.fc1.bias": rand(4 * width) * 0.1,
            "mlp.fc2.weight": rand(width, 4 * width) * (4 * width) ** -0.5,
            "mlp.fc2.bias": rand(width) * 0.1,
        }
        if biases:
            block |= {"attn.q_bias": rand(width), "attn.v_bias": rand(width)}
            block |= {"norm1.bias": rand(width), "norm2.bias": rand(width)}
        else:
            block |= {"attn.q_norm.weight": 1 + 0.1 * rand(width), "attn.k_norm.weight": 1 + 0.1 * rand(width)}
            block |= {"ls1.gamma": 0.3 + 0.1 * rand(width), "ls2.gamma": 0.3 + 0.1 * rand(width)}
        weights |= {f"blocks.{index}.{name}": tensor for name, tensor in block.items()}
    return weights


def pooling_weights(width: int, projection: int, classes: int, head: str, seed: int = 1) -> dict[str, torch.Tensor]:
    """Random weights of one pooling head and classifier; `head` is "" (InternVideo2) or "0.", "1.", "2." (FluxViT)."""
    rand = _random(seed)
    weights = {f"head.{head}weight": rand(classes, projection) * 0.1, f"head.{head}bias": rand(classes) * 0.1}
    projector = f"clip_projector.{head}"
    for letter in "qkv":
        weights[f"{projector}norm1_{letter}.weight"] = 1 + 0.1 * rand(width)
        weights[f"{projector}norm1_{letter}.bias"] = 0.1 * rand(width)
        weights[f"{projector}cross_attn.{letter}.weight"] = rand(width, width) * width**-0.5
        weights[f"{projector}cross_attn.{letter}_bias"] = 0.1 * rand(width)
    weights[f"{projector}cross_attn.proj.weight"] = rand(projection, width) * width**-0.5
    weights[f"{projector}cross_attn.proj.bias"] = 0.1 * rand(projection)
    return weights


def flux_weights(
    *, width: int, depth: int, table: tuple[int, int], classes: int, projection: int = 768, seed: int = 0
) -> dict[str, torch.Tensor]:
    """Random weights of a whole FluxViT under the official names."""
    rand = _random(seed + 1000)
    weights = backbone_weights(width=width, depth=depth, table=table, seed=seed)
    weights["patch_embed.norm_before.weight"] = 1 + 0.1 * rand(588)
    weights["patch_embed.norm.weight"] = 1 + 0.1 * rand(width)
    for name in ["gpe_proj", *(f"blocks.{index}.attn.lpe" for index in range(depth))]:
        weights[f"{name}.depthwise_conv.weight"] = 0.5 + 0.1 * rand(width, 1, 1, 1, 1)
        weights[f"{name}.depthwise_conv.bias"] = 0.1 * rand(width)
    for head in range(3):
        weights |= pooling_weights(width, projection, classes, f"{head}.", seed + head)
    weights |= {"fc_norm.weight": 1 + 0.1 * rand(projection), "fc_norm.bias": 0.1 * rand(projection)}
    for index in range(2):
        name = f"final_clip_decoder_for_projs.{index}"
        weights |= {f"{name}.head.weight": rand(projection, projection) * 0.03, f"{name}.head.bias": rand(projection)}
        weights |= {f"{name}.norm.weight": 1 + 0.1 * rand(projection), f"{name}.norm.bias": rand(projection)}
    return weights


@torch.no_grad()
def flux_forward(
    weights: dict[str, torch.Tensor],
    video: torch.Tensor,
    *,
    table: tuple[int, int],
    heads: int,
    budget: int | None = None,
    pooler_heads: int = 16,
    act: str = "tanh",
) -> tuple[list[torch.Tensor], torch.Tensor | None]:
    """Logits of every head and the mask of kept tokens, for (batch, channels, frames, side, side)."""
    tokens = flux_patches(weights, video)
    batch, frames, area, width = tokens.shape
    keep = None if budget is None or budget >= frames * area else kept_tokens(tokens, budget)
    positions = flux_positions(weights, table, frames, round(area**0.5))
    tokens = torch.cat([weights["cls_token"].expand(batch, -1, -1), tokens.flatten(1, 2)], 1) + positions
    if keep is not None:
        mask = torch.cat([torch.ones(batch, 1, dtype=torch.bool), keep], 1)
        tokens = tokens[mask].reshape(batch, -1, width)
    tokens = encode(weights, tokens, heads, act)
    return [classify(weights, tokens, f"{head}.", pooler_heads) for head in range(3)], keep


def flux_patches(weights: dict[str, torch.Tensor], video: torch.Tensor) -> torch.Tensor:
    """(batch, channels, frames, side, side) -> (batch, frames, patches, width), between the two norms."""
    batch, channels, frames, side, _ = video.shape
    rows = side // 14
    cells = video.reshape(batch, channels, frames, rows, 14, rows, 14).permute(0, 2, 3, 5, 4, 6, 1)
    cells = rms(cells.flatten(4), weights["patch_embed.norm_before.weight"])
    cells = cells.reshape(batch, frames, rows, rows, 14, 14, channels).permute(0, 6, 1, 2, 4, 3, 5)
    normed = cells.reshape(batch, channels, frames, side, side)
    return rms(patches(weights, normed), weights["patch_embed.norm.weight"])


def patches(weights: dict[str, torch.Tensor], video: torch.Tensor) -> torch.Tensor:
    """The patch convolution, (batch, frames, patches, width)."""
    kernel = weights["patch_embed.proj.weight"]
    embedded = F.conv3d(video, kernel, weights["patch_embed.proj.bias"], stride=kernel.shape[2:])
    return embedded.flatten(3).permute(0, 2, 3, 1)


def kept_tokens(tokens: torch.Tensor, budget: int) -> torch.Tensor:
    """Group by group the tokens that differ most from the frame before; exactly `budget` in all."""
    batch, frames, area, _ = tokens.shape
    groups = 4 if frames % 4 == 0 and frames > 4 else 2 if frames % 2 == 0 and frames > 2 else 1
    keep = torch.zeros(batch, frames * area, dtype=torch.bool)
    length = frames // groups
    for row in range(batch):
        for group in range(groups):
            part = tokens[row, group * length : (group + 1) * length]
            change = [(part[t] - part[t - 1]).pow(2).sum(-1).sqrt() for t in range(1, length)]
            scores = torch.cat([change[0], *change]).tolist()
            count = budget // groups + (group < budget % groups)
            best = sorted(range(length * area), key=lambda index, scores=scores: (-scores[index], index))[:count]
            keep[row, [group * length * area + index for index in best]] = True
    return keep


def flux_positions(weights: dict[str, torch.Tensor], table: tuple[int, int], frames: int, rows: int) -> torch.Tensor:
    """Learned table through the GPE convolution, then linear in time and bicubic in space; cls first."""
    cls, grid = weights["pos_embed"][:, :1], weights["pos_embed"][0, 1:]
    width = grid.shape[1]
    grid = grid.T.reshape(1, width, table[0], table[1], table[1])
    grid = F.conv3d(
        grid, weights["gpe_proj.depthwise_conv.weight"], weights["gpe_proj.depthwise_conv.bias"], groups=width
    )
    if frames != table[0]:
        grid = F.interpolate(grid.flatten(3).flatten(0, 1).permute(0, 2, 1), size=frames, mode="linear")
        grid = grid.permute(0, 2, 1).reshape(1, width, frames, table[1], table[1])
    if rows != table[1]:
        grid = F.interpolate(grid[0].transpose(0, 1), size=(rows, rows), mode="bicubic").transpose(0, 1)[None]
    return torch.cat([cls, grid.flatten(2).transpose(1, 2)], 1)


def encode(weights: dict[str, torch.Tensor], x: torch.Tensor, heads: int, act: str = "tanh") -> torch.Tensor:
    """All blocks; LPE where there are weights for it."""
    depth = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("blocks."))
    for index in range(depth):
        block = {
            name.removeprefix(f"blocks.{index}."): w
            for name, w in weights.items()
            if name.startswith(f"blocks.{index}.")
        }
        x = x + block["ls1.gamma"] * _attention(block, rms(x, block["norm1.weight"]), heads)
        hidden = F.linear(rms(x, block["norm2.weight"]), block["mlp.fc1.weight"], block["mlp.fc1.bias"])
        hidden = F.gelu(hidden, approximate=act)
        x = x + block["ls2.gamma"] * F.linear(hidden, block["mlp.fc2.weight"], block["mlp.fc2.bias"])
    return x


def _attention(block: dict[str, torch.Tensor], x: torch.Tensor, heads: int) -> torch.Tensor:
    batch, length, width = x.shape
    q, k, value = F.linear(x, block["attn.qkv.weight"]).split(width, dim=-1)
    q, k = rms(q, block["attn.q_norm.weight"]), rms(k, block["attn.k_norm.weight"])
    q, k, v = (part.reshape(batch, length, heads, -1).transpose(1, 2) for part in (q, k, value))
    scores = q @ k.transpose(-2, -1) / (width // heads) ** 0.5
    out = (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, length, width)
    if "attn.lpe.depthwise_conv.weight" in block:
        out = out + value * block["attn.lpe.depthwise_conv.weight"].flatten() + block["attn.lpe.depthwise_conv.bias"]
    return F.linear(out, block["attn.proj.weight"], block["attn.proj.bias"])


def pool(weights: dict[str, torch.Tensor], x: torch.Tensor, head: str, heads: int) -> torch.Tensor:
    """Attention pooling of the tokens, (batch, projection)."""
    prefix = f"clip_projector.{head}"
    projected = {}
    for letter, tokens in (("q", x.mean(1, keepdim=True)), ("k", x), ("v", x)):
        norm = [weights[f"{prefix}norm1_{letter}.{part}"] for part in ("weight", "bias")]
        normed = F.layer_norm(tokens, x.shape[-1:], *norm)
        linear = F.linear(
            normed, weights[f"{prefix}cross_attn.{letter}.weight"], weights[f"{prefix}cross_attn.{letter}_bias"]
        )
        projected[letter] = linear.reshape(*linear.shape[:2], heads, -1).transpose(1, 2)
    scores = projected["q"] @ projected["k"].transpose(-2, -1) * (x.shape[-1] // heads) ** -0.5
    out = (scores.softmax(-1) @ projected["v"]).transpose(1, 2).reshape(x.shape[0], -1)
    return F.linear(out, weights[f"{prefix}cross_attn.proj.weight"], weights[f"{prefix}cross_attn.proj.bias"])


def classify(weights: dict[str, torch.Tensor], x: torch.Tensor, head: str, heads: int) -> torch.Tensor:
    """Logits of one head."""
    pooled = pool(weights, x, head, heads)
    normed = F.layer_norm(pooled, pooled.shape[-1:], weights["fc_norm.weight"], weights["fc_norm.bias"])
    return F.linear(normed, weights[f"head.{head}weight"], weights[f"head.{head}bias"])


def rms(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + RMS_EPS) * weight


def _random(seed: int):
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.randn(*shape, generator=generator)

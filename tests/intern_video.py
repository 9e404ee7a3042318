"""A video classifier with code of its own, in the shape of InternVideo2: one module, no configuration."""

import torch
from torch import nn


class Attention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(width), nn.RMSNorm(width)
        self.attn = Attention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class AttentionPool(nn.Module):
    """The mean of the tokens asks all of them."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.cross_attn = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.cross_attn(x.mean(1, keepdim=True), x, x, need_weights=False)[0][:, 0]


class InternVideo(nn.Module):
    def __init__(self, img_size=56, patch_size=14, num_frames=4, width=32, depth=2, heads=2, num_classes=5):
        super().__init__()
        self.img_size, self.patch_size, self.num_frames = img_size, patch_size, num_frames
        tokens = num_frames * (img_size // patch_size) ** 2
        cube = (1, patch_size, patch_size)
        self.patch_embed = nn.Conv3d(3, width, cube, stride=cube)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + tokens, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.clip_projector = AttentionPool(width, heads)
        self.fc_norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, channels, frames, height, width) -> logits"""
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.head(self.fc_norm(self.clip_projector(x)))

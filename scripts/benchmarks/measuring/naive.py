"""The forward as the official implementation does it without fused kernels: what our model is compared with.

Written from a description of its arithmetic, on the weights of our model: patches through a 3-d convolution, positions
interpolated at every forward, attention with explicit weights, norms and residuals step by step, the local position
embedding as a depth-wise 1x1x1 convolution, tokens taken by a boolean mask.
"""

import torch
from torch import nn
from torch.nn import functional as F

from flux_hf.modeling.modeling_fluxvit import FluxViTForVideoClassification
from flux_hf.modeling.position_embedding_fluxvit import interpolate_positions
from flux_hf.modeling.token_selection_fluxvit import group_count


class NaiveForward:
    """Callable (pixels (batch, frames, channels, height, width), token budget) -> logits (batch, labels)."""

    def __init__(self, model: FluxViTForVideoClassification):
        self.model, self.config = model, model.config
        size, channels = self.config.patch_size, self.config.num_channels
        weight = model.fluxvit.embeddings.patch_embedding.projection.weight
        self.kernel = weight.detach().unflatten(1, (size, size, channels)).permute(0, 3, 1, 2)[:, :, None].contiguous()

    def __call__(self, pixels: torch.Tensor, token_budget: int) -> torch.Tensor:
        model = self.model.fluxvit
        embedded = self._patches(pixels)
        batch, frames, rows, columns, width = embedded.shape
        position = model.embeddings.position_embedding
        table = _depthwise(position.table[None], position.weight, position.bias)[0]
        table = interpolate_positions(table, position.stored_grid, (frames, rows, columns))
        tokens = torch.cat([model.embeddings.cls_token.expand(batch, -1, -1), embedded.flatten(1, 3)], 1)
        tokens = tokens + torch.cat([position.cls, table[None]], 1)
        keep = torch.cat([torch.ones(batch, 1, dtype=torch.bool), self._mask(embedded, token_budget)], 1)
        tokens = tokens[keep].reshape(batch, -1, width)
        for layer in model.encoder.layers:
            tokens = tokens + self._attention(layer.attention, _rms_norm(tokens, layer.attention_norm)) * (
                layer.attention_scale.weight
            )
            tokens = tokens + layer.mlp(_rms_norm(tokens, layer.mlp_norm)) * layer.mlp_scale.weight
        head = model.resolve_head(tokens.shape[1] - 1)
        return self.model.classifier(self.model.classifier_norm(_pooled(tokens, model.poolers[head])), head)

    def _patches(self, pixels: torch.Tensor) -> torch.Tensor:
        """Cut into vectors, normalised, put back to pictures, convolved, normalised."""
        embedding, size = self.model.fluxvit.embeddings.patch_embedding, self.config.patch_size
        batch, frames, channels, height, width = pixels.shape
        rows, columns = height // size, width // size
        vectors = pixels.reshape(batch, frames, channels, rows, size, columns, size).permute(0, 1, 3, 5, 4, 6, 2)
        vectors = _rms_norm(vectors.flatten(4), embedding.norm_before).unflatten(4, (size, size, channels))
        video = vectors.permute(0, 6, 1, 2, 4, 3, 5).reshape(batch, channels, frames, height, width)
        out = F.conv3d(video, self.kernel, embedding.projection.bias, stride=(1, size, size))
        return _rms_norm(out.permute(0, 2, 3, 4, 1), embedding.norm_after)

    def _mask(self, embedded: torch.Tensor, token_budget: int) -> torch.Tensor:
        batch, frames, rows, columns, width = embedded.shape
        if token_budget >= frames * rows * columns:
            return torch.ones(batch, frames * rows * columns, dtype=torch.bool)
        groups = group_count(frames)
        grouped = embedded.reshape(batch * groups, frames // groups, rows * columns, width)
        change = (grouped[:, 1:] - grouped[:, :-1]).norm(dim=-1)
        scores = torch.cat([change[:, :1], change], 1).flatten(1)
        order = scores.argsort(1, descending=True)[:, : token_budget // groups]
        mask = torch.zeros_like(scores, dtype=torch.bool).scatter_(1, order, True)
        return mask.reshape(batch, -1)

    def _attention(self, attention, tokens: torch.Tensor) -> torch.Tensor:
        batch, count, width = tokens.shape
        projections = torch.cat([part.weight for part in (attention.query, attention.key, attention.value)])
        query, key, value = F.linear(tokens, projections).chunk(3, -1)
        query, key = _rms_norm(query, attention.query_norm), _rms_norm(key, attention.key_norm)
        heads = [x.reshape(batch, count, -1, attention.head_dim).transpose(1, 2) for x in (query, key, value)]
        weights = (heads[0] * attention.scaling @ heads[1].transpose(-2, -1)).softmax(-1)
        attended = (weights @ heads[2]).transpose(1, 2).reshape(batch, count, width)
        local = attention.local_position
        return attention.output(attended + _depthwise(value, local.weight, local.bias))


def _rms_norm(x: torch.Tensor, norm: nn.RMSNorm) -> torch.Tensor:
    normed = x.float() * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + norm.eps)
    return norm.weight * normed.to(x.dtype)


def _depthwise(tokens: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """(batch, tokens, channels) through a 1x1x1 convolution of every channel by itself."""
    video = tokens.transpose(1, 2)[:, :, None, :, None]
    return F.conv3d(video, weight[:, None, None, None, None], bias, groups=len(weight))[:, :, 0, :, 0].transpose(1, 2)


def _pooled(tokens: torch.Tensor, pooler) -> torch.Tensor:
    query = pooler.query(pooler.query_norm(tokens.mean(1, keepdim=True)))
    key, value = pooler.key(pooler.key_norm(tokens)), pooler.value(pooler.value_norm(tokens))
    query, key, value = (x.unflatten(-1, (pooler.num_heads, -1)).transpose(1, 2) for x in (query, key, value))
    weights = (query * query.shape[-1] ** -0.5 @ key.transpose(-2, -1)).softmax(-1)
    return pooler.output((weights @ value).transpose(1, 2).flatten(1))

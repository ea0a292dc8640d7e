"""Attention masks: True = this query may attend to this key."""

from __future__ import annotations

import torch
from torch import Tensor


def chunk_mask(
    num_queries: int,
    num_keys: int,
    chunk: int,
    left_chunks: int | None = None,
    *,
    device: torch.device | str | None = None,
) -> Tensor:
    """Streaming mask: a query sees everything up to the end of its own chunk.

    Args:
        num_queries: number of queries; they are the last of the keys' positions.
        num_keys: number of keys, counted from a chunk boundary.
        chunk: positions per chunk.
        left_chunks: whole chunks visible before the query's own; None = all.
        device: where to put the mask.

    Returns:
        bool (num_queries, num_keys).
    """
    keys = torch.arange(num_keys, device=device)[None, :] // chunk
    queries = torch.arange(num_keys - num_queries, num_keys, device=device)[:, None] // chunk
    mask = keys <= queries
    return mask if left_chunks is None else mask & (keys >= queries - left_chunks)


def attention_mask(chunks: Tensor | None, padding: Tensor | None) -> Tensor | None:
    """Join a chunk mask and a padding mask into one that broadcasts over heads.

    Args:
        chunks: bool (T, K) or (B, T, K), or None = everything is visible.
        padding: bool (B, K), False = padding, or None.

    Returns:
        bool (B or 1, 1, T or 1, K), or None when nothing is hidden.
    """
    mask = None
    if chunks is not None:
        mask = chunks[None, None] if chunks.dim() == 2 else chunks[:, None]
    if padding is not None:
        keys = padding[:, None, None, :]
        mask = keys if mask is None else mask & keys
    if mask is not None:
        # A padded query may see no key at all; let it see every one, else softmax gives NaN.
        mask = mask | ~mask.any(dim=-1, keepdim=True)
    return mask

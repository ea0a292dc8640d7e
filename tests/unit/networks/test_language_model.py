from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mynah.networks.language_model import TextPointer
from tests.lm_models import tiny_module


def _pointer() -> TextPointer:
    pointer = tiny_module("pointer").pointer
    assert pointer is not None
    return pointer


def _features(text: Tensor, position: int, dwell: int, lengths: Tensor | None = None) -> Tensor:
    with torch.no_grad():
        index = torch.full((len(text), 1), position)
        return _pointer().features(text, index, torch.full_like(index, dwell), lengths)


def test_the_window_is_zero_outside_the_text() -> None:
    text = torch.randn(1, 3, 32)
    pointer = _pointer()
    for position in range(3):
        seen = [
            text[0, i] if 0 <= i < 3 else torch.zeros(32) for i in range(position - 1, position + 3)
        ]
        with torch.no_grad():
            expected = pointer.window(torch.cat(seen)) + pointer.dwell.weight[2]
        torch.testing.assert_close(_features(text, position, 2)[0, 0], expected)


def test_dwell_is_counted_up_to_its_limit() -> None:
    text = torch.randn(1, 3, 32)
    limit = _pointer().config.max_dwell
    torch.testing.assert_close(_features(text, 1, limit), _features(text, 1, limit + 50))
    assert not torch.equal(_features(text, 1, limit), _features(text, 1, limit - 1))


def test_padding_behind_a_text_is_not_seen() -> None:
    text = torch.randn(1, 3, 32)
    padded = torch.cat([text, torch.randn(1, 4, 32)], dim=1)
    features = _features(padded, 2, 0, lengths=torch.tensor([3]))
    torch.testing.assert_close(features, _features(text, 2, 0))
    assert not torch.equal(_features(padded, 2, 0), features)


def test_the_move_depends_on_state_and_token() -> None:
    pointer, hidden = _pointer(), torch.randn(2, 5, 32)
    tokens = torch.arange(10).view(2, 5)
    with torch.no_grad():
        scores = pointer.advance_logits(hidden, tokens)
        assert scores.shape == (2, 5, pointer.config.max_advance + 2)
        assert not torch.equal(scores, pointer.advance_logits(hidden, tokens + 1))


def test_the_speaker_vector_is_normalised() -> None:
    module, vector = tiny_module("speaker"), torch.randn(1, 12)
    with torch.no_grad():
        embedded = module.embed_speaker(vector)
        assert embedded.shape == (1, 1, 32)
        torch.testing.assert_close(embedded, module.embed_speaker(7 * vector))
    with pytest.raises(ValueError, match="no speaker"):
        tiny_module("plain").embed_speaker(vector)


@pytest.mark.parametrize("kind", ["plain", "pointer"], ids=["grouped keys", "equal heads"])
def test_a_mask_equals_the_causal_default(kind: str) -> None:
    module, x = tiny_module(kind), torch.randn(2, 5, 32)
    with torch.no_grad():
        causal, _ = module(x)
        masked, _ = module(x, mask=torch.ones(5, 5, dtype=torch.bool).tril())
        per_row, _ = module(x, mask=torch.ones(2, 5, 5, dtype=torch.bool).tril())
    torch.testing.assert_close(masked, causal)
    torch.testing.assert_close(per_row, causal)


def test_every_parameter_learns() -> None:
    module = tiny_module("pointer-speaker").train()
    pointer = module.pointer
    assert pointer is not None
    text, tokens = torch.arange(6).view(2, 3), torch.arange(8).view(2, 4)
    embedded = module.embed_text(text)
    index = torch.tensor([[0, 0, 1, 2]]).expand(2, 4)
    speech = torch.cat(
        [module.embed_marker(torch.ones(2, 1, dtype=torch.int64)), module.embed_speech(tokens)], 1
    )[:, :4] + pointer.features(embedded, index, index)
    prefix = [
        module.embed_marker(torch.zeros(2, 1, dtype=torch.int64)),
        module.embed_speaker(torch.randn(2, 12)),
        embedded,
    ]
    hidden, _ = module(torch.cat([*prefix, speech], dim=1))
    spoken = hidden[:, 5:]
    loss = module.logits(spoken).square().mean()
    loss = loss + pointer.advance_logits(spoken, tokens).square().mean()
    torch.autograd.backward(loss)
    without = [name for name, p in module.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []

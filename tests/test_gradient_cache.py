"""Gradient caching: the gradients of a whole batch, from the memory of a chunk."""

import pytest
import torch

from flux_hf.text.gradient_cache import cached_backward
from tests.tiny_clip import BUDGETS, tiny_clip, tiny_pairs

LABELS = torch.tensor([0, 1, 2, 0, 4, 5, 4])


def gradients(model) -> dict[str, torch.Tensor]:
    return {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}


def assert_same(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=2e-6, rtol=1e-4, msg=lambda text: f"{name}: {text}")  # noqa: B023 (at once)


def pairs_at_three_budgets() -> dict:
    pairs = tiny_pairs(7)
    return pairs | {"pixel_values_videos": pairs["pixel_values_videos"].double(), "token_budgets": [*BUDGETS, 10]}


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
@pytest.mark.parametrize("pairs_at_once", [1, 3, 7, 100])
def test_gradients_are_those_of_the_whole_batch(loss, pairs_at_once):
    """Of every parameter, the temperature included, with a text tower that learns, several budgets and soft targets."""
    model = tiny_clip(loss=loss, freeze_text=False, logit_scale_init=5).double().train()
    model.text_model.eval()  # no dropout: a whole batch and its chunks draw different numbers
    batch = pairs_at_three_budgets()
    expected_parts = model.loss_parts(model(**batch), LABELS)
    sum(expected_parts.values()).backward()
    expected = gradients(model)
    model.zero_grad()
    parts = cached_backward(model, batch, pairs_at_once, lambda output: model.loss_parts(output, LABELS))
    assert_same(gradients(model), expected)
    assert parts.keys() == expected_parts.keys() == {"loss_0", "loss_1", "loss_2", "alignment_1", "alignment_2"}
    for name, part in parts.items():
        assert part.item() == pytest.approx(expected_parts[name].item(), rel=1e-5)


def test_the_second_run_draws_the_numbers_of_the_first():
    """Dropout and drop path: gradients of one chunk are those of a plain step from the same state of the generator; the
    generator goes on from there."""
    model = tiny_clip(freeze_text=False, logit_scale_init=5).train()
    for layer in model.vision_model.encoder.layers:
        layer.drop_path_rate = 0.5
    batch = tiny_pairs(6)
    torch.manual_seed(3)
    sum(model.loss_parts(model(**batch)).values()).backward()
    expected, after = gradients(model), torch.rand(1)
    model.zero_grad()
    torch.manual_seed(3)
    cached_backward(model, batch, 6, model.loss_parts)
    assert_same(gradients(model), expected)
    assert torch.equal(torch.rand(1), after)
    torch.manual_seed(4)
    model.zero_grad()
    cached_backward(model, batch, 6, model.loss_parts)
    assert not torch.allclose(model.video_projection.weight.grad, expected["video_projection.weight"])


def test_gradients_are_added_to_what_is_there():
    model, batch = tiny_clip(logit_scale_init=5).train(), tiny_pairs(4)
    cached_backward(model, batch, 2, model.loss_parts)
    once = gradients(model)
    cached_backward(model, batch, 2, model.loss_parts, backward=lambda loss: (loss * 2).backward())
    assert_same(gradients(model), {name: 3 * gradient for name, gradient in once.items()})


def peak_of_saved_tensors(step) -> int:
    """Bytes that the graph of `step` holds at most."""
    held, most = 0, 0

    class Held:
        def __init__(self, tensor):
            nonlocal held, most
            self.tensor, self.size = tensor, 0 if isinstance(tensor, torch.nn.Parameter) else tensor.nbytes
            held += self.size
            most = max(most, held)

        def __del__(self):
            nonlocal held
            held -= self.size

    with torch.autograd.graph.saved_tensors_hooks(Held, lambda kept: kept.tensor):
        step()
    return most


def test_memory_is_that_of_a_chunk():
    """32 pairs in chunks of 2 hold less than 4 in one piece; in one piece they hold eight times as much."""
    model = tiny_clip().train()

    def plain(pairs):
        return peak_of_saved_tensors(lambda: sum(model.loss_parts(model(**tiny_pairs(pairs))).values()).backward())

    few, many = plain(4), plain(32)
    cached = peak_of_saved_tensors(lambda: cached_backward(model, tiny_pairs(32), 2, model.loss_parts))
    assert many > 7 * few
    assert cached < few


def test_frozen_texts_that_were_kept():
    """`text_features` instead of tokens, which need no gradient."""
    model, batch = tiny_clip(logit_scale_init=5).train(), tiny_pairs(5)
    with torch.no_grad():
        texts = model.text_features(batch["input_ids"], batch["attention_mask"])
    model(**batch, return_loss=True).loss.backward()
    expected = gradients(model)
    model.zero_grad()
    batch = {"pixel_values_videos": batch["pixel_values_videos"], "text_features": texts}
    cached_backward(model, batch, 2, model.loss_parts)
    assert_same(gradients(model), expected)


@pytest.mark.parametrize(
    ("change", "pairs_at_once", "message"),
    [
        ({}, 0, "pairs_at_once must be at least 1, got 0"),
        ({"attention_mask": torch.ones(3, 6)}, 2, "same number of rows, got .*'attention_mask': 3"),
    ],
)
def test_batches_that_do_not_fit(change, pairs_at_once, message):
    model = tiny_clip()
    with pytest.raises(ValueError, match=message):
        cached_backward(model, tiny_pairs(4) | change, pairs_at_once, model.loss_parts)

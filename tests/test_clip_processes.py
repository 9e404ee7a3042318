"""The contrastive loss over two processes, each with half of the pairs: real processes, gloo, on CPU."""

import pytest
import torch

from tests.tiny_clip import BUDGETS, tiny_clip, tiny_pairs

pytestmark = pytest.mark.slow

LABELS = [0, 1, 2, 0, 4, 4]
STEPS = """
import sys

import torch
from torch.nn.parallel import DistributedDataParallel

from flux_hf.text.gradient_cache import cached_backward
from tests.test_clip_processes import LABELS, case, share_of, tiny_pairs
from tests.two_ranks import run_two_ranks

def step(rank):
    found = {}
    for loss in ("softmax", "sigmoid"):
        for cached in (False, True):
            model, batch = case(loss)
            batch, labels = share_of(rank, batch), torch.tensor(LABELS[3 * rank : 3 * rank + 3])
            wrapped = DistributedDataParallel(model, find_unused_parameters=True)
            if cached:
                parts = cached_backward(wrapped, batch, 2, lambda output: model.loss_parts(output, labels))
                value = sum(parts.values())
            else:
                value = wrapped(**batch, labels=labels).loss
                value.backward()
            gradients = {name: each.grad for name, each in model.named_parameters() if each.grad is not None}
            found[loss, cached] = (value.detach(), gradients)
    model, batch = case("softmax")
    model.eval()
    found["alone"] = model(**batch, return_loss=True).loss.detach() if rank == 0 else None
    model.train().text_model.eval()
    with torch.no_grad():
        found["no labels"] = model(**share_of(rank, batch), return_loss=True).loss
    try:
        model(**tiny_pairs(2 + rank), return_loss=True)
    except ValueError as error:
        found["error"] = str(error)
    return found

if __name__ == "__main__":
    run_two_ranks(step, sys.argv[1])
"""


def case(loss: str):
    """A model without dropout whose text tower learns, and a batch at two budgets."""
    model = tiny_clip(loss=loss, freeze_text=False, logit_scale_init=5).train()
    model.text_model.eval()
    return model, tiny_pairs(6) | {"token_budgets": BUDGETS}


def share_of(rank: int, batch: dict) -> dict:
    return {name: value[3 * rank : 3 * rank + 3] if torch.is_tensor(value) else value for name, value in batch.items()}


@pytest.fixture(scope="module")
def two_processes(warm_python, tmp_path_factory) -> list[dict]:
    """What each of them found."""
    folder = tmp_path_factory.mktemp("gloo")
    done = warm_python.run(STEPS, str(folder / "store"), cwd=folder)
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"store.{rank}") for rank in range(2)]


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
@pytest.mark.parametrize("cached", [False, True], ids=["plain", "cached"])
def test_loss_and_gradients_are_those_of_one_process(two_processes, loss, cached):
    model, batch = case(loss)
    expected = model(**batch, labels=torch.tensor(LABELS)).loss
    expected.backward()
    (first, gradients), (second, others) = (found[loss, cached] for found in two_processes)
    assert (first + second).item() / 2 == pytest.approx(expected.item(), rel=1e-5)
    names = {name for name, each in model.named_parameters() if each.grad is not None}
    assert names == gradients.keys() == others.keys()
    assert {"logit_scale", "text_projection.weight", "video_projection.weight"} < names
    for name, parameter in model.named_parameters():
        if name in names:
            torch.testing.assert_close(gradients[name], parameter.grad, atol=2e-6, rtol=1e-4)
            assert torch.equal(gradients[name], others[name]), name


def test_without_labels_no_two_rows_of_the_processes_belong_together(two_processes):
    model, batch = case("softmax")
    with torch.no_grad():
        expected = model(**batch, return_loss=True).loss.item()
    assert sum(found["no labels"].item() for found in two_processes) / 2 == pytest.approx(expected, rel=1e-5)


def test_in_evaluation_a_process_may_be_alone(two_processes):
    """One process that evaluates waits for no other."""
    model, batch = case("softmax")
    with torch.no_grad():
        expected = model.eval()(**batch, return_loss=True).loss
    assert two_processes[0]["alone"].item() == pytest.approx(expected.item(), rel=1e-6)


def test_batches_of_different_sizes_are_an_error_everywhere(two_processes):
    for found in two_processes:
        assert found["error"] == "every process must have the same number of pairs, they have 2 to 3"

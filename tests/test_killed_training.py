"""Training that is killed at any moment ends with the weights of training that was not. `tests.killed_runs` does more."""

import pytest

from tests import killed_runs

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("command", ["finetune", "pretrain"])
def test_killed_runs_end_with_the_same_weights(command):
    assert killed_runs.main(command, 4)["writing a checkpoint"] >= 2

"""Training that is killed at any moment goes on to the weights of training that was not: `tests.killed_runs`."""

import pytest

from tests import killed_runs

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("command", ["finetune", "pretrain"])
def test_killed_runs_end_with_the_same_weights(command):
    assert killed_runs.main(command, 4).total() == 4

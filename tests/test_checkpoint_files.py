"""Reading `.pth` files: wrapped in every way, and none that could run code."""

import argparse

import pytest
import torch

from flux_hf.conversion import read_state_dict
from tests import official_reference as official


@pytest.fixture(scope="module")
def flux_weights():
    return official.flux_weights(width=32, depth=1, table=(4, 4), classes=3, projection=24)


class Elsewhere:
    """Something that a checkpoint must not hold."""


@pytest.mark.parametrize("wrapper", [None, "module", "model", "state_dict"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_wrapped_files(flux_weights, tmp_path, wrapper, prefix):
    content = {prefix + key: tensor for key, tensor in flux_weights.items()}
    if wrapper:
        content = {"epoch": 3, wrapper: content, "args": argparse.Namespace(lr=1e-3), "optimizer": {"state": {}}}
    torch.save(content, tmp_path / "official.pth")
    read = read_state_dict(tmp_path / "official.pth")
    assert read.keys() == flux_weights.keys()
    assert all(torch.equal(read[key], flux_weights[key]) for key in read)


def test_files_of_older_pytorch(flux_weights, tmp_path):
    torch.save({"module": flux_weights}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert read_state_dict(tmp_path / "old.pth").keys() == flux_weights.keys()


def test_pickles_are_refused(flux_weights, tmp_path):
    torch.save({"module": flux_weights, "args": Elsewhere()}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match=r"evil\.pth is refused.*test_checkpoint_files\.Elsewhere.*state_dict\(\)"):
        read_state_dict(tmp_path / "evil.pth")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"weights": {"a": torch.zeros(1)}, "epoch": 1}, r"no state dict.*module, model, state_dict.*weights, epoch"),
        ([torch.zeros(1)], "holds a list, expected a dictionary"),
    ],
)
def test_files_without_a_state_dict(tmp_path, content, message):
    torch.save(content, tmp_path / "file.pth")
    with pytest.raises(ValueError, match=message):
        read_state_dict(tmp_path / "file.pth")


def test_files_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.pth is not a file"):
        read_state_dict(tmp_path / "absent.pth")
    torch.save({"module": {"a": torch.zeros(1000)}}, tmp_path / "whole.pth")
    for name, content in {
        "cut.pth": (tmp_path / "whole.pth").read_bytes()[:2000],
        "text.pth": b"<html>Sign in</html>",
        "empty.pth": b"",
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=name.replace(".", r"\.")):
            read_state_dict(tmp_path / name)

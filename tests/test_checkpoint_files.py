"""Reading `.pth` files: wrapped in every way, and none that could run code."""

import argparse
import io
import json
import os
import pickle
import struct
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

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


class RunsCode:
    """A pickle that makes the folder `WHERE` when it is run."""

    WHERE = ""

    def __reduce__(self):
        return os.mkdir, (self.WHERE,)


def changed(content, change) -> bytes:
    """A file of torch.save, with `change` made to its entries by name."""
    file, again = io.BytesIO(), io.BytesIO()
    torch.save(content, file)
    with zipfile.ZipFile(file) as archive:
        entries = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    change(entries)
    with zipfile.ZipFile(again, "w") as archive:
        for name, entry in entries.items():
            archive.writestr(f"archive/{name}", entry)
    return again.getvalue()


def saved(content, **options) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def archived(**entries) -> bytes:
    """A tar archive."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, entry in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(entry)
            archive.addfile(info, io.BytesIO(entry))
    return file.getvalue()


def bomb() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**7))
    return file.getvalue()


def with_header(header: dict | bytes, length: int | None = None) -> bytes:
    """A safetensors file of 4 bytes of numbers."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + bytes(4)


WEIGHTS = {"model": {"a": torch.ones(1000)}}
ENTRY = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
HOSTILE = {
    "code.pth": lambda: saved(WEIGHTS | {"x": RunsCode()}),
    "code_of_old_pytorch.pth": lambda: saved(WEIGHTS | {"x": RunsCode()}, _use_new_zipfile_serialization=False),
    "plain.pth": lambda: pickle.dumps(RunsCode()),
    "plain0.pth": lambda: pickle.dumps(RunsCode(), protocol=0),
    "tar.pth": lambda: archived(sys_info=b"", pickle=pickle.dumps(RunsCode()), storages=b"", tensors=b""),
    "any_tar.pth": lambda: archived(readme=b"hello"),
    "model.pth": lambda: saved(torch.nn.Linear(1, 1)),
    "numpy.pth": lambda: saved({"model": {"a": np.zeros(3)}}),
    "bomb.pth": bomb,
    "no_numbers.pth": lambda: changed(WEIGHTS, lambda entries: entries.pop("data/0")),
    "fewer_numbers.pth": lambda: changed(WEIGHTS, lambda entries: entries.update({"data/0": b"abc"})),
    "no_pickle.pth": lambda: changed(WEIGHTS, lambda entries: entries.update({"data.pkl": b"\x80\x02\xff\xff"})),
    "deep.pth": lambda: changed(
        WEIGHTS, lambda entries: entries.update({"data.pkl": b"\x80\x02" + b"]" * 9000 + b"."})
    ),
    "text_of_2_GB.pth": lambda: b"\x80\x02X\xff\xff\xff\x7faaaa",
    "bytes_of_1_TB.pth": lambda: b"\x80\x04\x8e" + struct.pack("<Q", 10**12) + b"aaaa",
    "repeated.pth": lambda: saved({"model": {"a": torch.zeros(1).expand(10**12)}}),
    "not_finite.pth": lambda: saved({"model": {"a": torch.tensor([0.0, float("nan")])}}),
    "numbered.pth": lambda: saved({"model": {5: torch.zeros(1)}}),
    "complex.pth": lambda: saved({"model": {"a": torch.zeros(1, dtype=torch.complex64)}}),
    "elsewhere.pth": lambda: saved({"model": {"a": torch.zeros(1, device="meta")}}),
    "header_of_1_TB.safetensors": lambda: with_header({"a": ENTRY}, 10**12),
    "shape.safetensors": lambda: with_header({"a": ENTRY | {"shape": [10**12]}}),
    "type.safetensors": lambda: with_header({"a": ENTRY | {"dtype": "F99"}}),
    "offsets.safetensors": lambda: with_header({"a": ENTRY | {"data_offsets": [0, 10**12]}}),
    "no_json.safetensors": lambda: with_header(b"{"),
    "empty.safetensors": lambda: b"",
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files(name, tmp_path, monkeypatch):
    """One line that names the file; nothing in it is run, and nobody is told to run it."""
    monkeypatch.setattr(RunsCode, "WHERE", str(tmp_path / "was_here"))
    (tmp_path / name).write_bytes(HOSTILE[name]())
    with pytest.raises(ValueError, match=name.replace(".", r"\.")) as found:
        read_state_dict(tmp_path / name)
    assert "weights_only" not in str(found.value) and "\n" not in str(found.value)
    if name.startswith("code"):
        assert "mkdir" in str(found.value)
    assert not (tmp_path / "was_here").exists()


def test_safetensors(flux_weights, tmp_path):
    save_file(flux_weights, tmp_path / "a.safetensors")
    assert read_state_dict(tmp_path / "a.safetensors").keys() == flux_weights.keys()

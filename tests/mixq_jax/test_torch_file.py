# SPDX-License-Identifier: Apache-2.0
"""PyTorch checkpoints of both formats are read, foreign globals and damage refused by name."""

import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mixq_jax.torch_file import LEGACY_MAGIC, TorchFileError, load

FOLDER = Path(__file__).parent.parent / "golden/torch"


def test_both_formats_give_tensors_in_order_and_widths():
    for case, archive in (("skynet_k5_mixq", True), ("skynet_mixq", False)):
        path = FOLDER / f"{case}.pt"
        assert zipfile.is_zipfile(path) is archive
        file = load(path)
        assert (file.w_bits, file.a_bits) == ("8765658583688", "8883878575556")
        assert list(file.tensors)[:3] == [
            "layers.0.conv.weight",
            "layers.0.bn.weight",
            "layers.0.bn.bias",
        ]
        assert file.tensors["layers.0.conv.weight"].dtype == np.float32
        assert file.tensors["layers.0.bn.num_batches_tracked"].tolist() == 20
    assert load(FOLDER / "ultranet_contest.pt").w_bits is None


def archive_of(path: Path, document: object, protocol: int = 2) -> Path:
    """Write a zip archive as torch.save lays it out."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", pickle.dumps(document, protocol))
    return path


class Evil:
    def __reduce__(self):
        return os.system, ("touch evil",)


@pytest.mark.parametrize("protocol", [2, 4])
def test_foreign_globals_are_refused_by_name_and_not_run(tmp_path, monkeypatch, protocol):
    monkeypatch.chdir(tmp_path)
    path = archive_of(tmp_path / "evil.pt", {"model": Evil()}, protocol)
    with pytest.raises(TorchFileError, match=rf"^{path}: holds '(posix|nt)\.system', which is not"):
        load(path)
    assert not (tmp_path / "evil").exists()


def test_foreign_globals_of_the_old_format_are_refused_too(tmp_path):
    stream = io.BytesIO()
    for part in (LEGACY_MAGIC, 1001, {"little_endian": True}, {"model": Evil()}, []):
        pickle.dump(part, stream, 2)
    path = tmp_path / "evil.pt"
    path.write_bytes(stream.getvalue())
    with pytest.raises(TorchFileError, match=r"holds '(posix|nt)\.system', which is not read"):
        load(path)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"model": {"a": 1}}, r"holds no tensors \(keys: model\); needs a state dict, bare or"),
        ([1, 2], "holds a list; needs a state dict"),
    ],
)
def test_documents_without_tensors_are_refused(tmp_path, document, message):
    with pytest.raises(TorchFileError, match=message):
        load(archive_of(tmp_path / "x.pt", document))


@pytest.mark.parametrize("case", ["skynet_mixq", "skynet_k5_mixq"])
@pytest.mark.parametrize("cut", [0, 1, 100, 5000])
def test_damaged_files_are_refused(tmp_path, case, cut):
    path = tmp_path / "x.pt"
    path.write_bytes((FOLDER / f"{case}.pt").read_bytes()[:cut])
    with pytest.raises(TorchFileError, match=f"^{path}: "):
        load(path)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(TorchFileError, match="no such file"):
        load(tmp_path / "none.pt")
    path = tmp_path / "x.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "text")
    with pytest.raises(TorchFileError, match=r"a zip archive without data\.pkl"):
        load(path)
    path.write_bytes(pickle.dumps(3))
    with pytest.raises(TorchFileError, match=r"is neither format of torch\.save"):
        load(path)


def file_of(path: Path, bitw: object) -> Path:
    state = {"conv.weight": np.zeros((1, 1), np.float32)}
    return archive_of(path, {"model": state, "model_params": {"bitw": bitw, "bita": "84"}})


@pytest.mark.parametrize(
    "bits",
    ["35", ["3", "5"], [3, 5], (3, 5), [3.0, 5.0], np.array([3, 5]), np.array([3.0, 5.0])],
    ids=repr,
)
def test_widths_are_read_however_they_are_stored(tmp_path, bits):
    file = load(file_of(tmp_path / "x.pt", bits))
    assert (file.w_bits, file.a_bits) == ("35", "84")


@pytest.mark.parametrize("bits", [None, "", []])
def test_no_widths_are_none(tmp_path, bits):
    assert load(file_of(tmp_path / "x.pt", bits)).w_bits is None


@pytest.mark.parametrize(
    "bits", [4, [3.5, 5], [32, 4], "4,4", [0, 4], {"conv": 4}, np.ones((2, 2)), "4x"], ids=repr
)
def test_what_is_no_row_of_widths_is_refused_by_name(tmp_path, bits):
    path = file_of(tmp_path / "x.pt", bits)
    with pytest.raises(TorchFileError, match=rf"^{path}: 'bitw' is .*; widths are a row of digits"):
        load(path)

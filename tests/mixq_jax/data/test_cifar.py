# SPDX-License-Identifier: Apache-2.0
"""CIFAR-10 of every version gives the same images; what is missing or damaged is named."""

import io
import os
import pickle

import numpy as np
import pytest
from PIL import Image

from mixq_jax.data import cifar
from mixq_jax.data.annotations import DataError
from mixq_jax.data.labelled import sample_rows

COUNT = 3  # images a batch


def batches(seed: int = 0) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return planes and labels of every batch."""
    rng = np.random.default_rng(seed)
    return {
        name: (rng.integers(0, 256, (COUNT, 3072), np.uint8), rng.integers(0, 10, COUNT))
        for name in (*cifar.TRAIN_BATCHES, *cifar.TEST_BATCHES)
    }


def write_python(folder, parts) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, (planes, labels) in parts.items():
        document = {"data": planes, "labels": labels.tolist(), "batch_label": name}
        (folder / name).write_bytes(pickle.dumps(document, 2))


def write_binary(folder, parts) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, (planes, labels) in parts.items():
        records = np.concatenate([labels[:, None].astype(np.uint8), planes], 1)
        (folder / f"{name}.bin").write_bytes(records.tobytes())


def expected(parts, names) -> tuple[np.ndarray, np.ndarray]:
    planes = np.concatenate([parts[name][0] for name in names])
    images = planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return images, np.concatenate([parts[name][1] for name in names])


@pytest.mark.parametrize("inner", ["", "unpacked"])
@pytest.mark.parametrize("write", [write_python, write_binary])
def test_published_versions(tmp_path, write, inner):
    parts = batches()
    names = {write_python: "cifar-10-batches-py", write_binary: "cifar-10-batches-bin"}
    write(tmp_path / (names[write] if inner else ""), parts)
    for split, of in (("train", cifar.TRAIN_BATCHES), ("test", cifar.TEST_BATCHES)):
        data = cifar.load(tmp_path, split)
        images, labels = expected(parts, of)
        assert np.array_equal(data.images, images)
        assert data.labels.tolist() == labels.tolist()
        assert (data.images.dtype, data.labels.dtype) == (np.uint8, np.int32)
        assert (len(data.classes), data.note) == (10, "")
        assert data.weights.tolist() == [1.0] * len(labels)


def archive(path, side: int = 32, labels=(3, 9)) -> None:
    arrays = {}
    for split in ("train", "test"):
        files = []
        for shade in (40, 200):
            buffer = io.BytesIO()
            Image.new("RGB", (side, side), (shade, 10, 90)).save(buffer, "JPEG", quality=95)
            files.append(buffer.getvalue())
        arrays[f"{split}_jpeg"] = np.frombuffer(b"".join(files), np.uint8)
        arrays[f"{split}_offsets"] = np.cumsum([0, *map(len, files)])
        arrays[f"{split}_labels"] = np.array(labels, np.uint8)
    np.savez(path, **arrays)


def test_archive_of_jpeg_files_says_that_it_is_one(tmp_path):
    archive(tmp_path / cifar.JPEG_ARCHIVE)
    data = cifar.load(tmp_path, "test")
    assert data.images.shape == (2, 32, 32, 3)
    assert abs(int(data.images[1, 5, 5, 0]) - 200) < 4  # lossy
    assert data.labels.tolist() == [3, 9]
    assert data.note == "JPEG re-encoded"
    assert np.array_equal(cifar.load(tmp_path / cifar.JPEG_ARCHIVE, "test").images, data.images)


@pytest.fixture
def decoded(monkeypatch) -> list[bytes]:
    """The JPEG files that were decoded."""
    seen, decode = [], cifar._decode
    monkeypatch.setattr(cifar, "_decode", lambda content: seen.append(content) or decode(content))
    return seen


def test_only_what_is_used_is_decoded_and_only_once(tmp_path, decoded):
    archive(tmp_path / cifar.JPEG_ARCHIVE)
    whole = cifar.load(tmp_path, "train")
    decoded.clear()
    row = sample_rows(2, 1)[0]
    for _ in range(2):
        few = cifar.load(tmp_path, "train", 1, tmp_path / "cache")
        assert np.array_equal(few.images, whole.images[[row]])
        assert few.labels.tolist() == [whole.labels[row]]
        assert (few.note, len(decoded)) == (whole.note, 1)
    assert isinstance(few.images, np.memmap)
    both = cifar.load(tmp_path, "train", 2, tmp_path / "cache")
    assert np.array_equal(both.images, whole.images)
    assert len(decoded) == 3


def test_another_archive_has_a_cache_of_its_own(tmp_path, decoded):
    for labels in ((3, 9), (4, 9)):
        archive(tmp_path / cifar.JPEG_ARCHIVE, labels=labels)
        assert cifar.load(tmp_path, "test", None, tmp_path / "cache").labels.tolist() == [*labels]
    assert len(decoded) == 4


def test_a_damaged_cache_is_named(tmp_path):
    archive(tmp_path / cifar.JPEG_ARCHIVE)
    cifar.load(tmp_path, "test", None, tmp_path / "cache")
    (entry,) = (tmp_path / "cache").iterdir()
    cut(entry / "images.npy")
    with pytest.raises(DataError, match=rf"^{entry}: damaged cache .*; delete that folder$"):
        cifar.load(tmp_path, "test", None, tmp_path / "cache")


@pytest.mark.parametrize("count", [None, 2, 15, 16])
def test_a_sample_is_the_same_rows_of_every_version(tmp_path, count):
    parts = batches()
    write_binary(tmp_path / "a", parts)
    write_python(tmp_path / "b", parts)
    whole, rows = cifar.load(tmp_path / "a", "train"), sample_rows(5 * COUNT, count)
    assert len(rows) == min(count or 5 * COUNT, 5 * COUNT)
    assert count != 2 or rows.tolist() == np.random.default_rng(0).permutation(15)[:2].tolist()
    for folder in ("a", "b"):
        some = cifar.load(tmp_path / folder, "train", count)
        assert np.array_equal(some.images, whole.images[rows])
        assert np.array_equal(some.labels, whole.labels[rows])


def test_nothing_there_says_how_to_get_it(tmp_path):
    with pytest.raises(DataError, match=r"holds no CIFAR-10 .*; download cifar-10-python\.tar\.gz"):
        cifar.load(tmp_path, "train")


class Evil:
    def __reduce__(self):
        return os.system, ("true",)


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


DAMAGE = {
    "missing": (write_python, "data_batch_3", lambda p: p.unlink(), "missing beside the other"),
    "cut": (write_python, "data_batch_3", cut, r"no readable batch \(\w+\); unpack the set again"),
    "foreign": (
        write_python,
        "data_batch_2",
        lambda p: p.write_bytes(pickle.dumps({"data": Evil()})),
        r"holds '(posix|nt)\.system', which is not read",
    ),
    "shape": (
        write_python,
        "data_batch_2",
        lambda p: p.write_bytes(
            pickle.dumps({"data": np.zeros((2, 5), np.uint8), "labels": [1, 2]})
        ),
        r"data is uint8 \(2, 5\) for 2 labels",
    ),
    "label": (
        write_python,
        "data_batch_1",
        lambda p: p.write_bytes(
            pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "labels": [10]})
        ),
        r"labels must be 0\.\.9",
    ),
    "bytes": (write_binary, "data_batch_4.bin", cut, "9218 bytes are no whole records of 3073"),
    "gone": (write_binary, "data_batch_4.bin", lambda p: p.unlink(), "missing beside the other"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_named(tmp_path, case):
    write, name, damage, message = DAMAGE[case]
    write(tmp_path, batches())
    damage(tmp_path / name)
    with pytest.raises(DataError, match=f"^{tmp_path / name}: {message}"):
        cifar.load(tmp_path, "train")


ROWS = {
    "jpeg": np.zeros(4, np.uint8),
    "offsets": np.array([0, 2, 4]),
    "labels": np.array([0, 1], np.uint8),
}


@pytest.mark.parametrize(
    "changed",
    [
        {"offsets": np.array([0.0, 2.0, 4.0])},
        {"offsets": np.array(3)},
        {"jpeg": np.zeros((2, 2), np.uint8)},
        {"labels": np.array([[0], [1]])},
        {"labels": np.array([0.5, 1.0])},
        {"labels": np.array(["a", "b"])},
    ],
    ids=str,
)
def test_arrays_of_another_kind_are_refused(tmp_path, changed):
    arrays = {f"train_{name}": values for name, values in (ROWS | changed).items()}
    np.savez(tmp_path / cifar.JPEG_ARCHIVE, **arrays)
    with pytest.raises(DataError, match=f"{cifar.JPEG_ARCHIVE}: damaged archive"):
        cifar.load(tmp_path, "train")


@pytest.mark.parametrize("seed", range(40))
def test_any_damage_to_an_archive_is_an_error_of_data(tmp_path, seed):
    """Bytes changed anywhere, or the end cut off: an error that names the file, or no harm."""
    rng, path = np.random.default_rng(seed), tmp_path / cifar.JPEG_ARCHIVE
    np.savez(path, **{f"train_{name}": values for name, values in ROWS.items()})
    content = bytearray(path.read_bytes())
    for at in rng.integers(0, len(content), 3):
        content[at] = rng.integers(256)
    path.write_bytes(content[: rng.integers(len(content)) if seed % 2 else None])
    with pytest.raises(DataError, match=cifar.JPEG_ARCHIVE):
        cifar.load(tmp_path, "train")


def test_damaged_archives_are_named(tmp_path):
    path = tmp_path / cifar.JPEG_ARCHIVE
    for make, message in (
        (lambda: path.write_bytes(b"no archive"), "damaged archive"),
        (lambda: np.savez(path, train_jpeg=np.zeros(3, np.uint8)), "damaged archive"),
        (lambda: archive(path, side=16), "an image is 16x16, not 32x32"),
        (lambda: archive(path, labels=(1, 2, 3)), "2 images for 3 labels"),
    ):
        make()
        with pytest.raises(DataError, match=message):
            cifar.load(tmp_path, "train")

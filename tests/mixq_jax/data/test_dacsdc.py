# SPDX-License-Identifier: Apache-2.0
import re

import numpy as np
import pytest
from PIL import Image

from mixq_jax.data.dacsdc import DataError, load

RED, BLUE = (255, 0, 0), (0, 0, 255)


def write_frame(folder, stem, *, colour=RED, size=(64, 32), says=None):
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(folder / f"{stem}.jpg", quality=95)
    width, height = says or size
    (folder / f"{stem}.xml").write_text(
        f"<annotation><size><width>{width}</width><height>{height}</height></size><object>"
        "<name>boat</name><bndbox><xmin>8</xmin><ymin>4</ymin><xmax>24</xmax><ymax>28</ymax>"
        "</bndbox></object></annotation>"
    )
    return folder / f"{stem}.jpg"


def message(text):
    return pytest.raises(DataError, match=f"^{re.escape(text)}$")


def test_decodes_to_bgr_bytes_and_normalised_boxes(tmp_path):
    write_frame(tmp_path / "a", "1", colour=RED)
    write_frame(tmp_path / "a", "3", colour=BLUE, size=(128, 64))
    data = load(tmp_path, 16, 32)
    assert data.images.shape == (2, 16, 32, 3)
    assert data.images.dtype == np.uint8
    assert data.images[0].min((0, 1)).tolist()[2] >= 253  # JPEG keeps flat colours within 2
    assert data.images[0].max((0, 1)).tolist()[:2] <= [2, 2]
    assert data.images[1].min((0, 1)).tolist()[0] >= 253
    assert data.boxes.dtype == np.float32
    assert data.boxes.tolist() == [[0.25, 0.5, 0.25, 0.75], [0.125, 0.25, 0.125, 0.375]]
    assert data.weights.tolist() == [0.5, 1.5]
    assert data.names == ("a/1.jpg", "a/3.jpg")


def test_grey_jpg_is_decoded_to_three_channels(tmp_path):
    path = write_frame(tmp_path, "1")
    Image.new("L", (64, 32), 77).save(path)
    assert np.ptp(load(tmp_path, 32, 64).images, axis=-1).max() == 0


def test_split_by_named_folder(tmp_path):
    for k in range(3):
        write_frame(tmp_path / "train" / "car", str(k))
    write_frame(tmp_path / "test" / "car", "9")
    assert load(tmp_path, 32, 64, "train").names == tuple(f"train/car/{k}.jpg" for k in range(3))
    assert load(tmp_path, 32, 64, "test").names == ("test/car/9.jpg",)
    assert len(load(tmp_path, 32, 64, "all").names) == 4


def test_flat_folder_is_split_by_frame(tmp_path):
    for k in range(10):
        write_frame(tmp_path, str(k))
    train, test = (load(tmp_path, 32, 64, split).names for split in ("train", "test"))
    assert (len(train), len(test)) == (8, 2)
    assert sorted(train + test) == sorted(f"{k}.jpg" for k in range(10))
    assert test == ("0.jpg", "5.jpg")  # pinned: the same frames on every machine


def test_many_folders_are_held_out_whole(tmp_path):
    for folder in "abcdefghij":
        for k in range(3):
            write_frame(tmp_path / folder, str(k))
    train, test = (
        {name.split("/")[0] for name in load(tmp_path, 32, 64, split).names}
        for split in ("train", "test")
    )
    assert not train & test
    assert (len(train), len(test)) == (8, 2)


def test_split_without_frames(tmp_path):
    write_frame(tmp_path, "1")
    with message(f"{tmp_path}: no frames in split 'test'; add frames"):
        load(tmp_path, 32, 64, "test")


@pytest.mark.parametrize("damage", [b"", b"no image at all", None])
def test_corrupt_jpg(tmp_path, damage):
    path = write_frame(tmp_path, "1")
    path.write_bytes(path.read_bytes()[:-200] if damage is None else damage)
    with pytest.raises(
        DataError, match=r"1\.jpg: unreadable jpg \(.*\); replace or remove"
    ) as info:
        load(tmp_path, 32, 64)
    assert "\n" not in str(info.value)


def test_a_jpg_too_large_to_open(tmp_path, monkeypatch):
    write_frame(tmp_path, "1")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DataError, match=r"1\.jpg: unreadable jpg \(.* exceeds limit .*\); replace"):
        load(tmp_path, 32, 64)


def test_size_that_disagrees(tmp_path):
    write_frame(tmp_path, "1", says=(640, 360))
    with message(
        f"{tmp_path}/1.xml: size says 640x360 but 1.jpg is 64x32; correct it or replace the image"
    ):
        load(tmp_path, 32, 64)


def test_progress_counts_every_frame(tmp_path):
    for k in range(5):
        write_frame(tmp_path, str(k))
    seen = []
    load(tmp_path, 32, 64, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(k, 5) for k in range(1, 6)]


def counted_load(folder, cache, height=16):
    decoded = []
    data = load(folder, height, 32, cache=cache, progress=lambda done, _: decoded.append(done))
    return data, len(decoded)


@pytest.mark.parametrize("kept_bytes", [0, 200])
@pytest.mark.parametrize("file", ["images.npy", "boxes.npy", "names.json"])
def test_a_damaged_cache_says_what_to_delete(tmp_path, file, kept_bytes):
    write_frame(tmp_path / "in", "1")
    counted_load(tmp_path / "in", tmp_path / "cache")
    (path,) = (tmp_path / "cache").rglob(file)
    path.write_bytes(path.read_bytes()[: min(kept_bytes, path.stat().st_size - 1)])
    with pytest.raises(DataError, match=rf"^{path.parent}: damaged cache .*; delete that folder$"):
        counted_load(tmp_path / "in", tmp_path / "cache")


def test_cache_gives_the_same_without_decoding(tmp_path):
    for k in range(3):
        write_frame(tmp_path / "in", str(k))
    fresh = load(tmp_path / "in", 16, 32)
    first, decoded_first = counted_load(tmp_path / "in", tmp_path / "cache")
    second, decoded_second = counted_load(tmp_path / "in", tmp_path / "cache")
    assert (decoded_first, decoded_second) == (3, 0)
    for data in (first, second):
        assert np.array_equal(data.images, fresh.images)
        assert np.array_equal(data.boxes, fresh.boxes)
        assert np.array_equal(data.weights, fresh.weights)
        assert data.names == fresh.names


def test_cache_notices_changes(tmp_path):
    for k in range(3):
        write_frame(tmp_path / "in", str(k))
    counted_load(tmp_path / "in", tmp_path / "cache")
    assert counted_load(tmp_path / "in", tmp_path / "cache", height=8)[1] == 3
    write_frame(tmp_path / "in", "1", colour=BLUE)
    data, decoded = counted_load(tmp_path / "in", tmp_path / "cache")
    assert decoded == 3
    assert data.images[1, 0, 0, 0] >= 253
    write_frame(tmp_path / "in", "7")
    assert counted_load(tmp_path / "in", tmp_path / "cache")[1] == 4


def test_failed_decode_leaves_no_cache(tmp_path):
    write_frame(tmp_path / "in", "1", says=(1000, 1000))
    with pytest.raises(DataError):
        counted_load(tmp_path / "in", tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []

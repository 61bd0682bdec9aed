# SPDX-License-Identifier: Apache-2.0
import re

import pytest
from PIL import Image

from mixq_jax.data.annotations import DataError, list_frames, read_annotation, scan

BOX = "<xmin>10</xmin><ymin>20</ymin><xmax>30</xmax><ymax>25</ymax>"


def write_frame(folder, stem, *, name="boat", size=(64, 32), box=BOX):
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 32)).save(folder / f"{stem}.jpg")
    (folder / f"{stem}.xml").write_text(
        f"<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size>"
        f"<object><name>{name}</name><bndbox>{box}</bndbox></object>"
        "<object><name>second</name></object></annotation>"
    )
    return folder / f"{stem}.jpg"


def message(text):
    return pytest.raises(DataError, match=f"^{re.escape(text)}$")


def test_reads_the_first_object(tmp_path):
    path = write_frame(tmp_path, "shot0012")
    (sample,) = scan(tmp_path)
    assert sample.path == path
    assert (sample.name, sample.index, sample.width, sample.height) == ("boat", 12, 64, 32)
    assert sample.box == (10, 20, 30, 25)


def test_order_is_by_folder_then_number_not_text(tmp_path):
    for stem in ("10", "9", "100"):
        write_frame(tmp_path / "b", stem)
    write_frame(tmp_path / "a" / "deeper", "5")
    names = [path.relative_to(tmp_path).as_posix() for path in list_frames(tmp_path)]
    assert names == ["a/deeper/5.jpg", "b/9.jpg", "b/10.jpg", "b/100.jpg"]


def test_hidden_and_other_files_are_ignored(tmp_path):
    write_frame(tmp_path, "1")
    (tmp_path / "._1.jpg").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("")
    assert len(list_frames(tmp_path)) == 1


def test_weight_grows_with_the_frame_number_inside_a_class(tmp_path):
    for number in (4, 6, 8):
        write_frame(tmp_path, f"{number}")
        write_frame(tmp_path, f"test{number}", name="0")
    write_frame(tmp_path, "alone7", name="single")
    weights = {sample.path.stem: sample.weight for sample in scan(tmp_path)}
    assert weights == {
        "4": 0.5, "6": 1.0, "8": 1.5, "alone7": 1.0, "test4": 1.0, "test6": 1.0, "test8": 1.0,
    }  # fmt: skip


def test_no_such_folder(tmp_path):
    with message(f"{tmp_path / 'x'}: no such folder; pass the one that holds the jpg and xml"):
        scan(tmp_path / "x")


def test_empty_folder(tmp_path):
    with message(f"{tmp_path}: holds no jpg and xml; pass the folder of the data set"):
        scan(tmp_path)


@pytest.mark.parametrize(("gone", "left"), [("jpg", "xml"), ("xml", "jpg")])
def test_missing_partner(tmp_path, gone, left):
    write_frame(tmp_path, "1")
    write_frame(tmp_path, "2").with_suffix(f".{gone}").unlink()
    with message(f"{tmp_path}/2.{left}: 2.{gone} is missing beside it; add it or remove this one"):
        scan(tmp_path)


def test_corrupt_xml(tmp_path):
    label = write_frame(tmp_path, "1").with_suffix(".xml")
    label.write_text(label.read_text()[:60])
    with pytest.raises(DataError, match=r"1\.xml: unreadable xml \(.*\); replace or remove"):
        scan(tmp_path)


@pytest.mark.parametrize("encoding", ["gbk", "no-such"])
def test_xml_in_an_encoding_that_nobody_reads(tmp_path, encoding):
    label = write_frame(tmp_path, "1").with_suffix(".xml")
    label.write_text(f'<?xml version="1.0" encoding="{encoding}"?>{label.read_text()}')
    with pytest.raises(DataError, match=r"1\.xml: unreadable xml \(.*\); replace or remove"):
        scan(tmp_path)


def test_xml_without_a_box(tmp_path):
    path = write_frame(tmp_path, "1", box="<xmin>1</xmin><ymin>two</ymin><xmax>3</xmax>")
    with message(
        f"{tmp_path}/1.xml: object/bndbox needs the numbers xmin, ymin, xmax, ymax, got "
        "{'xmin': '1', 'ymin': 'two', 'xmax': '3', 'ymax': None}; "
        "correct the xml or remove the pair"
    ):
        read_annotation(path)


def test_xml_without_a_size(tmp_path):
    path = write_frame(tmp_path, "1", size=("", 32))
    with pytest.raises(DataError, match="size needs the numbers width, height, got"):
        read_annotation(path)


@pytest.mark.parametrize(
    "corners",
    [(-1, 0, 5, 5), (0, -1, 5, 5), (0, 0, 65, 5), (0, 0, 5, 33), (5, 5, 5, 9), (5, 9, 9, 5),
     ("nan", 0, 5, 5)],
)  # fmt: skip
def test_box_empty_or_outside(tmp_path, corners):
    keys = ("xmin", "ymin", "xmax", "ymax")
    box = "".join(f"<{key}>{edge}</{key}>" for key, edge in zip(keys, corners, strict=True))
    path = write_frame(tmp_path, "1", box=box)
    low, high = "({}, {})".format(*corners[:2]), "({}, {})".format(*corners[2:])
    with message(
        f"{tmp_path}/1.xml: box {low}..{high} is empty or outside the 64x32 image; "
        "correct bndbox or remove the pair"
    ):
        read_annotation(path)


def test_box_may_touch_the_edges(tmp_path):
    box = "<xmin>0</xmin><ymin>0</ymin><xmax>64</xmax><ymax>32</ymax>"
    assert read_annotation(write_frame(tmp_path, "1", box=box)).box == (0, 0, 64, 32)

# SPDX-License-Identifier: Apache-2.0
"""Annotations in the format of the DAC System Design Contest (Pascal-VOC xml, one object each).

Any nesting of folders is accepted, as long as `name.jpg` and `name.xml` lie side by side.
"""

import re
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path

UNWEIGHTED_CLASS = "0"  # the name of every object in the contest's test set
Progress = Callable[[int, int], None]  # (frames done, frames in all)


class DataError(ValueError):
    """A data set that cannot be used; the one-line message names the file and what to do."""


@dataclass(frozen=True)
class Sample:
    """One annotated frame, its image not yet read.

    `name` is the object's class, `index` the number that ends the file's name (0 without one),
    `width` and `height` are pixels, `box` is (xmin, ymin, xmax, ymax) in pixels, xmax - xmin being
    the width of the object. `weight` in [0.5, 1.5] grows with `index` inside a class.
    """

    path: Path
    name: str
    index: int
    width: int
    height: int
    box: tuple[float, float, float, float]
    weight: float = 1.0


def scan(directory: Path | str) -> tuple[Sample, ...]:
    """Read every annotation under `directory`, ordered by folder and frame number.

    Raises DataError for a missing or empty folder, a jpg or xml without its partner, an unreadable
    xml, and an xml without a box that lies inside the image.
    """
    return read_annotations(list_frames(directory))


def list_frames(directory: Path | str) -> list[Path]:
    """Return the jpg of every frame under `directory`, ordered by folder and frame number."""
    directory = Path(directory)
    if not directory.is_dir():
        raise DataError(f"{directory}: no such folder; pass the one that holds the jpg and xml")
    files = [path for path in directory.rglob("*") if not path.name.startswith(".")]
    images = {path.with_suffix(""): path for path in files if path.suffix.lower() == ".jpg"}
    labels = {path.with_suffix(""): path for path in files if path.suffix == ".xml"}
    if not images and not labels:
        raise DataError(f"{directory}: holds no jpg and xml; pass the folder of the data set")
    for stem in sorted(images.keys() ^ labels.keys()):
        present, missing = (images, ".xml") if stem in images else (labels, ".jpg")
        raise DataError(
            f"{present[stem]}: {stem.name}{missing} is missing beside it; add it or remove this one"
        )
    return sorted(images.values(), key=lambda path: (path.parent, _index(path), path.name))


def read_annotations(paths: Sequence[Path], progress: Progress | None = None) -> tuple[Sample, ...]:
    """Read the xml beside every jpg of `paths`, and weigh the frames among themselves."""
    samples = []
    for path in paths:
        samples.append(read_annotation(path))
        if progress is not None:
            progress(len(samples), len(paths))
    return weighted(samples)


def read_annotation(path: Path) -> Sample:
    """Read the xml beside the jpg `path`; raise DataError if it has no usable box."""
    label = path.with_suffix(".xml")
    try:
        root = ET.parse(label).getroot()
    except (ET.ParseError, OSError, ValueError, LookupError) as error:  # the last two: encodings
        raise DataError(f"{label}: unreadable xml ({error}); replace or remove the pair") from error
    width, height = _numbers(label, root, "size", ("width", "height"))
    if not (isfinite(width) and isfinite(height) and width >= 1 and height >= 1):
        raise DataError(
            f"{label}: size {width:g}x{height:g} is no image size; correct it or remove the pair"
        )
    box = _numbers(label, root, "object/bndbox", ("xmin", "ymin", "xmax", "ymax"))
    xmin, ymin, xmax, ymax = box
    if not (0 <= xmin < xmax <= width and 0 <= ymin < ymax <= height):
        raise DataError(
            f"{label}: box ({xmin:g}, {ymin:g})..({xmax:g}, {ymax:g}) is empty or outside the "
            f"{width:g}x{height:g} image; correct bndbox or remove the pair"
        )
    name = root.findtext("object/name", default="").strip()
    return Sample(path, name, _index(path), int(width), int(height), box)


def weighted(samples: Sequence[Sample]) -> tuple[Sample, ...]:
    """Return `samples` weighted 0.5 + (index - min) / (max - min) inside each class.

    Later frames of a sequence count more. Classes of a single index, and class "0", weigh 1.
    """
    indices = defaultdict(list)
    for sample in samples:
        indices[sample.name].append(sample.index)
    spans = {name: (min(numbers), max(numbers)) for name, numbers in indices.items()}
    return tuple(replace(sample, weight=_weight(sample, *spans[sample.name])) for sample in samples)


def _weight(sample: Sample, first: int, last: int) -> float:
    if sample.name == UNWEIGHTED_CLASS or first == last:
        return 1.0
    return 0.5 + (sample.index - first) / (last - first)


def _index(path: Path) -> int:
    digits = re.search(r"\d*$", path.stem).group()
    return int(digits or 0)


def _numbers(label: Path, root: ET.Element, parent: str, keys: tuple[str, ...]) -> tuple:
    """Return the numbers at `parent`/`keys` of the xml `label`."""
    texts = [root.findtext(f"{parent}/{key}") for key in keys]
    try:
        return tuple(float(text) for text in texts)
    except (TypeError, ValueError) as error:
        found = dict(zip(keys, texts, strict=True))
        raise DataError(
            f"{label}: {parent} needs the numbers {', '.join(keys)}, got {found}; "
            "correct the xml or remove the pair"
        ) from error

# SPDX-License-Identifier: Apache-2.0
"""Generated data set in the format of the DAC System Design Contest.

    DIRECTORY/manifest.json                      the configuration it was made from
    DIRECTORY/{train,test}/CLASS/NNNNN.{jpg,xml}  CLASS = shape and hue of the object

The test split shows no object (shape in a hue) and no background of the training split.
"""

import json
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from mixq_jax.data.annotations import DataError, Progress
from mixq_jax.data.atomic import atomic_directory
from mixq_jax.data.processes import SPAWN, interrupts_blocked
from mixq_jax.data.scene import Box, SceneConfig, Split, cast, render

VERSION = 1
MANIFEST = "manifest.json"
SPLITS = ("train", "test")


@dataclass(frozen=True)
class SyntheticConfig:
    """What to generate; sizes in pixels."""

    width: int = 320  # the networks' input; the contest's frames are 640x360
    height: int = 160
    train_frames: int = 2000
    test_frames: int = 400
    seed: int = 0
    jpeg_quality: int = 92
    scene: SceneConfig = field(default_factory=SceneConfig)

    def __post_init__(self):
        for name, least in (("width", 32), ("height", 32), ("train_frames", 1), ("test_frames", 1)):
            if getattr(self, name) < least:
                raise DataError(f"{name} is {getattr(self, name)}; give at least {least}")


def generate(
    directory: Path | str,
    config: SyntheticConfig,
    *,
    workers: int = 1,
    progress: Progress | None = None,
) -> bool:
    """Write the data set of `config` to `directory`; return False if it is there already.

    A data set of another configuration or version is replaced, anything else in the way is not:
    DataError. Frame i of a split depends on (seed, split, i) alone. With `workers` > 1 frames are
    drawn by that many fresh processes, which import the caller's main module.
    """
    directory = Path(directory)
    manifest = json.dumps({"version": VERSION, "config": asdict(config)}, indent=1)
    try:
        if _is_current(directory, manifest):
            return False
        with atomic_directory(directory) as unfinished:
            _write_frames(unfinished, config, workers, progress)
            (unfinished / MANIFEST).write_text(manifest)
    except OSError as error:
        raise DataError(
            f"{directory}: cannot write the data set ({error}); choose another folder"
        ) from error
    return True


def _is_current(directory: Path, manifest: str) -> bool:
    """Return whether `directory` holds what `manifest` describes."""
    if (directory / MANIFEST).is_file():
        return (directory / MANIFEST).read_text() == manifest
    if directory.exists() and not (directory.is_dir() and not any(directory.iterdir())):
        raise DataError(
            f"{directory}: exists and was not generated ({MANIFEST} is missing); "
            "choose another folder or remove it"
        )
    return False


def _write_frames(
    directory: Path, config: SyntheticConfig, workers: int, progress: Progress | None
) -> None:
    counts = {"train": config.train_frames, "test": config.test_frames}
    jobs = [(split, number) for split in SPLITS for number in range(counts[split])]
    write = partial(_write_frame, directory, config)
    with ExitStack() as stack:
        written = map(write, jobs)
        if workers > 1:
            pool = stack.enter_context(ProcessPoolExecutor(workers, SPAWN))
            with interrupts_blocked():
                written = pool.map(write, jobs, chunksize=32)
        for done, _ in enumerate(written, start=1):
            if progress is not None:
                progress(done, len(jobs))


def _write_frame(directory: Path, config: SyntheticConfig, job: tuple[Split, int]) -> None:
    """Write the jpg and xml of one frame, job = (split, number)."""
    split, number = job
    rng = np.random.default_rng([config.seed, SPLITS.index(split), number])
    subject, backdrop = cast(rng, split)
    pixels, box = render(rng, subject, backdrop, config.height, config.width, config.scene)
    name = f"{subject.shape.name}-{subject.hue}"
    stem = directory / split / name / f"{number:05d}"
    stem.parent.mkdir(parents=True, exist_ok=True)
    # Full chroma resolution: an object may be four pixels wide.
    Image.fromarray(pixels).save(
        stem.with_suffix(".jpg"), quality=config.jpeg_quality, subsampling=0
    )
    stem.with_suffix(".xml").write_text(_annotation(stem.name, name, config, box))


def _annotation(stem: str, name: str, config: SyntheticConfig, box: Box) -> str:
    """Return the Pascal-VOC text of one frame."""
    sides = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    bounds = "".join(f"<{side}>{edge}</{side}>" for side, edge in sides)
    return (
        "<annotation>\n"
        f"  <filename>{stem}.jpg</filename>\n"
        f"  <size><width>{config.width}</width><height>{config.height}</height>"
        "<depth>3</depth></size>\n"
        f"  <object><name>{name}</name><bndbox>{bounds}</bndbox></object>\n"
        "</annotation>\n"
    )

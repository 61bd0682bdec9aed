# SPDX-License-Identifier: Apache-2.0
"""Data of a run: a given folder, or for detectors a generated set."""

import hashlib
import math
import os
from pathlib import Path

from experiments import run_folder
from experiments.classification_options import VARIABLE, ClassificationOptions
from experiments.detection_options import DetectionOptions
from experiments.options import OptionError, Preset, RunOptions
from experiments.progress import bar
from mixq_jax.data import DataError, cifar, dacsdc, mnist, synthetic
from mixq_jax.data.dacsdc import Dataset
from mixq_jax.data.frames import FrameFiles
from mixq_jax.data.labelled import Labelled
from mixq_jax.source import device_bytes

LOADERS = {"cifar10": cifar, "mnist": mnist}
STREAM_ABOVE = 0.25  # of the device's memory: the rest is for the network and its gradients
MAX_WORKERS = 16  # beyond, one disk is read rather than one CPU kept busy


def load_split(options: RunOptions, preset: Preset, split: str) -> Dataset | Labelled:
    """Load "train" or "test", of detectors also "all"."""
    match options:
        case DetectionOptions():
            return _frames(options, preset, split)
        case ClassificationOptions():
            return _images(options, preset, split)
    raise AssertionError(f"no data for {type(options).__name__}")


def check_folder(options: RunOptions) -> None:
    """Raise OptionError unless the folder that `options` name is there."""
    match options:
        case DetectionOptions(data=None):
            return
        case ClassificationOptions(dataset=dataset):
            folder = options.data
            if folder is None or not folder.exists():
                raise OptionError(
                    f"--data {folder or '(not given)'}: no folder of {dataset}; "
                    f"{LOADERS[dataset].HOW_TO_GET}, and give the folder with --data or {VARIABLE}"
                )
        case _ if not options.data.is_dir():
            raise OptionError(
                f"--data {options.data}: no such folder; give the DAC-SDC folder or leave out"
            )


def _images(options: ClassificationOptions, preset: Preset, split: str) -> Labelled:
    count = preset.train_frames if split == "train" else preset.test_frames
    with bar(f"load {split} images", 1) as advance:
        match options.dataset:
            case "cifar10":
                data = cifar.load(options.data, split, count, options.cache)
            case "mnist":
                data = mnist.load(options.data, split, count)
        advance(1)
    return data


def detection_folder(options: DetectionOptions, preset: Preset) -> Path:
    """Return the given folder, or the generated set (written on first use)."""
    if options.data is not None:
        return options.data
    config = synthetic.SyntheticConfig(
        height=preset.height,
        width=preset.width,
        train_frames=preset.train_frames,
        test_frames=preset.test_frames,
    )
    name = hashlib.sha256(repr(config).encode()).hexdigest()[:12]
    folder = options.cache / f"generated-{preset.height}x{preset.width}-{name}"
    with bar("generate data") as advance:
        synthetic.generate(folder, config, workers=os.cpu_count() or 1, progress=advance)
    return folder


def _frames(options: DetectionOptions, preset: Preset, split: str) -> Dataset:
    folder, size = detection_folder(options, preset), (preset.height, preset.width)
    try:
        with bar(f"load {split} frames") as advance:
            data = dacsdc.load(
                folder,
                *size,
                split,
                cache=options.cache,
                limit_bytes=math.inf if split == "test" else _limit_bytes(options),
                progress=advance,
            )
            if isinstance(data.images, FrameFiles):
                gigabytes = len(data.images) * math.prod(size) * 3 / 1e9
                note = f"{gigabytes:.1f} GB decoded: streamed"
                note += f", --workers {workers(options)}" if split == "train" else ""
                advance(len(data.images), note=note)
            return data
    except DataError as error:
        if options.data is not None:
            raise
        raise run_folder.RunError(f"generated data: {error}; or delete {folder}") from error


def _limit_bytes(options: DetectionOptions) -> float:
    """Return the size of decoded training frames above which they are streamed."""
    match options.stream:
        case "on":
            return 0
        case "off":
            return math.inf
        case "auto":
            return STREAM_ABOVE * device_bytes()


def workers(options: RunOptions) -> int:
    """Return how many processes decode streamed frames; one CPU is left for the training."""
    given = getattr(options, "workers", None)
    return given or max(1, min((os.cpu_count() or 1) - 1, MAX_WORKERS))

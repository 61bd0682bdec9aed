# SPDX-License-Identifier: Apache-2.0
"""Options and presets of `python -m experiments.cifar`."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal, Self

from experiments.options import DEMO, SMOKE, Preset, RunOptions

VARIABLE = "MIXQ_DATA"  # the folder of the set where --data is not given
EPOCH = 391  # steps of 128 images over the 50 000 of CIFAR-10

PRESETS = {
    # Everything real but tiny: seconds a stage.
    "smoke": Preset(
        **SMOKE,
        height=32,
        width=32,
        slim=8,
        train_frames=512,
        test_frames=128,
        search_batch=16,
        train_batch=16,
        augment="crop",
        lam=1e-4,
        csim_frames=4,
    ),
    # Half the channels, a few epochs: tens of minutes on two cores.
    "demo": Preset(
        **DEMO,
        height=32,
        width=32,
        slim=2,
        train_frames=50_000,
        test_frames=10_000,
        search_steps=2 * EPOCH,
        search_batch=128,
        train_steps=8 * EPOCH,
        train_batch=128,
        learning_rate=4e-3,
        augment="crop",
        lam=1e-4,
        csim_frames=16,
    ),
    # The published recipe: 40 epochs of search, 200 of training, SGD, cd = 3e-5.
    "paper": Preset(
        height=32,
        width=32,
        slim=1,
        train_frames=50_000,
        test_frames=10_000,
        search_steps=40 * EPOCH,
        search_batch=128,
        train_steps=200 * EPOCH,
        train_batch=128,
        optimiser="sgd",
        learning_rate=0.03,
        search_learning_rate=0.1,
        momentum=0.9,
        weight_decay=5e-4,
        alpha_learning_rate=0.1,
        alpha_warmup_steps=0,
        alpha_weight_decay=5e-4,
        alpha_final_factor=0.3,
        bias_warmup_steps=0,
        augment="crop",
        relaxation="softmax",
        tau_first=1.0,
        tau_last=1.0,
        lam=3e-5,
        quantiser="mixq",
        warm_start=False,
        csim_frames=16,
        chunk=50,
    ),
}


@dataclass(frozen=True)
class ClassificationOptions(RunOptions):
    """Options of `python -m experiments.cifar`."""

    program: ClassVar[str] = "cifar"
    presets: ClassVar[dict[str, Preset]] = PRESETS

    net: Literal["vgg_tiny", "resnet8", "resnet20"] = "vgg_tiny"
    """The network: six 3x3 convolutions, or residual blocks; a dense classifier of 8 bits."""
    dataset: Literal["cifar10", "mnist"] = "cifar10"
    """Which set --data holds."""
    out: Path = Path("runs/cifar")
    """Folder of the run: checkpoints, metrics, graph/, hls/, report.json, report.html."""
    data: Path | None = None
    """Folder of the set: CIFAR-10 as published or cifar10_jpeg.npz; MNIST's IDX files. Default:
    the environment variable MIXQ_DATA."""

    def completed(self, environment: Mapping[str, str]) -> Self:
        """Return these options with the data folder of the environment if none is given."""
        folder = environment.get(VARIABLE)
        return replace(self, data=Path(folder)) if self.data is None and folder else self

# SPDX-License-Identifier: Apache-2.0
"""Options and presets of `python -m experiments.dacsdc`."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

from experiments.options import DEMO, SMOKE, Preset, RunOptions

# Minutes on two cores. Five times the box gain, because boxes of ten pixels live by their last
# pixel.
_DEMO = Preset(
    **DEMO,
    height=80,
    width=160,
    slim=1,
    train_frames=4000,
    test_frames=400,
    search_steps=400,
    search_batch=16,
    train_steps=1100,
    train_batch=16,
    learning_rate=5e-3,
    augment="light",
    lam=5e-3,
    box_gain=17.7,
    csim_frames=4,
)
PRESETS = {
    # Everything real but tiny: two layers' worth of work, seconds a stage.
    "smoke": Preset(
        **SMOKE,
        height=48,
        width=96,
        slim=4,
        train_frames=64,
        test_frames=32,
        search_batch=8,
        train_batch=8,
        augment="light",
        lam=1e-3,
        box_gain=17.7,
        csim_frames=2,
    ),
    "demo": _DEMO,
    # The demo's recipe at the published size: tens of minutes on two cores.
    "full": replace(_DEMO, height=160, width=320, search_steps=500, train_steps=1500),
    # The published recipe on 160x320: 35 epochs of search, 200 of training for 74 816 frames
    # (80 % of the contest's 93 520) in batches of 64, plain softmax, SGD, cd = 1e-5.
    "paper": Preset(
        height=160,
        width=320,
        slim=1,
        train_frames=8000,
        test_frames=1000,
        search_steps=35 * 1169,
        search_batch=64,
        train_steps=200 * 1169,
        train_batch=64,
        optimiser="sgd",
        learning_rate=0.01,
        alpha_learning_rate=0.01,
        alpha_warmup_steps=0,
        bias_warmup_steps=3 * 1169,
        augment="reference",
        relaxation="softmax",
        tau_first=1.0,
        tau_last=1.0,
        lam=4e-5,
        quantiser="mixq",
        box_gain=3.54,
        bias_factor=2.0,
        final_factor=0.001,
        warm_start=False,
        csim_frames=4,
        chunk=50,
    ),
}


@dataclass(frozen=True)
class DetectionOptions(RunOptions):
    """Options of `python -m experiments.dacsdc`."""

    program: ClassVar[str] = "dacsdc"
    presets: ClassVar[dict[str, Preset]] = PRESETS
    # What others have trained, they trained at 160x320, where anchors are 20 pixels.
    preset_of_init: ClassVar[str] = "full"

    net: Literal["ultranet", "ultranet_bypass", "skynet", "skynet_k5"] = "ultranet"
    """The network (SkyNet: depthwise and pointwise; bypass: a branch around three layers)."""
    out: Path = Path("runs/dacsdc")
    """Folder of the run: checkpoints, metrics, graph/, hls/, report.json, report.html."""
    data: Path | None = None
    """DAC-SDC folder (jpg + Pascal-VOC xml). Default: a generated set, cached."""
    box_gain: float | None = None
    """Gain of the loss's box term (published: 3.54)."""
    stream: Literal["auto", "on", "off"] = "auto"
    """Decode training frames while training, from their files, instead of keeping all of them on
    the device. auto: where they would take more than a quarter of its memory."""
    workers: int | None = None
    """Processes that decode streamed frames. Default: one less than the CPUs, at most 16."""

# SPDX-License-Identifier: Apache-2.0
"""Options of `python -m experiments.dacsdc`: frozen dataclasses, plain values, no heavy imports."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal


class OptionError(ValueError):
    """A value on the command line that cannot be used; the message says what is allowed."""


@dataclass(frozen=True)
class Preset:
    """Sizes and recipe of a run; the reason stands beside each default.

    Learning rates are those of the named optimiser; `lam` weighs the expected DSP cost in units of
    64 DSP-cycles / MACs of layer 0 (4 cd of the published recipe).
    """

    height: int
    width: int
    slim: int  # divides the published channels
    train_frames: int  # of the generated set; a given folder is used whole
    test_frames: int
    search_steps: int
    search_batch: int
    train_steps: int
    train_batch: int
    optimiser: Literal["sgd", "adam"]
    learning_rate: float
    alpha_learning_rate: float
    alpha_warmup_steps: int
    bias_warmup_steps: int
    augment: Literal["light", "reference"]
    relaxation: Literal["softmax", "gumbel", "gumbel_hard"]
    tau_first: float
    tau_last: float
    lam: float
    quantiser: Literal["ours", "mixq", "dorefa", "contest"]
    box_gain: float  # of the loss's box term; published 3.54
    warm_start: bool
    csim_frames: int
    chunk: int = 25  # steps a dispatch: the granularity of progress, checkpoints and interrupts


PRESETS = {
    # Everything real but tiny: two layers' worth of work, seconds a stage.
    "smoke": Preset(
        height=48,
        width=96,
        slim=4,
        train_frames=64,
        test_frames=32,
        search_steps=12,
        search_batch=8,
        train_steps=20,
        train_batch=8,
        optimiser="adam",
        learning_rate=2e-3,
        alpha_learning_rate=0.05,
        alpha_warmup_steps=2,
        bias_warmup_steps=0,
        augment="light",
        relaxation="softmax",
        tau_first=1.0,
        tau_last=0.5,
        lam=1e-3,
        quantiser="ours",
        box_gain=17.7,
        warm_start=True,
        csim_frames=2,
        chunk=4,
    ),
    # Minutes on two cores. Adam, because hundreds of steps are too few for the published SGD; five
    # times the box gain, because boxes of ten pixels live by their last pixel.
    "demo": Preset(
        height=80,
        width=160,
        slim=1,
        train_frames=4000,
        test_frames=400,
        search_steps=400,
        search_batch=16,
        train_steps=1100,
        train_batch=16,
        optimiser="adam",
        learning_rate=5e-3,
        alpha_learning_rate=0.02,
        alpha_warmup_steps=100,
        bias_warmup_steps=0,
        augment="light",
        relaxation="gumbel",
        tau_first=2.0,
        tau_last=0.3,
        lam=5e-3,
        quantiser="ours",
        box_gain=17.7,
        warm_start=True,
        csim_frames=4,
    ),
    # The published recipe on 160x320: 35 epochs of search, 200 of training for 74 800 frames
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
        warm_start=False,
        csim_frames=4,
        chunk=50,
    ),
}


@dataclass(frozen=True)
class Options:
    """Options of every stage. Left-out values come from the preset."""

    preset: str = "demo"
    """smoke (a minute), demo (minutes, 80x160), paper (160x320, the published recipe)."""
    net: Literal["ultranet", "ultranet_bypass", "skynet", "skynet_k5"] = "ultranet"
    """The network (SkyNet: depthwise and pointwise; bypass: a branch around three layers)."""
    out: Path = Path("runs/dacsdc")
    """Folder of the run: checkpoints, metrics, graph/, hls/, report.json, report.html."""
    data: Path | None = None
    """DAC-SDC folder (jpg + Pascal-VOC xml). Default: a generated set, cached."""
    cache: Path = Path("runs/cache")
    """Folder that keeps generated frames, decoded frames and compiled programs."""
    device: str = "xczu3eg"
    """FPGA part whose DSP, LUT and BRAM are the budget."""
    clock_mhz: float = 250.0
    """Clock of the accelerator."""
    resume: bool = False
    """Go on where an earlier run in --out stopped."""
    seed: int = 0
    """Seed of weights, batches and augmentation."""
    relaxation: Literal["softmax", "gumbel", "gumbel_hard"] | None = None
    """How the choice of widths is relaxed."""
    lam: float | None = None
    """Weight of the expected DSP cost in the search."""
    tau_first: float | None = None
    """Temperature of the relaxation at the first step."""
    tau_last: float | None = None
    """Temperature at the last step (geometric in between)."""
    search_steps: int | None = None
    """Steps of the search."""
    train_steps: int | None = None
    """Steps of the training at the chosen widths."""
    box_gain: float | None = None
    """Gain of the loss's box term (published: 3.54)."""
    warm_start: bool | None = None
    """Start training from the supernet's weights instead of from scratch."""
    wbits: str | None = None
    """Train these weight widths (one digit a layer) instead of the searched ones."""
    abits: str | None = None
    """Train these activation widths (one digit a layer)."""
    init: Path | None = None
    """PyTorch checkpoint (.pt) to test, or to train on from."""
    quantiser: Literal["ours", "mixq", "dorefa", "contest"] | None = None
    """Number formats: ours, DeepBurning-MixQ's, its DoReFa baselines', the contest teams'."""

    @property
    def needs_search(self) -> bool:
        """Whether the widths are neither given nor those of a checkpoint."""
        return self.wbits is None and self.init is None

    def resolved(self) -> Preset:
        """Return the preset with the given values put in; OptionError for impossible ones."""
        if self.preset not in PRESETS:
            raise OptionError(f"--preset {self.preset}: unknown; choose {', '.join(PRESETS)}")
        given = {
            field.name: getattr(self, field.name)
            for field in fields(Preset)
            if getattr(self, field.name, None) is not None
        }
        preset = replace(PRESETS[self.preset], **given)
        _check(self, preset)
        return preset


# Beyond these float32 overflows, or a design is asked for that nobody means.
RANGES = {
    "tau_first": (1e-3, 1e3),
    "tau_last": (1e-3, 1e3),
    "lam": (0, 1e6),
    "box_gain": (1e-6, 1e6),
    "clock_mhz": (1, 2000),
    "seed": (0, (1 << 32) - 1),
    "search_steps": (1, 1 << 30),
    "train_steps": (0, 1 << 30),
}


def _check(options: Options, preset: Preset) -> None:
    for name, (low, high) in RANGES.items():
        value = getattr(preset if hasattr(preset, name) else options, name)
        if not low <= value <= high:  # neither is NaN
            flag = name.replace("_", "-")
            raise OptionError(f"--{flag} {value}: must be in {low:g}..{high:.10g}")
    if (options.wbits is None) != (options.abits is None):
        raise OptionError("--wbits and --abits belong together; give both or none")
    if preset.train_steps == 0 and options.init is None:
        raise OptionError("--train-steps 0: only with --init, to take its weights as they are")

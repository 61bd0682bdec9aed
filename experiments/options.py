# SPDX-License-Identifier: Apache-2.0
"""Options of the programs: frozen dataclasses, plain values, no heavy imports."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self


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
    augment: Literal["light", "reference", "crop"]
    relaxation: Literal["softmax", "gumbel", "gumbel_hard"]
    tau_first: float
    tau_last: float
    lam: float
    quantiser: Literal["ours", "mixq", "dorefa", "contest"]
    warm_start: bool
    csim_frames: int
    chunk: int = 25  # steps a dispatch: the granularity of progress, checkpoints and interrupts
    box_gain: float = 3.54  # of a detection loss's box term; the published one
    search_learning_rate: float | None = None  # if it differs in the search
    momentum: float = 0.937
    weight_decay: float = 0.0
    bias_factor: float = 1.0  # rate of biases over that of weights
    final_factor: float = 0.01  # what is left of the rate at the end
    alpha_weight_decay: float = 4.84e-4
    alpha_final_factor: float = 0.1


# What the short presets of all programs have in common. Adam, because hundreds of steps are too few
# for the published SGD.
_SHORT = {"optimiser": "adam", "bias_warmup_steps": 0, "quantiser": "ours", "warm_start": True}
SMOKE: dict[str, Any] = _SHORT | {
    "search_steps": 12,
    "train_steps": 20,
    "learning_rate": 2e-3,
    "alpha_learning_rate": 0.05,
    "alpha_warmup_steps": 2,
    "relaxation": "softmax",
    "tau_first": 1.0,
    "tau_last": 0.5,
    "chunk": 4,
}
DEMO: dict[str, Any] = _SHORT | {
    "alpha_learning_rate": 0.02,
    "alpha_warmup_steps": 100,
    "relaxation": "gumbel",
    "tau_first": 2.0,
    "tau_last": 0.3,
}


@dataclass(frozen=True)
class RunOptions:
    """Options of every program and stage. Left-out values come from the preset.

    `program` is what follows `python -m experiments.`, `presets` what --preset chooses from. The
    attribute `given` holds the names of the options that a user gave: of a command line also those
    given at their defaults (`as_given`), else those that differ from them. `preset_of_init` is the
    preset where --init is given and --preset is not.
    """

    program: ClassVar[str]
    presets: ClassVar[dict[str, Preset]]
    preset_of_init: ClassVar[str] = "demo"

    preset: str = "demo"
    """smoke (a minute), demo (minutes), paper (the published recipe); full (detectors: tens of
    minutes, at the published size, and the default with --init)."""
    out: Path = Path("runs/out")
    """Folder of the run: checkpoints, metrics, graph/, hls/, report.json, report.html."""
    data: Path | None = None
    """Folder of the data set."""
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
    warm_start: bool | None = None
    """Start training from the supernet's weights instead of from scratch."""
    wbits: str | None = None
    """Train these weight widths (one digit a layer) instead of the searched ones."""
    abits: str | None = None
    """Train these activation widths (one digit a layer)."""
    unquantised: bool = False
    """Train and test in float32, the baseline; only for `train`, `test` and `all`. With --init: of
    a file that was trained in float."""
    slim: int | None = None
    """Divide the hidden channels of the network by this (with --init: 1 unless given)."""
    init: Path | None = None
    """PyTorch checkpoint (.pt) to train on from, or with `test` to measure as it is (with --out:
    to test what was trained from it there)."""
    quantiser: Literal["ours", "mixq", "dorefa", "contest"] | None = None
    """Number formats: ours, DeepBurning-MixQ's, its DoReFa baselines', the contest teams'."""
    csim_frames: int | None = None
    """Test frames that the C++ is simulated on. `test --init`: all, but at most the first 100."""
    json: bool = False
    """Print what `test` found as one JSON object."""

    def __post_init__(self):
        changed = {
            field.name for field in fields(self) if getattr(self, field.name) != field.default
        }
        object.__setattr__(self, "given", frozenset(changed))

    def as_given(self, names: Collection[str]) -> Self:
        """Return these options, of which a command line gave `names`."""
        options = replace(self)
        object.__setattr__(options, "given", frozenset(names))
        return options

    def completed(self, environment: Mapping[str, str]) -> Self:
        """Return these options with what the environment adds to them."""
        return self

    @property
    def chosen_preset(self) -> str:
        """The preset's name: with --init, unless one is given, that of the file's image size."""
        default = self.init is not None and "preset" not in self.given
        return self.preset_of_init if default else self.preset

    @property
    def needs_search(self) -> bool:
        """Whether there are widths to choose: not given, not those of a checkpoint, not none."""
        return needs_search(vars(self))

    def resolved(self) -> Preset:
        """Return the preset with the given values put in; OptionError for impossible ones."""
        name = self.chosen_preset
        if name not in self.presets:
            raise OptionError(f"--preset {name}: unknown; choose {', '.join(self.presets)}")
        given = {
            field.name: getattr(self, field.name)
            for field in fields(Preset)
            if getattr(self, field.name, None) is not None
        }
        if self.init is not None:
            given.setdefault("slim", 1)  # published networks have their full width
        preset = replace(self.presets[name], **given)
        _check(self, preset)
        return preset


def needs_search(options: Mapping[str, Any]) -> bool:
    """Whether a run of these options (also as they are recorded) has widths to choose."""
    return not any(options.get(name) for name in ("wbits", "init", "unquantised"))


def given_beside(options: RunOptions, used: Collection[str]) -> Iterator[tuple[str, Any]]:
    """Yield (name without dashes before it, value) of options that were given but are not `used`.

    For commands that most options mean nothing to.
    """
    for field in fields(options):
        if field.name in options.given and field.name not in used:
            yield field.name.replace("_", "-"), getattr(options, field.name)


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
    "csim_frames": (1, 10_000),
    "slim": (1, 16),  # the narrowest layer of a network has 16 channels
    "workers": (1, 256),
}
# What means nothing where no search is run.
OF_THE_SEARCH = ("lam", "search_steps", "relaxation", "tau_first", "tau_last", "warm_start")


def _check(options: RunOptions, preset: Preset) -> None:
    for name, (low, high) in RANGES.items():
        value = getattr(preset if hasattr(preset, name) else options, name, None)
        if value is not None and not low <= value <= high:  # neither is NaN
            flag = name.replace("_", "-")
            raise OptionError(f"--{flag} {value}: must be in {low:g}..{high:.10g}")
    if (options.wbits is None) != (options.abits is None):
        raise OptionError("--wbits and --abits belong together; give both or none")
    for name in () if options.needs_search else OF_THE_SEARCH:
        if getattr(options, name) is not None:
            raise OptionError(
                f"--{name.replace('_', '-')} {getattr(options, name)}: no search is run with "
                "--wbits, --init or --unquantised; leave it out"
            )
    if options.unquantised and options.wbits is not None:
        raise OptionError(
            "--unquantised: a float network has no widths; leave out --wbits, --abits"
        )
    if preset.train_steps == 0 and options.init is None:
        raise OptionError("--train-steps 0: only with --init, to take its weights as they are")

# SPDX-License-Identifier: Apache-2.0
"""What the stages of one run share: options made concrete, data, network, run card."""

import platform
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import jax

from experiments import init_file, run_folder
from experiments.classification_options import ClassificationOptions
from experiments.commands import NOT_RECORDED, command
from experiments.data import check_folder, load_split
from experiments.detection_options import DetectionOptions
from experiments.init_file import InitFile
from experiments.options import Preset, RunOptions
from hw.device import Device, device
from hw.hls import toolchain
from mixq_jax.bits import BitsError, FixedBits, FloatBits, parse_bits
from mixq_jax.data.dacsdc import Dataset
from mixq_jax.data.frames import FrameFiles
from mixq_jax.data.labelled import Labelled
from mixq_jax.nets import classifier, detector
from mixq_jax.spec import NetSpec
from mixq_jax.task import score_name

PACKAGES = ("mixq-jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "hls4ml")


@dataclass(frozen=True)
class Run:
    """Options and everything derived from them; data are decoded on first use."""

    options: RunOptions
    preset: Preset

    @property
    def out(self) -> Path:
        return self.options.out

    @cached_property
    def spec(self) -> NetSpec:
        preset = self.preset
        match self.options:
            case DetectionOptions(net=net):
                return detector(net, preset.height, preset.width, self.quantiser, preset.slim)
            case ClassificationOptions(net=net, dataset=dataset):
                planes = 1 if dataset == "mnist" else 3
                return classifier(
                    net,
                    preset.height,
                    self.quantiser,
                    preset.slim,
                    planes,
                    unquantised=self.options.unquantised,
                )
        raise AssertionError(f"no network for {type(self.options).__name__}")

    @cached_property
    def init_file(self) -> InitFile | None:
        """The checkpoint of --init."""
        return None if self.options.init is None else init_file.load(self.options.init)

    @cached_property
    def init_variables(self) -> dict | None:
        """The weights of --init."""
        if self.init_file is None:
            return None
        return init_file.variables(self.init_file, self.spec)

    @property
    def quantiser(self) -> str:
        """The number formats: those asked for, else of --init's makers, else of the preset."""
        if self.options.quantiser is not None or self.init_file is None:
            return self.preset.quantiser
        return init_file.quantiser(self.init_file, self.options.unquantised)

    @cached_property
    def device(self) -> Device:
        return device(self.options.device)

    @cached_property
    def train_data(self) -> Dataset | Labelled:
        return load_split(self.options, self.preset, "train")

    @cached_property
    def test_data(self) -> Dataset | Labelled:
        return load_split(self.options, self.preset, "test")

    def command(self, stage: str) -> str:
        """Return the command line of a stage with the options of this run, for messages."""
        options = asdict(self.options) | {"preset": self.options.chosen_preset}
        return command(type(self.options), stage, self.out, options)

    def check(self, simulates: bool) -> None:
        """Fail early, before minutes of work, on what only a later stage would notice."""
        _ = self.spec, self.device
        if simulates:
            toolchain.find()
        if not self.options.needs_search:
            self.trained_bits()
        self._check_init()
        check_folder(self.options)

    def _check_init(self) -> None:
        if (file := self.init_file) is None:
            return
        variables = self.init_variables
        if self.options.unquantised:
            init_file.check_float(file)
        elif self.preset.train_steps == 0 and self.options.quantiser is None:
            init_file.check_pools(file, self.spec, variables["params"])

    def recorded_options(self) -> dict:
        """Return the options that decide results, as JSON values."""
        options = {
            key: str(value) if isinstance(value, Path) else value
            for key, value in asdict(self.options).items()
        }
        options["preset"] = self.options.chosen_preset
        if self.init_file is not None:
            options["init"] = self.init_file.recorded
        return {key: value for key, value in options.items() if key not in NOT_RECORDED}

    def trained_bits(self) -> FixedBits | FloatBits:
        """Return what the network is trained at: the chosen widths, or none with --unquantised."""
        return FloatBits() if self.options.unquantised else self.chosen_bits()

    def chosen_bits(self) -> FixedBits:
        """Return the widths given by options, else of --init, else those the search found."""
        if self.options.wbits is not None:
            return given_bits(self.options, self.spec)
        if self.init_file is not None:
            return init_file.widths(self.init_file, self.spec, self.quantiser)
        found = run_folder.read_json(self.out / "search/result.json", self.command("search"))
        try:
            return parse_bits(str(found.get("w")), str(found.get("a")), self.spec.fixed_bits)
        except BitsError as error:
            raise run_folder.RunError(
                f"{self.out / 'search/result.json'} holds no widths ({error}); "
                f"run `{self.command('search')}` again"
            ) from error

    def write_card(self) -> None:
        """Write OUT/run.json: the whole configuration and the versions it ran with."""
        generated = self.options.data is None and isinstance(self.options, DetectionOptions)
        run_folder.write_json(
            self.out / "run.json",
            {
                "schema": 2,
                "program": self.options.program,
                "score": score_name(self.spec),
                "preset": self.options.chosen_preset,
                "init": self.options.init and str(self.options.init),
                "options": self.recorded_options(),
                "recipe": asdict(self.preset),
                "versions": {name: version(name) for name in PACKAGES}
                | {"python": platform.python_version()},
                "network": {
                    "name": self.spec.name,
                    "height": self.spec.height,
                    "width": self.spec.width,
                    "layers": [layer.name for layer in self.spec.convs],
                    "fixed": [layer.name for layer in self.spec.convs if layer.fixed_bits],
                },
                "device": {
                    "name": self.device.name,
                    "part": self.device.part,
                    "dsp": self.device.dsp,
                    "lut": self.device.lut,
                    "ff": self.device.ff,
                    "bram18": self.device.bram18,
                    "clock_mhz": self.options.clock_mhz,
                },
                "data": {
                    "source": "generated" if generated else str(self.options.data),
                    "note": getattr(self.test_data, "note", ""),
                    "classes": list(getattr(self.test_data, "classes", ())),
                    "streamed": isinstance(self.train_data.images, FrameFiles),
                    "train_frames": len(self.train_data.images),
                    "test_frames": len(self.test_data.images),
                },
            },
        )


def given_bits(options: RunOptions, spec: NetSpec) -> FixedBits:
    """Return the widths of --wbits and --abits; OptionError if they do not fit the network."""
    w, a = options.wbits, options.abits
    return init_file.parse_widths(spec, w, a, f"--wbits {w} --abits {a}")


def bit_strings(bits: FixedBits) -> dict[str, str]:
    """Return {"w": digits, "a": digits}."""
    return {"w": "".join(map(str, bits.w)), "a": "".join(map(str, bits.a))}


def bits_by_layer(spec: NetSpec, bits: FixedBits) -> dict[str, list[int]]:
    """Return {layer: [w, a]}."""
    return {layer.name: [w, a] for layer, w, a in zip(spec.convs, bits.w, bits.a, strict=True)}


def keep_compiled_programs(cache: Path) -> None:
    """Let XLA keep what it compiles beside the data, so that a second run starts at once."""
    jax.config.update("jax_compilation_cache_dir", str((cache / "xla").resolve()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)

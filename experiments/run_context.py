# SPDX-License-Identifier: Apache-2.0
"""What the stages of one run share: options made concrete, data, network, run card."""

import hashlib
import os
import platform
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import jax

from experiments import run_folder
from experiments.options import OptionError, Options, Preset
from experiments.progress import bar
from hw.device import Device, device
from hw.hls import toolchain
from mixq_jax import torch_file
from mixq_jax.bits import BitsError, FixedBits, parse_bits
from mixq_jax.data import DataError, dacsdc, synthetic
from mixq_jax.data.dacsdc import Dataset
from mixq_jax.model import uniform_bits
from mixq_jax.nets import detector
from mixq_jax.spec import NetSpec
from mixq_jax.torch_file import TorchFile

PACKAGES = ("mixq-jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "hls4ml")


@dataclass(frozen=True)
class Run:
    """Options and everything derived from them; data are decoded on first use."""

    options: Options
    preset: Preset

    @property
    def out(self) -> Path:
        return self.options.out

    @cached_property
    def spec(self) -> NetSpec:
        preset = self.preset
        return detector(self.options.net, preset.height, preset.width, self.quantiser, preset.slim)

    @cached_property
    def init_file(self) -> TorchFile | None:
        """The checkpoint of --init."""
        return None if self.options.init is None else torch_file.load(self.options.init)

    @property
    def quantiser(self) -> str:
        """The number formats: those asked for, else of --init's maker, else of the preset.

        A file with widths is DeepBurning-MixQ's, one without a contest team's.
        """
        if self.options.quantiser is not None or self.init_file is None:
            return self.preset.quantiser
        return "mixq" if self.init_file.w_bits else "contest"

    @cached_property
    def device(self) -> Device:
        return device(self.options.device)

    @cached_property
    def train_data(self) -> Dataset:
        return self._data("train")

    @cached_property
    def test_data(self) -> Dataset:
        return self._data("test")

    @cached_property
    def data_folder(self) -> Path:
        """The given folder, or the generated set (written on first use)."""
        if self.options.data is not None:
            return self.options.data
        config = synthetic.SyntheticConfig(
            height=self.preset.height,
            width=self.preset.width,
            train_frames=self.preset.train_frames,
            test_frames=self.preset.test_frames,
        )
        name = hashlib.sha256(repr(config).encode()).hexdigest()[:12]
        folder = self.options.cache / f"generated-{self.preset.height}x{self.preset.width}-{name}"
        with bar("generate data") as advance:
            synthetic.generate(folder, config, workers=os.cpu_count() or 1, progress=advance)
        return folder

    def _data(self, split: str) -> Dataset:
        folder = self.data_folder
        try:
            with bar(f"load {split} frames") as advance:
                return dacsdc.load(
                    folder,
                    self.preset.height,
                    self.preset.width,
                    split,
                    cache=self.options.cache,
                    progress=advance,
                )
        except DataError as error:
            if self.options.data is not None:
                raise
            raise run_folder.RunError(f"generated data: {error}; or delete {folder}") from error

    def check(self, simulates: bool) -> None:
        """Fail early, before minutes of work, on what only a later stage would notice."""
        _ = self.spec, self.device
        if simulates:
            toolchain.find()
        if self.options.wbits is not None or self.options.init is not None:
            self.chosen_bits()
        if self.options.data is not None and not self.options.data.is_dir():
            raise OptionError(
                f"--data {self.options.data}: no such folder; give the DAC-SDC folder or leave out"
            )

    def recorded_options(self) -> dict:
        """Return the options that decide results, as JSON values."""
        options = {
            key: str(value) if isinstance(value, Path) else value
            for key, value in asdict(self.options).items()
        }
        return {
            key: value for key, value in options.items() if key not in ("resume", "out", "cache")
        }

    def chosen_bits(self) -> FixedBits:
        """Return the widths given by options, else of --init, else those the search found.

        A checkpoint without widths has 4 bits everywhere, behind an 8-bit image.
        """
        if self.options.wbits is not None:
            return given_bits(self.options, self.spec)
        if (file := self.init_file) is not None:
            if file.w_bits is None or file.a_bits is None:
                return uniform_bits(self.spec, 4, 4)
            return given_bits(
                replace(self.options, wbits=file.w_bits, abits=file.a_bits), self.spec
            )
        found = run_folder.read_json(
            self.out / "search/result.json", "python -m experiments.dacsdc search"
        )
        try:
            return parse_bits(str(found.get("w")), str(found.get("a")), self.spec.fixed_bits)
        except BitsError as error:
            raise run_folder.RunError(
                f"{self.out / 'search/result.json'} holds no widths ({error}); "
                "run `python -m experiments.dacsdc search` again"
            ) from error

    def write_card(self) -> None:
        """Write OUT/run.json: the whole configuration and the versions it ran with."""
        generated = self.options.data is None
        run_folder.write_json(
            self.out / "run.json",
            {
                "schema": 1,
                "preset": self.options.preset,
                "options": self.recorded_options(),
                "recipe": asdict(self.preset),
                "versions": {name: version(name) for name in PACKAGES}
                | {"python": platform.python_version()},
                "network": {
                    "name": self.spec.name,
                    "height": self.spec.height,
                    "width": self.spec.width,
                    "layers": [layer.name for layer in self.spec.convs],
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
                    "train_frames": len(self.train_data.images),
                    "test_frames": len(self.test_data.images),
                },
            },
        )


def given_bits(options: Options, spec: NetSpec) -> FixedBits:
    """Return the widths of --wbits and --abits; OptionError if they do not fit the network."""
    w, a = options.wbits, options.abits
    try:
        return parse_bits(w, a, spec.fixed_bits)
    except BitsError as error:
        raise OptionError(f"--wbits {w} --abits {a}: {error}") from error


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

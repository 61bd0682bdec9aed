# SPDX-License-Identifier: Apache-2.0
"""Presets, what an option replaces in them, and every value that is refused."""

from dataclasses import fields, replace
from pathlib import Path

import pytest

from experiments.command_line import parse
from experiments.dacsdc import PROGRAM
from experiments.detection_options import PRESETS, DetectionOptions
from experiments.options import OptionError, Preset, given_beside
from mixq_jax.nets.baselines import BASELINES, QUANTISERS

NO_SEARCH = ": no search is run with --wbits, --init or --unquantised; leave it out"
SHARED = {field.name for field in fields(DetectionOptions)} & {
    field.name for field in fields(Preset)
}
OTHER = {
    "relaxation": "gumbel_hard",
    "lam": 0.25,
    "tau_first": 7.0,
    "tau_last": 0.125,
    "search_steps": 3,
    "train_steps": 5,
    "box_gain": 1.5,
    "quantiser": "dorefa",
    "slim": 16,
    "csim_frames": 7,
    "warm_start": None,  # the opposite of the preset's
}


def test_every_option_that_a_preset_has_is_listed_here():
    assert set(OTHER) == SHARED


@pytest.mark.parametrize("name", PRESETS)
def test_without_options_the_preset_is_taken_as_it_is(name):
    assert DetectionOptions(preset=name).resolved() == PRESETS[name]


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", OTHER)
def test_an_option_replaces_its_value_and_no_other(preset, name):
    value = not PRESETS[preset].warm_start if name == "warm_start" else OTHER[name]
    resolved = DetectionOptions(preset=preset, **{name: value}).resolved()
    assert getattr(PRESETS[preset], name) != value
    assert resolved == replace(PRESETS[preset], **{name: value})


def test_false_and_zero_are_values_and_not_left_out():
    resolved = DetectionOptions(preset="demo", warm_start=False, lam=0.0).resolved()
    assert resolved.warm_start is False
    assert resolved.lam == 0.0


def test_options_outside_the_preset_do_not_touch_it(tmp_path):
    changed = DetectionOptions(
        preset="smoke",
        out=tmp_path,
        data=tmp_path,
        cache=tmp_path,
        device="xck26",
        clock_mhz=100.0,
        resume=True,
        seed=3,
        wbits="4",
        abits="8",
    )
    assert changed.resolved() == PRESETS["smoke"]


def test_paper_preset_is_the_published_recipe():
    paper = PRESETS["paper"]
    assert (paper.height, paper.width, paper.slim) == (160, 320, 1)
    frames = 0.8 * 93_520
    assert (paper.search_steps, paper.train_steps) == (35 * 1169, 200 * 1169)
    assert paper.bias_warmup_steps == 3 * 1169
    assert 1169 == -(-frames // paper.search_batch) == -(-frames // paper.train_batch)
    assert (paper.optimiser, paper.learning_rate, paper.alpha_learning_rate) == ("sgd", 0.01, 0.01)
    assert (paper.relaxation, paper.tau_first, paper.tau_last) == ("softmax", 1.0, 1.0)
    assert paper.lam == 4 * 1e-5
    assert (paper.augment, paper.quantiser, paper.box_gain) == ("reference", "mixq", 3.54)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_presets_can_run(preset):
    assert preset.slim in (1, 2, 4)
    assert preset.height % 16 == preset.width % 16 == 0
    assert 0 < preset.chunk <= min(preset.search_steps, preset.train_steps)
    assert 0 <= preset.alpha_warmup_steps < preset.search_steps
    assert 0 <= preset.bias_warmup_steps < preset.train_steps
    assert 0 < preset.tau_last <= preset.tau_first
    assert 0 < preset.csim_frames <= preset.test_frames < preset.train_frames


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"preset": "huge"}, "--preset huge: unknown; choose smoke, demo, full, paper"),
        ({"tau_first": 0.0}, "--tau-first 0.0: must be in 0.001..1000"),
        ({"tau_last": -0.5}, "--tau-last -0.5: must be in 0.001..1000"),
        ({"search_steps": 0}, "--search-steps 0: must be in 1..1073741824"),
        ({"train_steps": -1}, "--train-steps -1: must be in 0..1073741824"),
        ({"train_steps": 0}, "--train-steps 0: only with --init, to take its weights as they are"),
        ({"csim_frames": 0}, "--csim-frames 0: must be in 1..10000"),
        ({"slim": 0}, "--slim 0: must be in 1..16"),
        ({"slim": 17}, "--slim 17: must be in 1..16"),
        (
            {"unquantised": True, "wbits": "444444444", "abits": "844444444"},
            "--unquantised: a float network has no widths; leave out --wbits, --abits",
        ),
        (
            {"wbits": "444444444", "abits": "844444444", "lam": 0.5},
            "--lam 0.5" + NO_SEARCH,
        ),
        ({"init": Path("x.pt"), "warm_start": True}, "--warm-start True" + NO_SEARCH),
        ({"unquantised": True, "search_steps": 5}, "--search-steps 5" + NO_SEARCH),
        ({"box_gain": 0.0}, "--box-gain 0.0: must be in 1e-06..1000000"),
        ({"lam": -1e-9}, "--lam -1e-09: must be in 0..1000000"),
        ({"clock_mhz": 0.0}, "--clock-mhz 0.0: must be in 1..2000"),
        ({"clock_mhz": -5.0}, "--clock-mhz -5.0: must be in 1..2000"),
        ({"tau_first": float("inf")}, "--tau-first inf: must be in 0.001..1000"),
        ({"tau_last": float("nan")}, "--tau-last nan: must be in 0.001..1000"),
        ({"lam": 1e300}, "--lam 1e+300: must be in 0..1000000"),
        ({"tau_first": 1e-300}, "--tau-first 1e-300: must be in 0.001..1000"),
        ({"lam": float("nan")}, "--lam nan: must be in 0..1000000"),
        ({"box_gain": float("inf")}, "--box-gain inf: must be in 1e-06..1000000"),
        ({"clock_mhz": float("inf")}, "--clock-mhz inf: must be in 1..2000"),
        ({"seed": -1}, "--seed -1: must be in 0..4294967295"),
        ({"seed": 1 << 32}, "--seed 4294967296: must be in 0..4294967295"),
        ({"workers": 0}, "--workers 0: must be in 1..256"),
        ({"workers": 257}, "--workers 257: must be in 1..256"),
        ({"wbits": "444444444"}, "--wbits and --abits belong together; give both or none"),
        ({"abits": "444444444"}, "--wbits and --abits belong together; give both or none"),
    ],
)
def test_impossible_values_are_refused(given, message):
    with pytest.raises(OptionError) as refused:
        DetectionOptions(**given).resolved()
    assert str(refused.value) == message


@pytest.mark.parametrize(
    "given",
    [
        {"seed": 0},
        {"seed": (1 << 32) - 1},
        {"lam": 0.0},
        {"search_steps": 1},
        {"train_steps": 1},
        {"tau_last": 1e-3},
        {"clock_mhz": 1.0},
        {"workers": 1},
        {"workers": 256},
        {"wbits": "444444444", "abits": "844444444"},
    ],
)
def test_values_at_the_edge_are_taken(given):
    resolved = DetectionOptions(**given).resolved()
    for name in SHARED & set(given):
        assert getattr(resolved, name) == given[name]


def test_given_is_what_differs_or_what_a_command_line_named(tmp_path):
    options = DetectionOptions(seed=3, out=tmp_path, lam=None)
    assert options.given == {"seed", "out"}
    named = options.as_given(["lam", "out", "preset"])
    assert named == options
    assert named.given == {"lam", "out", "preset"}
    assert options.given == {"seed", "out"}
    assert list(given_beside(named, ("out",))) == [("preset", "demo"), ("lam", None)]


def test_the_readme_trains_every_published_baseline():
    text = (Path(__file__).parents[2] / "README.md").read_text()
    lines = [
        line for line in text.splitlines() if line.startswith("python -m experiments.dacsdc --net")
    ]
    found = {}
    for line in lines:
        words, _, name = line.partition("#")
        options = parse(PROGRAM, words.split()[3:])
        quant = QUANTISERS[options.quantiser]
        found[name.strip()] = (options.net, options.wbits, options.abits, quant)
    assert found == {name: (one.net, one.w, one.a, one.quant) for name, one in BASELINES.items()}

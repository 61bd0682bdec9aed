# SPDX-License-Identifier: Apache-2.0
"""What options make of configurations and cards, and the arithmetic of the stages that learn."""

import json
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from experiments import evaluation, learning, stages
from experiments.detection_options import PRESETS, DetectionOptions
from experiments.run_context import Run
from hw.resources import RESOURCES, layer_cost
from mixq_jax import export, search
from mixq_jax.bits import FixedBits
from mixq_jax.data.augment import AugmentConfig, light, reference
from mixq_jax.data.dacsdc import Dataset
from mixq_jax.model import uniform_bits

BITS = {"wbits": "444444444", "abits": "844444444"}
GIVEN = FixedBits((4,) * 9, (8, *(4,) * 8))
CHANGES = {
    "net": "skynet",
    "quantiser": "dorefa",
    "slim": 2,
    "out": Path("elsewhere"),
    "data": Path("frames"),
    "cache": Path("elsewhere"),
    "device": "xc7z020",
    "clock_mhz": 100.0,
    "resume": True,
    "seed": 1,
    "relaxation": "gumbel_hard",
    "lam": 0.5,
    "tau_first": 3.0,
    "tau_last": 0.25,
    "search_steps": 3,
    "train_steps": 3,
    "box_gain": 1.0,
    "warm_start": False,
    "stream": "on",
    "workers": 2,
}
SEARCH_CHANGES = {
    "seed": {"seed"},
    "relaxation": {"relaxation"},
    "search_steps": {"steps"},
    "box_gain": {"gains.box"},
}
TRAIN_CHANGES = {"seed": {"seed"}, "train_steps": {"steps"}, "box_gain": {"gains.box"}}


def run_of(out: Path = Path("out"), **given) -> Run:
    options = DetectionOptions(**{"preset": "smoke", "out": out, **given})
    return Run(options, options.resolved())


def leaves(config, prefix: str = "") -> dict:
    """Return {dotted name: value} of nested dataclasses."""
    found = {}
    for field in fields(config):
        value = getattr(config, field.name)
        nested = is_dataclass(value)
        found |= leaves(value, f"{prefix}{field.name}.") if nested else {prefix + field.name: value}
    return found


def differing(first, second) -> set[str]:
    first, second = leaves(first), leaves(second)
    return {name for name in first if first[name] != second[name]}


def test_every_option_is_listed_here():
    assert {*CHANGES, *BITS, "preset", "init", "csim_frames", "json", "unquantised"} == {
        field.name for field in fields(DetectionOptions)
    }


@pytest.mark.parametrize("name", CHANGES)
def test_an_option_changes_its_own_part_of_a_configuration(name):
    before, after = run_of(), run_of(**{name: CHANGES[name]})
    searched = differing(learning.search_config(before), learning.search_config(after))
    trained = differing(learning.train_config(before), learning.train_config(after))
    assert searched == SEARCH_CHANGES.get(name, set())
    assert trained == TRAIN_CHANGES.get(name, set())


@pytest.mark.parametrize("name", PRESETS)
def test_configurations_are_those_of_the_preset(name):
    run, preset = run_of(preset=name, seed=5), PRESETS[name]
    config = leaves(learning.search_config(run))
    trained = leaves(learning.train_config(run))
    assert (config["steps"], config["batch"]) == (preset.search_steps, preset.search_batch)
    assert (trained["steps"], trained["batch"]) == (preset.train_steps, preset.train_batch)
    assert config["relaxation"] == preset.relaxation
    shared = set(config) & set(trained) - {"steps", "batch"}
    assert {key: config[key] for key in shared} == {key: trained[key] for key in shared}
    assert (config["seed"], config["gains.box"], config["gains.objectness"]) == (
        5,
        preset.box_gain,
        64.3,
    )


def test_batches_of_search_and_training_are_told_apart():
    run = run_of()
    run = Run(run.options, replace(run.preset, search_batch=3, train_batch=5))
    assert learning.search_config(run).batch == 3
    assert learning.train_config(run).batch == 5


def test_optimiser_of_the_published_recipe():
    assert leaves(learning.optimiser(run_of(preset="paper"))) == {
        "name": "sgd",
        "learning_rate": 0.01,
        "momentum": 0.937,
        "final_factor": 0.001,
        "bias_factor": 2.0,
        "bias_warmup_rate": 0.1,
        "bias_warmup_momentum": 0.9,
        "bias_warmup_steps": 3 * 1169,
        "weight_decay": 0.0,
        "alpha_learning_rate": 0.01,
        "alpha_weight_decay": 4.84e-4,
        "alpha_final_factor": 0.1,
        "alpha_warmup_steps": 0,
    }


def test_adam_treats_biases_as_weights():
    run = run_of(preset="demo")
    config = learning.optimiser(run)
    assert (config.name, config.bias_factor, config.final_factor) == ("adam", 1.0, 0.01)
    assert (config.learning_rate, config.alpha_learning_rate) == (5e-3, 0.02)
    assert (config.alpha_warmup_steps, config.bias_warmup_steps) == (100, 0)
    assert learning.search_config(run).optim == learning.train_config(run).optim == config


def test_augmentation_is_looked_up_by_name():
    for preset in PRESETS.values():
        assert isinstance(learning.AUGMENT[preset.augment](), AugmentConfig)
    assert learning.search_config(run_of(preset="paper")).augment == reference()
    assert learning.train_config(run_of(preset="paper")).augment == reference()
    assert learning.search_config(run_of(preset="demo")).augment == light()


def changed_cards(card) -> set[str]:
    """Return the options of CHANGES with which `card(run)` differs."""
    return {
        name for name, value in CHANGES.items() if card(run_of(**{name: value})) != card(run_of())
    }


def test_a_search_resumes_only_with_the_options_that_decide_it():
    decide = set(stages.DECIDING_OPTIONS["search"])
    assert changed_cards(learning.search_card) == decide - {"preset", "dataset"}
    assert learning.search_card(run_of()) != learning.search_card(run_of(preset="demo"))


def test_a_training_resumes_only_with_the_options_that_decide_its_steps():
    changed = changed_cards(lambda run: learning.train_card(run, GIVEN))
    assert changed == {
        *("net", "quantiser", "slim", "data", "seed", "box_gain", "train_steps", "warm_start")
    }
    assert changed <= set(stages.DECIDING_OPTIONS["train"])


def test_cards_name_network_kind_and_widths():
    run = run_of()
    searched, trained = learning.search_card(run), learning.train_card(run, GIVEN)
    assert (searched.kind, searched.bits, searched.step) == ("search", "", 0)
    assert (trained.kind, trained.bits, trained.step) == ("train", "w 444444444 a 844444444", 0)
    assert searched.network == trained.network == repr(run.spec)
    other = FixedBits((4,) * 9, (8, *(4,) * 7, 5))
    assert learning.train_card(run, other).config != trained.config


@pytest.mark.parametrize(
    ("preset", "macs"), [("paper", 22_118_400), ("demo", 5_529_600), ("smoke", 497_664)]
)
def test_macs_of_the_first_layer(preset, macs):
    run = run_of(preset=preset)
    assert learning.first_layer_macs(run) == macs
    graph = export.to_graph(run.spec, uniform_bits(run.spec, 4, 4))
    bitops = layer_cost(graph, run.device, "conv0", 2, 3)[RESOURCES.index("bitops")]
    assert bitops == 2 * 3 * macs


TABLES = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 5), st.just(7), st.just(7), st.integers(1, 3)),
    elements=st.integers(0, 1000).map(float),
)


@given(TABLES, st.randoms(use_true_random=False))
def test_cost_of_the_chosen_widths_is_a_sum_over_layers(table, random):
    layers = len(table)
    w, a = ([random.randrange(7) for _ in range(layers)] for _ in "wa")
    total = np.zeros(table.shape[-1])
    for layer in range(layers):
        total += table[layer, w[layer], a[layer]]
    found = learning._argmax_cost(table)(np.array(w), np.array(a))
    assert found.tolist() == total.tolist()


def search_metrics(steps: int, layers: int, resources: int, seed: int) -> search.SearchMetrics:
    """Random metrics of a chunk of steps, stacked as the loop returns them."""
    rng = np.random.default_rng(seed)
    shapes = {"cost": (resources,), "alpha_w": (layers, 7), "alpha_a": (layers, 7)}
    shapes |= dict.fromkeys(("total", "task", "box", "objectness", "tau"), ())
    names = [*search.SearchMetrics._fields, "box", "objectness"]
    values = {
        name: rng.normal(size=(steps, *shapes.get(name, (layers,)))).astype(np.float32)
        for name in names
    }
    values["terms"] = {name: values.pop(name) for name in ("box", "objectness")}
    values |= {f"argmax_{x}": rng.integers(2, 9, (steps, layers)) for x in "wa"}
    return search.SearchMetrics(**values)


@given(st.integers(1, 4), st.integers(1, 3), st.integers(0, 99), st.integers(0, 2**32 - 1))
def test_lines_of_a_search(steps, layers, first, seed):
    metrics = search_metrics(steps, layers, 2, seed)
    table = np.random.default_rng(seed).integers(0, 99, (layers, 7, 7, 2)).astype(float)
    lines = learning._search_lines(first, metrics, ("dsp", "bram"), learning._argmax_cost(table))
    assert json.loads(json.dumps(lines)) == lines
    assert [line["step"] for line in lines] == list(range(first, first + steps))
    for i, line in enumerate(lines):
        values = metrics._asdict() | metrics.terms
        del values["terms"]
        assert set(line) == {"step", "argmax_cost", *values}
        for name in values.keys() - {"cost"}:
            assert line[name] == values[name][i].tolist()
        assert line["cost"] == dict(zip(("dsp", "bram"), metrics.cost[i].tolist(), strict=True))
        chosen = [
            table[layer, metrics.argmax_w[i, layer] - 2, metrics.argmax_a[i, layer] - 2]
            for layer in range(layers)
        ]
        assert list(line["argmax_cost"]) == ["dsp", "bram"]
        assert list(line["argmax_cost"].values()) == sum(chosen).tolist()


@given(
    hnp.arrays(np.float32, st.integers(1, 40), elements=st.floats(0, 1, width=16)),
    st.integers(1, 15),
)
def test_shown_frames_are_even_quantiles_best_first(iou, count):
    rows = evaluation._spread(iou, count)
    assert len(set(rows.tolist())) == len(rows) == min(count, len(iou))
    assert (np.diff(iou[rows]) <= 0).all()
    assert iou[rows[0]] == iou.max()
    if len(rows) > 1:
        assert iou[rows[-1]] == iou.min()
    rank = {row: place for place, row in enumerate(sorted(range(len(iou)), key=lambda r: -iou[r]))}
    gaps = np.diff([rank[row] for row in rows.tolist()])
    assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1


def test_equal_frames_keep_their_order():
    assert evaluation._spread(np.array([0.5, 0.5, 0.75, 0.5]), 9).tolist() == [2, 0, 1, 3]
    assert evaluation._spread(np.array([0.1, 0.2, 0.3, 0.4, 0.5]), 3).tolist() == [4, 2, 0]


@pytest.mark.parametrize(("count", "kept"), [(2, 2), (9, 5)])
def test_head_takes_the_first_frames_of_every_field(count, kept):
    images, boxes = np.arange(15, dtype=np.uint8), np.arange(20, dtype=np.float32)
    data = Dataset(images.reshape(5, 1, 1, 3), boxes.reshape(5, 4), boxes[:5] + 1, tuple("abcde"))
    head = data.head(count)
    assert isinstance(head, Dataset)
    for field in fields(Dataset):
        whole, part = getattr(data, field.name), getattr(head, field.name)
        assert len(part) == kept
        assert np.array_equal(part, whole[:kept])

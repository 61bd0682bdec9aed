# SPDX-License-Identifier: Apache-2.0
"""Plans as JSON are complete: a checker that reads nothing else decodes exact sums from them."""

import json
from random import Random

import pytest

from hw.packing.listing import as_json, as_text, grid
from hw.packing.search import best_plans
from tests.packing_json import check_fields, check_form, check_sums

KEYS = {"w", "a", "macs_per_dsp", "mode", "t", "chain", "lut_per_mac", "narrow"}
KEYS |= {"words", "split", "proof"}
WORD_KEYS = {"w_port", "w_offsets", "w_labels", "a_port", "a_offsets", "a_labels"}
WORD_KEYS |= {"c_port_flush", "msb_flip", "fields"}
OPTIONS = [
    (3, {"narrow": False, "mode": "every", "known_bits": 2}),
]
MORE = [
    (3, {"narrow": True, "mode": "canary", "known_bits": 2}),
    (1, {"narrow": False, "mode": "every", "known_bits": 2}),
    (5, {"narrow": True, "mode": "chain", "chain": 5}),
    (5, {"narrow": False, "mode": "canary", "known_bits": 4}),
    (7, {"narrow": False, "mode": "canary", "known_bits": 2, "zero": "plain"}),
]
SLOW = [pytest.param(*options, marks=pytest.mark.slow) for options in MORE]


def listed(kernel: int, **options) -> list[dict]:
    cells = best_plans("dsp48e2", kernel, **options)
    return json.loads(json.dumps([as_json(plan) for plan in cells.values()]))


@pytest.mark.parametrize(("kernel", "options"), [*OPTIONS, *SLOW], ids=str)
def test_every_listed_plan_is_complete_and_exact(kernel, options):
    random = Random(kernel)
    plans = listed(kernel, **options)
    assert [(plan["w"], plan["a"]) for plan in plans] == [
        (w, a) for w in range(2, 9) for a in range(2, 9)
    ]
    for index, plan in enumerate(plans):
        assert plan.keys() >= KEYS
        assert all(word.keys() >= WORD_KEYS for word in plan["words"])
        assert plan["proof"]["method"] == "interval"
        check_form(plan)
        check_sums(plan, random, products=(1, 5)[index % 2])


def test_a_plan_with_a_wrong_offset_is_noticed():
    plan = listed(3, mode="every", known_bits=0)[16]
    word = plan["words"][0]
    word["fields"][1]["offset"] += 1
    with pytest.raises(AssertionError):
        check_fields(word)


def test_a_plan_without_its_port_trick_is_noticed():
    plans = listed(1, narrow=False, mode="every", known_bits=2)
    plan = next(p for p in plans if any(word["w_add"] for word in p["words"]))
    for word in plan["words"]:
        word["w_add"] = 0
    with pytest.raises(AssertionError):
        check_extremes(plan)


def check_extremes(plan: dict) -> None:
    for seed in range(20):
        check_sums(plan, Random(seed), 1)


def test_the_table_is_aligned_and_names_what_it_shows():
    cells = best_plans("dsp48e2", 3, narrow=False, mode="every", known_bits=0)
    lines = as_text(cells, "every").splitlines()
    assert lines[0] == (
        "MACs per DSP and cycle: dsp48e2, kernel 3x3, full-range weights, mode every"
    )
    assert len({len(line) for line in lines[1:9]}) == 1
    assert lines[4].split()[:3] == ["4", f"{float(cells[4, 2].macs_per_dsp):.2f}", "e0"]
    assert "signed" in lines[10]
    ratio = float(cells[4, 2].macs_per_dsp) / 12
    assert lines[17].split()[:2] == ["4", f"{ratio:.2f}"]
    assert "geometric mean 1.0" in lines[13]
    assert grid(cells)[2][0] == cells[4, 2].macs_per_dsp


def test_a_kernel_without_published_rates_has_one_table():
    cells = best_plans("dsp48e2", 7, mode="every", known_bits=0)
    assert "published" not in as_text(cells, "every")

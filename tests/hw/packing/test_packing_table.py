# SPDX-License-Identifier: Apache-2.0
"""tables.json is what the search finds; a layer gets the fastest plan that it can use."""

import json
from fractions import Fraction
from pathlib import Path

import pytest

from hw.packing import PackError, PackTable, table
from hw.packing.search import search
from hw.packing.table import PATH, read_tables, stored_geometries, write_tables

DOCUMENT = Path(__file__).parents[3] / "docs" / "packing.md"


@pytest.mark.parametrize("kernel", [1, 3])
def test_documented_rates(kernel):
    after_title = DOCUMENT.read_text().split(f"K = {kernel}\n\n")[1]
    rows = after_title.split("\n\n")[0].splitlines()[2:]
    documented = [[Fraction(rate) for rate in row.strip("| ").split("|")] for row in rows]
    for w_bits, rates in enumerate(table("dsp48e2", kernel).macs_per_dsp_grid(), start=2):
        assert documented[w_bits - 2] == [w_bits, *rates]


def test_stored_tables_are_what_the_search_finds(update_golden):
    if update_golden:
        write_tables()
    for kernel in (1, 3):
        for w_bits in range(2, 9):
            for a_bits in range(1, 9):
                cell = ("dsp48e2", kernel, w_bits, a_bits)
                assert stored_geometries(*cell) == search(*cell)


@pytest.mark.slow
def test_the_whole_file_is_what_the_search_finds(tmp_path):
    write_tables(tmp_path / "tables.json")
    assert (tmp_path / "tables.json").read_bytes() == PATH.read_bytes()


def test_an_unknown_version_is_refused(tmp_path):
    changed = tmp_path / "tables.json"
    changed.write_text(json.dumps({"version": 99, "dsps": {}}))
    with pytest.raises(PackError) as error:
        read_tables(changed)
    assert str(error.value) == (
        "tables.json has version 99, this code reads 1; "
        "regenerate it with hw.packing.table.write_tables"
    )


def test_plans_carry_an_interval_proof():
    for plan in table("dsp48e1", 5, narrow=False).plans(1, 3):
        assert (plan.dsp, plan.kernel, plan.narrow) == ("dsp48e1", 5, False)
        assert plan.proof.method == "interval"


@pytest.mark.parametrize("kernel", [1, 3])
def test_best_is_the_fastest_legal_plan(kernel):
    found = table("dsp48e2", kernel)
    for w_bits in range(2, 9):
        for a_bits in range(2, 9):
            plans = found.plans(w_bits, a_bits)
            assert found.best(w_bits, a_bits) == plans[0]
            for out_channels in (1, 6, 10, 16, 36, 64):
                legal = [plan for plan in plans if out_channels % plan.groups == 0]
                assert found.best(w_bits, a_bits, out_channels) == legal[0]
            single = [plan for plan in plans if plan.groups == 1]
            assert found.best(w_bits, a_bits, 64, depthwise=True) == single[0]


def test_lanes_may_overlap_on_a_port():
    strides = {
        weights[1].offset - weights[0].offset
        for plan in table("dsp48e2", 1).plans(2, 1)
        if len(weights := plan.pieces[0].word.weights) > 1
    }
    assert min(strides) == 1


def test_groups_decide_which_plan_a_layer_gets():
    found = table("dsp48e2", 1)
    assert (found.best(4, 4).groups, found.best(4, 4).macs_per_dsp) == (3, 6)
    assert (found.best(4, 4, 36).groups, found.best(4, 4, 36).macs_per_dsp) == (3, 6)
    assert (found.best(4, 4, 64).groups, found.best(4, 4, 64).macs_per_dsp) == (2, 4)
    assert found.best(4, 4, 64, depthwise=True).groups == 1


def test_plans_of_a_published_design():
    """iSmart packs w4a4 as 3 taps x 2 columns, 6 MACs, with chains of 4 (Int-DSP-Packing)."""
    plans = table("dsp48e2", 3).plans(4, 4)
    plan = next(plan for plan in plans if (plan.groups, plan.taps, plan.columns) == (1, 3, 2))
    assert (plan.macs_per_dsp, plan.dsps, plan.chain, plan.known_bits) == (6, 1, 9, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("dsp58", 3), "no packing table for DSP 'dsp58'; known: dsp48e1, dsp48e2"),
        (("dsp48e2", 4), "no packing plans for kernel 4; allowed: (1, 3, 5, 7)"),
    ],
)
def test_unknown_tables_are_named(arguments, message):
    with pytest.raises(PackError) as error:
        table(*arguments)
    assert str(error.value) == message


def test_unknown_widths_are_named():
    with pytest.raises(PackError, match=r"no packing plans for a_bits 9; allowed: 1\.\.8"):
        PackTable("dsp48e2", 3).plans(4, 9)


def test_a_layer_without_channels_is_refused():
    with pytest.raises(PackError, match="out_channels 0 must be at least 1"):
        table("dsp48e2", 3).best(4, 4, 0)

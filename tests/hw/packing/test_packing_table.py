# SPDX-License-Identifier: Apache-2.0
"""tables.json is what the search finds; a layer gets the fastest plan that it can use."""

import json
import re
from itertools import product

import pytest

from hw.device import DSPS
from hw.packing import PackError, PackTable, table
from hw.packing.cost import lut_per_mac
from hw.packing.rules import check
from hw.packing.table import (
    PATH,
    STORED,
    VERSION,
    Cell,
    cells,
    read_tables,
    searched_recipes,
    stored_recipes,
    tables_text,
    write_tables,
)

HINT = "regenerate it with hw.packing.table.write_tables (or pytest --update-golden)"
SAMPLE = [
    Cell("dsp48e2", 3, 4, 4, True),
    Cell("dsp48e2", 5, 3, 6, False),
    Cell("dsp48e2", 7, 2, 1, True),
    Cell("dsp48e1", 5, 6, 4, True),
]


@pytest.fixture(scope="module", autouse=True)
def updated(request):
    if request.config.getoption("--update-golden"):
        write_tables()
        read_tables.cache_clear()


@pytest.mark.parametrize("cell", SAMPLE, ids=str)
def test_a_stored_cell_is_what_the_search_finds(cell):
    assert stored_recipes(cell) == searched_recipes(cell), HINT


@pytest.mark.slow
def test_the_whole_file_is_what_the_search_finds():
    assert tables_text() == PATH.read_text(), HINT


def test_the_file_holds_every_cell_and_stays_small():
    assert len(read_tables(PATH)) == sum(len(cells(name)) for name in STORED)
    assert STORED == ("dsp48e1", "dsp48e2")
    assert PATH.stat().st_size < 4_500_000


def test_an_unknown_version_is_refused(tmp_path):
    changed = tmp_path / "tables.json"
    changed.write_text(json.dumps({"version": 99, "cells": {}}))
    message = (
        f"tables.json has version 99, this code reads {VERSION}; "
        "regenerate it with hw.packing.table.write_tables"
    )
    with pytest.raises(PackError, match=f"^{re.escape(message)}$"):
        stored_recipes(SAMPLE[0], changed)


def test_a_missing_cell_is_named(tmp_path):
    changed = tmp_path / "empty.json"
    changed.write_text(json.dumps({"version": VERSION, "cells": {}}))
    with pytest.raises(PackError, match=r"empty\.json has no plans for dsp48e2 kernel"):
        stored_recipes(SAMPLE[0], changed)


def test_plans_are_certified_and_estimated_by_the_one_cost_model():
    for plan in table("dsp48e1", 5, narrow=False).plans(1, 3):
        check(plan)
        assert (plan.dsp, plan.kernel, plan.narrow) == ("dsp48e1", 5, False)
        assert plan.proof.method == "interval"
        assert plan.lut_per_mac == lut_per_mac(plan)


def test_a_dsp_without_stored_tables_is_searched():
    plans = table("ice40-mac16", 1).plans(4, 4)
    assert {plan.dsp for plan in plans} == {"ice40-mac16"}
    assert plans[0].macs_per_dsp >= 2


@pytest.mark.parametrize("bits", [(2, 2), (4, 4), (3, 7), (8, 8)])
@pytest.mark.parametrize("kernel", [1, 3])
def test_best_is_the_fastest_legal_plan(kernel, bits):
    found = table("dsp48e2", kernel)
    plans = found.plans(*bits)
    rates = [plan.macs_per_dsp for plan in plans]
    assert rates == sorted(rates, reverse=True)
    assert found.best(*bits) == plans[0]
    for out_channels in (1, 6, 16, 36, 64):
        for width in (1, 3, 20):
            legal = [plan for plan in plans if out_channels % plan.groups == 0]
            legal = [plan for plan in legal if plan.columns <= width]
            assert found.best(*bits, out_channels, width=width) == legal[0]
    alone = [plan for plan in plans if plan.groups == 1]
    assert found.best(*bits, 64, depthwise=True) == alone[0]


def test_groups_decide_which_plan_a_layer_gets():
    """Rates for any, for 8 and for single output channels: w4a4, 1x1."""
    found = table("dsp48e2", 1)
    channels = {None: found.best(4, 4), 8: found.best(4, 4, 8), 1: found.best(4, 4, 1)}
    assert all(not (key or 0) % plan.groups for key, plan in channels.items())
    rates = [plan.macs_per_dsp for plan in channels.values()]
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize("narrow", [True, False])
def test_rates_never_rise_with_narrower_ports_or_more_range(narrow):
    ours, narrower, full = (
        table(*which)
        for which in (("dsp48e2", 3, narrow), ("dsp48e1", 3, narrow), ("dsp48e2", 3, False))
    )
    for bits in product(range(2, 9), range(2, 9)):
        rates = [other.best(*bits).macs_per_dsp for other in (narrower, full)]
        assert ours.best(*bits).macs_per_dsp >= max(rates)


def test_plans_of_a_published_design():
    """iSmart packs w4a4 as 3 taps x 2 columns, 6 MACs, in chains of 4 (Int-DSP-Packing)."""
    plans = table("dsp48e2", 3).plans(4, 4)
    found = [plan for plan in plans if plan.macs_per_dsp >= 6 and plan.chain >= 4]
    assert any(plan.known_bits == 0 and plan.groups == 1 for plan in found)


def test_unknown_tables_are_named():
    known = ", ".join(sorted(DSPS))
    for arguments, message in (
        (("dsp49", 3), f"no packing table for DSP 'dsp49'; known: {known}"),
        (("dsp48e2", 4), "no packing plans for kernel 4; allowed: (1, 3, 5, 7)"),
    ):
        with pytest.raises(PackError, match=f"^{re.escape(message)}$"):
            table(*arguments)


def test_unknown_widths_are_named():
    with pytest.raises(PackError, match=r"no packing plans for a_bits 9; allowed: 1\.\.8"):
        PackTable("dsp48e2", 3).plans(4, 9)


@pytest.mark.parametrize("given", [{"out_channels": 0}, {"width": 0}])
def test_a_layer_without_extent_is_refused(given):
    (name,) = given
    with pytest.raises(PackError, match=f"{name} 0 must be at least 1"):
        table("dsp48e2", 3).best(4, 4, **given)

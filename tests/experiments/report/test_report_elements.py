# SPDX-License-Identifier: Apache-2.0
"""Elements: escaping once, numbers as people read them."""

import pytest

from experiments.report import elements
from experiments.report.elements import Markup, tag


def test_strings_are_escaped_and_markup_is_not():
    assert tag("p", "a < b & ", tag("b", "c"), title='"') == (
        '<p title="&quot;">a &lt; b &amp; <b>c</b></p>'
    )
    assert isinstance(tag("p"), Markup)


def test_attributes_take_their_html_names():
    element = tag("svg", view_box="0 0 1 1", class_="x", aria_label="y", role=None)
    assert element == '<svg viewBox="0 0 1 1" class="x" aria-label="y"></svg>'
    assert tag("img", alt="z") == '<img alt="z">'
    assert tag("rect", x=1) == '<rect x="1"/>'


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        (elements.count(1_234_567), "1\u202f234\u202f567"),
        (elements.number(0.01234), "0.0123"),
        (elements.number(99.94), "99.9"),
        (elements.number(1234.6), "1\u202f235"),
        (elements.percent(0.125, 1), "12.5\u202f%"),
        (elements.change(110, 100), "+10\u202f%"),
        (elements.change(55, 100), "−45\u202f%"),
        (elements.change(100, 100), "0\u202f%"),
        (elements.duration(59.94), "59.9 s"),
        (elements.duration(61.3), "1 min 1 s"),
        (elements.duration(7500), "2 h 5 min"),
    ],
)
def test_numbers(shown, wanted):
    assert shown == wanted


def test_bars_stay_inside():
    assert elements.bar(1.7, "red", mark=-1) == (
        '<span class="bar"><i style="width:100.00%;background:red"></i>'
        '<b style="left:0.00%"></b></span>'
    )
    assert elements.stack([(0.25, "red"), (0, "blue")]).count("<i ") == 1


def test_chips_have_a_class_that_css_can_name():
    assert elements.chip("C simulation") == '<span class="chip c">C simulation</span>'

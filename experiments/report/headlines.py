# SPDX-License-Identifier: Apache-2.0
"""The numbers that matter most, one card each; a dash where the stage has not run."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from experiments.report import colours
from experiments.report.document import chosen_bits
from experiments.report.elements import (
    Evidence,
    Markup,
    bar,
    change,
    chip,
    count,
    grid,
    join,
    percent,
    tag,
)
from experiments.report.record import RunRecord
from experiments.report.words import WORDS


class Headline(NamedTuple):
    """A number, what stands under it, and how to take it ("good", "bad" or neither)."""

    value: object
    note: object
    tone: str = ""


def headlines(record: RunRecord) -> Markup:
    """Return the cards of a run."""
    return grid(*(_card(record, *entry) for entry in HEADLINES), class_="headlines")


def _card(
    record: RunRecord,
    label: str,
    evidence: Evidence,
    stage: str,
    make: Callable[[RunRecord, Mapping[str, Any]], Headline],
) -> Markup:
    result = record.result(stage)
    reason = f"{stage} has not finished" if stage in record.missing else "the widths were given"
    shown = Headline("–", reason) if result is None else make(record, result)
    label = label.format(score=WORDS[record.score_name].score)
    return tag(
        "div",
        tag("p", label, " ", chip(evidence), class_="label"),
        tag("p", shown.value, class_="value"),
        tag("p", shown.note, class_="note"),
        class_=f"headline {shown.tone}".rstrip(),
    )


def _integer_score(record: RunRecord, test: Mapping[str, Any]) -> Headline:
    score, words = test["score"], WORDS[record.score_name]
    note = (
        f"float {score['float']:.3f} · quantised {score['quant']:.3f} · "
        f"{words.constant} {score['constant']:.3f} · {count(test['frames'])} {words.images}"
    )
    error = tag("small", f" ± {test['score_error']['integer']:.3f}")
    return Headline(join((f"{score['integer']:.3f}", error)), note)


def _throughput(record: RunRecord, simulate: Mapping[str, Any]) -> Headline:
    cycles, clock_mhz = simulate["cycles"], record.run["device"]["clock_mhz"]
    note = f"at {clock_mhz:g} MHz (assumed), {count(cycles['interval'])} cycles a frame; "
    note += f"bottleneck {cycles['bottleneck']}"
    return Headline(count(round(cycles["fps_at_clock"])), note)


def _dsp(record: RunRecord, simulate: Mapping[str, Any]) -> Headline:
    device, used = record.run["device"], simulate["resources"]["dsp"]
    share, over = used / device["dsp"], used > device["dsp"]
    value = join((count(used), tag("small", f" / {count(device['dsp'])}")))
    shown = bar(share, colours.VERMILION if over else colours.BLUE)
    return Headline(
        value, join((shown, f"{percent(share)} of {device['name']}")), "bad" if over else ""
    )


def _mismatches(_: RunRecord, simulate: Mapping[str, Any]) -> Headline:
    csim = simulate["csim"]
    note = f"in {count(csim['frames'])} frames; compared: {csim['compared']}"
    if csim["first_mismatch"]:
        note += f"; first: {csim['first_mismatch']}"
    return Headline(count(csim["mismatches"]), note, "bad" if csim["mismatches"] else "good")


def _saving(record: RunRecord, search: Mapping[str, Any]) -> Headline:
    name, reference = next(iter(search["reference_cost"].items()))
    note = f"searched widths against {name}"
    if search["bits"] != chosen_bits(record):
        note += "; the network was trained at other widths"
    return Headline(change(search["cost"]["dsp"], reference["dsp"]), note)


HEADLINES = (
    ("Integer {score}", "measured", "test", _integer_score),
    ("Frames a second", "model", "simulate", _throughput),
    ("DSP slices", "model", "simulate", _dsp),
    ("Mismatches", "C simulation", "simulate", _mismatches),
    ("DSP work", "model", "search", _saving),
)

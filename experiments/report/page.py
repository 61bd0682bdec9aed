# SPDX-License-Identifier: Apache-2.0
"""report.html: one page that needs nothing outside itself."""

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from experiments.report import colours, hardware, learning
from experiments.report.document import chosen_bits
from experiments.report.elements import (
    Evidence,
    Markup,
    bar,
    change,
    chip,
    count,
    duration,
    figure,
    grid,
    join,
    percent,
    section,
    table,
    tag,
)
from experiments.report.record import STAGES, RunRecord

EVIDENCE: dict[Evidence, str] = {
    "measured": "the network was run on the test frames on this computer.",
    "model": "computed from the structure of the design, by closed forms or the cycle-level "
    "simulator. No synthesis tool and no board was used.",
    "C simulation": "the generated C++ was compiled with g++ and run; its integers were compared "
    "with the integer network's.",
}


def render(record: RunRecord) -> str:
    """Return the page of a run. Equal records give equal pages."""
    network, device = record.run["network"], record.run["device"]
    title = f"{network['name']} on {device['name']}"
    made = (make(record) for make in (*learning.SECTIONS, *hardware.SECTIONS))
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"{title}: mixed-precision report"),
        tag("style", Markup(files(__package__).joinpath("style.css").read_text("utf-8"))),
    )
    sections = [part for part in made if part is not None]
    main = tag("main", _header(record, title), *sections, _run_section(record), _footer())
    return f"<!DOCTYPE html>\n{tag('html', head, tag('body', main), lang='en')}\n"


def _header(record: RunRecord, title: str) -> Markup:
    network, data, device = (record.run[key] for key in ("network", "data", "device"))
    facts = (
        f"{network['height']} × {network['width']} images · {record.run['preset']} preset · "
        f"{data['source']} data: {count(data['train_frames'])} training and "
        f"{count(data['test_frames'])} test frames · {device['clock_mhz']:g} MHz"
    )
    return tag(
        "header",
        tag("p", "Mixed-precision report", class_="kicker"),
        tag("h1", title),
        tag("p", facts, class_="facts"),
        _stages(record),
        grid(*_headlines(record), class_="headlines"),
        _missing(record),
    )


def _stages(record: RunRecord) -> Markup:
    def step(stage: str) -> Markup:
        result = record.result(stage)
        time = "not run" if result is None else duration(result["seconds"])
        return tag("li", tag("b", stage), time, class_="absent" if result is None else None)

    return tag("ol", *map(step, STAGES), class_="stages")


def _missing(record: RunRecord) -> Markup | str:
    if not record.missing:
        return ""
    items = (
        tag("li", _state(record, stage), tag("code", record.command(stage)))
        for stage in record.missing
    )
    return tag("aside", tag("p", "Not in this report:"), tag("ul", *items), class_="missing")


def _state(record: RunRecord, stage: str) -> str:
    """Return how far a stage without a result has come."""
    trace = {"search": record.search, "train": record.train}.get(stage)
    return f"{stage} has not run: " if trace is None else f"{stage} was interrupted: "


def _headlines(record: RunRecord) -> list[Markup]:
    """Return the cards with the numbers that matter most; a dash where a stage is missing."""
    search, _, test, _, simulate = (record.result(stage) for stage in STAGES)
    return [
        _integer_iou(test),
        _throughput(simulate, record.run["device"]["clock_mhz"]),
        _dsp(simulate, record.run["device"]),
        _mismatches(simulate),
        _saving(search, chosen_bits(record)),
    ]


def _headline(
    label: str, value: object, evidence: Evidence, note: object, class_: str = ""
) -> Markup:
    return tag(
        "div",
        tag("p", label, " ", chip(evidence), class_="label"),
        tag("p", value, class_="value"),
        tag("p", note, class_="note"),
        class_=f"headline {class_}".rstrip(),
    )


def _integer_iou(test: Mapping[str, Any] | None) -> Markup:
    label = "Integer IoU"
    if test is None:
        return _headline(label, "–", "measured", "test has not run")
    iou = test["iou"]
    note = f"float {iou['float']:.3f} · quantised {iou['quant']:.3f} · "
    note += f"constant box {iou['constant_box']:.3f} · {count(test['frames'])} frames"
    return _headline(label, f"{iou['integer']:.3f}", "measured", note)


def _throughput(simulate: Mapping[str, Any] | None, clock_mhz: float) -> Markup:
    label = "Frames a second"
    if simulate is None:
        return _headline(label, "–", "model", "simulate has not run")
    cycles = simulate["cycles"]
    note = f"at {clock_mhz:g} MHz, {count(cycles['interval'])} cycles a frame; "
    note += f"bottleneck {cycles['bottleneck']}"
    return _headline(label, count(round(cycles["fps_at_clock"])), "model", note)


def _dsp(simulate: Mapping[str, Any] | None, device: Mapping[str, Any]) -> Markup:
    label = "DSP slices"
    if simulate is None:
        return _headline(label, "–", "model", "simulate has not run")
    used, available = simulate["resources"]["dsp"], device["dsp"]
    value = join((count(used), tag("small", f" / {count(available)}")))
    over = used > available
    shown = bar(used / available, colours.VERMILION if over else colours.BLUE)
    note = join((shown, f"{percent(used / available)} of {device['name']}"))
    return _headline(label, value, "model", note, "bad" if over else "")


def _mismatches(simulate: Mapping[str, Any] | None) -> Markup:
    label = "Mismatches"
    if simulate is None:
        return _headline(label, "–", "C simulation", "simulate has not run")
    csim = simulate["csim"]
    note = f"in {count(csim['frames'])} frames; compared: {csim['compared']}"
    class_ = "bad" if csim["mismatches"] else "good"
    return _headline(label, count(csim["mismatches"]), "C simulation", note, class_)


def _saving(search: Mapping[str, Any] | None, bits: Mapping | None) -> Markup:
    label = "DSP work"
    if search is None:
        return _headline(label, "–", "model", "search has not run")
    name, reference = next(iter(search["reference_cost"].items()))
    note = f"searched widths against {name}"
    if search["bits"] != bits:
        note += "; the network was trained at other widths"
    return _headline(label, change(search["cost"]["dsp"], reference["dsp"]), "model", note)


def _run_section(record: RunRecord) -> Markup:
    versions = table(("package", "version"), record.run["versions"].items(), "figures")
    given = {key: value for key, value in record.run["options"].items() if value is not None}
    options = table(("option", "value"), given.items(), "figures")
    cards = (
        figure("Time", _seconds(record)),
        figure("Versions", versions),
        figure("Options", options),
    )
    export = record.result("export")
    project = (
        f"The HLS project hls/ has {count(export['files'])} files, {count(export['bytes'])} bytes; "
        f"digest {export['digest'][:16]}."
        if export
        else "No HLS project has been exported."
    )
    return section("Run", project, grid(*cards), id_="run")


def _seconds(record: RunRecord) -> Markup:
    times = {stage: result["seconds"] for stage, result in record.results.items()}
    if simulate := record.result("simulate"):
        times["C++ compiler"] = simulate["csim"]["compile_seconds"]
        times["C simulation"] = simulate["csim"]["seconds"]
    longest = max([1e-9, *times.values()])
    rows = [
        (name, bar(seconds / longest, colours.GREY), duration(seconds))
        for name, seconds in times.items()
    ]
    return table(("stage", "", "time"), rows, "bars")


def _footer() -> Markup:
    entries = (
        tag("p", chip(evidence), " ", meaning, class_="evidence")
        for evidence, meaning in EVIDENCE.items()
    )
    return tag("footer", tag("h2", "What the numbers rest on"), *entries)

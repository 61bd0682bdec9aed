# SPDX-License-Identifier: Apache-2.0
"""Elements of the page: HTML that is escaped once, numbers, chips, bars, tables, figures."""

import base64
import html
from collections.abc import Iterable, Sequence
from typing import Literal

VOID = ("img", "meta", "rect", "image", "use")
THIN_SPACE = "\N{NARROW NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"

Evidence = Literal["measured", "model", "C simulation"]


class Markup(str):
    """HTML that is escaped already; every other string is escaped when it is put into a tag."""


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """Return an element; `class_` is class, `view_box` is viewBox, `aria_label` is aria-label."""
    given = "".join(
        f' {_attribute(key)}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in VOID:
        return Markup(f"<{name}{given}>" if name in ("img", "meta") else f"<{name}{given}/>")
    return Markup(f"<{name}{given}>{join(children)}</{name}>")


def join(parts: Iterable[object]) -> Markup:
    """Return the parts one after another, escaped where they are not Markup."""
    return Markup("".join(p if isinstance(p, Markup) else html.escape(str(p)) for p in parts))


def _attribute(key: str) -> str:
    return {"view_box": "viewBox"}.get(key, key.rstrip("_").replace("_", "-"))


def count(value: int) -> str:
    """Return an integer in groups of three digits."""
    return f"{value:,}".replace(",", THIN_SPACE)


def number(value: float, digits: int = 3) -> str:
    """Return a number with `digits` significant digits, whole from 10^digits on."""
    if abs(value) >= 10 ** (digits - 1):
        return count(round(value))
    return f"{value:.{digits}g}"


def signed(text: str, value: float) -> str:
    """Return `text`, which shows the size of `value`, with the sign of `value`."""
    return f"{'+' if value > 0 else MINUS if value < 0 else ''}{text}"


def percent(share: float, decimals: int = 0) -> str:
    """Return a share as a percentage."""
    return f"{100 * share:.{decimals}f}{THIN_SPACE}%"


def change(value: float, reference: float) -> str:
    """Return by how much `value` differs from `reference`, such as +12 %."""
    share = value / reference - 1
    return signed(percent(abs(share)), share)


def duration(seconds: float) -> str:
    """Return seconds as 4.2 s, 3 min 20 s or 2 h 5 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def chip(evidence: Evidence) -> Markup:
    """Return the label that says what a number rests on."""
    return tag("span", evidence, class_=f"chip {evidence.split()[0].lower()}")


def bar(share: float, colour: str, mark: float | None = None) -> Markup:
    """Return a horizontal bar filled to `share` (0..1), with a line at `mark` (0..1)."""
    parts = [tag("i", style=f"width:{_clip(share):.2%};background:{colour}")]
    if mark is not None:
        parts.append(tag("b", style=f"left:{_clip(mark):.2%}"))
    return tag("span", *parts, class_="bar")


def stack(shares: Sequence[tuple[float, str]]) -> Markup:
    """Return a horizontal bar of (share, colour) pieces."""
    pieces = (tag("i", style=f"width:{_clip(s):.2%};background:{c}") for s, c in shares if s > 0)
    return tag("span", *pieces, class_="bar stack")


def _clip(share: float) -> float:
    return min(max(share, 0.0), 1.0)


def table(head: Sequence[object], rows: Iterable[Sequence[object]], class_: str = "") -> Markup:
    """Return a table that scrolls sideways by itself; the first column names the rows."""
    header = tag("tr", *(tag("th", cell, scope="col") for cell in head))
    body = (
        tag("tr", tag("th", name, scope="row"), *(tag("td", cell) for cell in cells))
        for name, *cells in rows
    )
    whole = tag("table", tag("thead", header), tag("tbody", *body), class_=class_ or None)
    return tag("div", whole, class_="scroll", tabindex=0)


def svg_image(svg: str, alt: str) -> Markup:
    """Return an SVG drawing as an image that is part of the page."""
    data = base64.b64encode(svg.encode()).decode()
    return tag("img", src=f"data:image/svg+xml;base64,{data}", alt=alt)


def figure(
    title: str,
    content: Markup,
    note: str = "",
    evidence: Evidence | None = None,
    class_: str = "card",
) -> Markup:
    """Return a titled card with a note under it and the evidence beside its title."""
    head = tag("h3", title, chip(evidence) if evidence else "")
    caption = tag("p", note, class_="note") if note else ""
    return tag("figure", head, content, caption, class_=class_)


def section(title: str, lead: object, *content: object, id_: str) -> Markup:
    """Return a section with a leading sentence."""
    return tag("section", tag("h2", title), tag("p", lead, class_="lead"), *content, id_=id_)


def grid(*cards: object, class_: str = "grid") -> Markup:
    """Return cards side by side, as many as fit."""
    return tag("div", *cards, class_=class_)


def legend(entries: Iterable[tuple[str, str]]) -> Markup:
    """Return a legend of (label, colour)."""
    keys = (tag("span", tag("i", style=f"background:{colour}"), text) for text, colour in entries)
    return tag("p", *keys, class_="legend")

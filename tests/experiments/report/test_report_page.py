# SPDX-License-Identifier: Apache-2.0
"""report.json and report.html of whole, partial and unhappy runs."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from experiments.report import ReportError, write_report
from experiments.report.document import report_document
from experiments.report.elements import VOID
from experiments.report.headlines import headlines
from experiments.report.learning import bits_section
from experiments.report.page import render
from experiments.report.record import STAGES, read_run
from tests.experiments import report_inputs as inputs

MAX_BYTES = 3_000_000


class Page(HTMLParser):
    """Text and addresses of a page; fails on tags that are not closed in order."""

    def __init__(self, html: str):
        super().__init__()
        self.open, self.words, self.addresses, self.tags = [], [], [], set()
        self.classes: set[str] = set()
        self.feed(html)
        self.close()
        assert self.open == []

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.addresses += [value for key, value in attributes if key in ("src", "href")]
        self.classes |= set(dict(attributes).get("class", "").split())
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The page of a whole run."""
    return write_report(inputs.write_run(tmp_path_factory.mktemp("run"), steps=40))


def page_of(out: Path) -> Page:
    return Page(render(read_run(out)))


def rewrite(path: Path, change) -> None:
    document = json.loads(path.read_text())
    change(document)
    inputs.write_json(path, document)


def test_codes_that_differ_are_counted_or_none(tmp_path):
    def agree(document):
        document["differences"] = {name: [0, 409600] for name in inputs.LAYERS}

    out, layers = inputs.write_run(tmp_path, steps=40), len(inputs.LAYERS)
    differing = sum(37 * index for index in range(layers))
    total = f"{layers * 409600:,}".replace(",", " ")
    text = page_of(out).text.replace("\N{NARROW NO-BREAK SPACE}", " ")
    assert f"{differing:,} of".replace(",", " ") in text
    assert f"of {total} activation codes differ: where the float32 norm falls" in text
    rewrite(out / "test/result.json", agree)
    text = page_of(out).text.replace("\N{NARROW NO-BREAK SPACE}", " ")
    assert f"None of {total} activation codes differs." in text


def test_both_files_are_written_and_nothing_else(whole):
    assert whole.name == "report.html"
    assert {p.name for p in whole.parent.iterdir()} == {
        *STAGES,
        "run.json",
        "report.json",
        "report.html",
    }


def test_the_document_repeats_what_the_stages_wrote(whole):
    text = whole.with_name("report.json").read_text()
    document = json.loads(text)
    assert text == json.dumps(document, indent=1, sort_keys=True) + "\n"

    def stage(name):
        return json.loads((whole.parent / name / "result.json").read_text())

    assert document["schema"] == 2
    assert document["bits"] == document["searched_bits"] == inputs.BITS
    assert document["iou"] == stage("test")["score"]
    assert document["differences"] == stage("test")["differences"]
    for key in ("csim", "cycles", "resources", "layers"):
        assert document[key] == stage("simulate")[key]
    for key in ("device", "versions", "network", "data", "options", "preset", "recipe"):
        assert document[key] == inputs.CARD[key]
    assert document["seconds"] == {name: stage(name)["seconds"] for name in STAGES}
    assert document["cost"] == stage("search")["cost"]
    assert document["reference_cost"] == stage("search")["reference_cost"]
    assert document["export"] == {
        "files": 38,
        "bytes": 812_455,
        "digest": stage("export")["digest"],
    }
    assert document["missing"] == []


def test_the_page_needs_nothing_outside_itself(whole):
    html = whole.read_text()
    page = Page(html)
    assert page.addresses
    assert all(address.startswith(("data:image/", "#frame")) for address in page.addresses)
    assert not page.tags & {"script", "link", "iframe"}
    assert "http" not in html
    assert "url(" not in html
    assert len(html.encode()) < MAX_BYTES


def test_every_variable_of_the_style_sheet_is_set(whole):
    style = whole.read_text().split("<style>")[1].split("</style>")[0]
    used, given = re.findall(r"var\((--[a-z-]+)\)", style), re.findall(r"(--[a-z-]+):", style)
    assert used
    assert set(used) <= set(given)


def test_the_page_shows_the_numbers(whole):
    text = Page(whole.read_text()).text
    for wanted in (
        "Integer IoU measured 0.696 ± 0.012",
        "Frames a second model 5 407 at 250 MHz (assumed), 46 240 cycles a frame",
        "DSP slices model 298 / 360",
        "Mismatches C simulation 0 in 4 frames; compared: all integers of all layers",
        "DSP work model −9 % searched widths against w 444444444 a 844444444",
        "model, ±60 % until calibrated",
        "Integer less quantised: −0.0005",
        "conv1_mac 46 240 138 720 400 0",
        "input_to_conv0_window 160 6 97",
        "search 1 min 1 s",
        "jax 0.10.2",
    ):
        assert wanted in text, wanted


def test_every_frame_is_drawn_with_its_scores(whole):
    page = Page(whole.read_text())
    assert sum(address.startswith("data:image/jpeg") for address in page.addresses) == 12
    assert "IoU 0.93 confidence 0.98" in page.text
    assert whole.read_text().count('class="prediction"') == 12


def test_every_layer_has_a_panel(whole):
    page = Page(whole.read_text())
    svgs = sum(address.startswith("data:image/svg") for address in page.addresses)
    assert svgs == len(inputs.LAYERS) + 3 + 3 + 2  # panels, loss and entropies, costs, training


NULLS = {
    "search": ("searched_bits", "cost", "reference_cost"),
    "train": ("warm_start",),
    "test": ("iou", "test_frames", "differences"),
    "export": ("export",),
    "simulate": ("csim", "cycles", "resources", "layers"),
}


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_run_that_stopped_early_is_reported(tmp_path, count):
    path = write_report(inputs.write_run(tmp_path, STAGES[:count], steps=2))
    document = json.loads(path.with_name("report.json").read_text())
    text = Page(path.read_text()).text
    assert document["missing"] == list(STAGES[count:])
    for index, stage in enumerate(STAGES):
        assert (document["seconds"][stage] is None) == (index >= count)
        assert all((document[key] is None) == (index >= count) for key in NULLS[stage])
        line = f"{stage} has not run: python -m experiments.dacsdc {stage} --out {tmp_path}"
        assert (line in text) == (index >= count)
    assert (document["bits"] is None) == (count == 0)


def test_an_unfinished_search_can_be_resumed(tmp_path):
    out = inputs.write_run(tmp_path, ("search",), steps=2)
    (out / "search/result.json").unlink()
    text = page_of(out).text
    assert f"search has not finished: python -m experiments.dacsdc search --out {out} --resume" in (
        text
    )
    assert "2 steps; temperature" in text


def test_given_widths_are_told_from_searched_ones(tmp_path):
    out = inputs.write_run(tmp_path, ("search", "train"), steps=1)
    four = {name: [4, 4] for name in inputs.LAYERS}
    rewrite(out / "train/result.json", lambda result: result.update(bits=four))
    record = read_run(out)
    document = report_document(record)
    assert (document["bits"], document["searched_bits"]) == (four, inputs.BITS)
    wanted = "trained at given widths, not at those the search found"
    assert wanted in Page(bits_section(record)).text
    assert "the network was trained at other widths" in Page(headlines(record)).text


def test_mismatches_and_a_design_too_large_are_bad_news(tmp_path):
    out = inputs.write_run(tmp_path, ("simulate",))
    assert "bad" not in page_of(out).classes

    def spoil(result):
        result["csim"] |= {"mismatches": 3, "first_mismatch": "conv1 pixel (0, 2)"}
        result["resources"]["dsp"] = 400

    rewrite(out / "simulate/result.json", spoil)
    page = page_of(out)
    assert "3 in 4 frames; compared: all integers of all layers; first: conv1 pixel (0, 2)" in (
        page.text
    )
    assert "111 % of xczu3eg" in page.text
    assert "bad" in page.classes
    assert "good" not in page.classes


def test_bands_are_as_wide_as_the_model_says(tmp_path):
    out = inputs.write_run(tmp_path, ("simulate",))
    band = {"lut": 1000, "lut_low": 800, "lut_high": 1500}
    rewrite(out / "simulate/result.json", lambda result: result["resources"].update(band))
    text = page_of(out).text
    assert "1 000 (800–1 500)" in text
    assert "model, −20 % to +50 % until calibrated" in text
    assert text.count("counted by rule") == 2


def test_a_band_beyond_the_device_is_named(tmp_path):
    out = inputs.write_run(tmp_path, ("simulate",))
    warning = "The band of LUT reaches beyond it: synthesis decides."
    assert warning not in page_of(out).text
    band = {"lut_high": inputs.CARD["device"]["lut"] + 1}
    rewrite(out / "simulate/result.json", lambda result: result["resources"].update(band))
    assert warning in page_of(out).text


def test_names_are_escaped(tmp_path):
    out = inputs.write_run(tmp_path, ())
    source = "</title><script>alert('&')</script>"
    rewrite(out / "run.json", lambda card: card["data"].update(source=source))
    page = page_of(out)
    assert "script" not in page.tags
    assert source in page.text


def test_equal_runs_give_equal_pages(tmp_path):
    pages = [
        write_report(inputs.write_run(tmp_path, STAGES[1:], steps=3)).read_bytes() for _ in range(2)
    ]
    assert pages[0] == pages[1]


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    out = inputs.write_run(tmp_path, ())
    (out / "report.html").mkdir()
    (out / "report.html/file").touch()
    with pytest.raises(ReportError, match=rf"^--out {out}: cannot write there \(.*directory\)$"):
        write_report(out)


@pytest.mark.slow
def test_a_long_run_stays_small(tmp_path):
    path = write_report(inputs.write_run(tmp_path, steps=10_000))
    assert path.stat().st_size < MAX_BYTES

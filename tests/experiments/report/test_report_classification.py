# SPDX-License-Identifier: Apache-2.0
"""Reports of classifiers: their score, their words, their sample images and what is refused."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.report import ReportError, write_report
from experiments.report.answers import answers
from experiments.report.page import render
from experiments.report.record import Samples, read_run
from experiments.report.words import WORDS
from tests.experiments import report_inputs as inputs

CLASSES = ["airplane", "cat", "<dog>"]
RECORDED = ("search", "train", "test")


def sample_arrays(planes: int = 3, **changes: np.ndarray) -> dict[str, np.ndarray]:
    """Three answers, the last one wrong."""
    rng = np.random.default_rng(planes)
    return {
        "images": rng.integers(0, 256, (3, 4, 5, planes), np.uint8),
        "truth": np.array([0, 1, 2], np.int32),
        "predicted": np.array([0, 1, 1], np.int32),
        "score": np.array([0.9, 0.5, -0.6], np.float32),
        "confidence": np.array([0.9, 0.5, 0.6], np.float32),
    } | changes


def write_run(out: Path, stages=RECORDED) -> Path:
    """Write the run of a classifier in which `stages` are finished."""
    inputs.write_run(out, stages, steps=6)
    data = inputs.CARD["data"] | {"source": "/sets/cifar", "classes": CLASSES}
    network = inputs.CARD["network"] | {"name": "vgg_tiny", "fixed": ["conv8"]}
    card = inputs.CARD | {"program": "cifar", "score": "accuracy"}
    inputs.write_json(out / "run.json", card | {"data": data, "network": network})
    if "test" in stages:
        np.savez(out / "test/samples.npz", **sample_arrays())
    return out


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    return render(read_run(write_run(tmp_path_factory.mktemp("run"))))


def test_the_score_is_named_and_explained(page):
    words = WORDS["accuracy"]
    for wanted in ("Integer accuracy", "Accuracy of every form", "Accuracy during training"):
        assert wanted in page, wanted
    for wanted in (words.meaning, words.constant_meaning, "one class 0.173 · 400 images"):
        assert wanted in page, wanted
    for foreign in (*WORDS["iou"], "Sample detections"):
        assert foreign not in page, foreign


def test_both_scores_have_words_of_their_own():
    assert WORDS.keys() == {"iou", "accuracy"}
    assert not set(WORDS["iou"]) & set(WORDS["accuracy"])


def test_fixed_layers_have_no_panel(page):
    assert "conv7: " in page
    assert "conv8: " not in page


def test_the_document_names_the_score(tmp_path):
    out = write_run(tmp_path)
    document = json.loads(write_report(out).with_name("report.json").read_text())
    result = json.loads((out / "test/result.json").read_text())
    assert document["program"] == "cifar"
    assert document["accuracy"] == result["score"]
    assert document["accuracy_error"] == result["score_error"]
    assert "iou" not in document


def test_commands_are_those_of_the_program(tmp_path):
    shown = render(read_run(write_run(tmp_path, ())))
    for stage in ("search", "simulate"):
        assert f"python -m experiments.cifar {stage} --out {tmp_path}" in shown
    assert "experiments.dacsdc" not in shown


@pytest.mark.parametrize("planes", [1, 3])
def test_answers_show_image_class_and_confidence(planes):
    arrays = sample_arrays(planes)
    figures = answers(Samples(**arrays), CLASSES)
    assert len(figures) == 3
    for figure, pixels in zip(figures, arrays["images"], strict=True):
        png = figure.split("base64,")[1].split('"')[0]
        with Image.open(io.BytesIO(base64.b64decode(png))) as image:
            drawn = np.asarray(image)
        assert np.array_equal(drawn.reshape(pixels.shape), pixels)  # grey or RGB, not BGR
    right, _, wrong = figures
    assert '<strong class="right">airplane</strong> 0.90</figcaption>' in right
    assert '<strong class="wrong">cat</strong> 0.60 is a &lt;dog&gt;</figcaption>' in wrong


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"predicted": np.array([0, 1, 3])}, "'predicted' holds labels that are not in 0..2"),
        ({"truth": np.array([0, -1, 2])}, "'truth' holds labels that are not in 0..2"),
        ({"truth": np.array([0, 0.5, 2])}, "'truth' holds labels that are not in 0..2"),
        ({"truth": np.zeros((3, 4))}, "'truth' is [3, 4], not [3]"),
        ({"images": np.zeros((3, 4, 5, 2), np.uint8)}, "'images' is uint8 [3, 4, 5, 2], not"),
    ],
)
def test_samples_that_do_not_fit_are_corrupt(tmp_path, change, reason):
    out = write_run(tmp_path)
    np.savez(out / "test/samples.npz", **sample_arrays(**change))
    with pytest.raises(ReportError) as refused:
        read_run(out)
    assert f"samples.npz is corrupt ({reason}" in str(refused.value)
    assert f"run `python -m experiments.cifar test --out {out}" in str(refused.value)


@pytest.mark.parametrize(("part", "key"), [("data", "classes"), ("network", "fixed")])
def test_a_card_without_classes_or_fixed_layers_is_corrupt(tmp_path, part, key):
    path = write_run(tmp_path) / "run.json"
    card = json.loads(path.read_text())
    del card[part][key]
    inputs.write_json(path, card)
    with pytest.raises(ReportError, match=f"run.json is corrupt .*'{key}'"):
        read_run(tmp_path)

# SPDX-License-Identifier: Apache-2.0
"""--init: what is taken from a checkpoint, and which files and options are refused, by name."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experiments import command_line, init_file
from experiments.classification_options import ClassificationOptions
from experiments.command_line import stages_of
from experiments.dacsdc import PROGRAM
from experiments.detection_options import DetectionOptions
from experiments.learning import train_card
from experiments.options import OptionError
from experiments.pretrained import run_pretrained
from experiments.run_context import Run
from mixq_jax.bits import FixedBits
from mixq_jax.nets import classifier, detector
from mixq_jax.pretrained import PretrainedError
from mixq_jax.spec import PoolSpec
from mixq_jax.torch_file import TorchFileError
from tests import torch_samples
from tests.network_samples import random_variables

VGG = classifier("vgg_tiny", 32, "mixq", 16)
W, A = "345672", "834567"
GAMMAS = [f"{layer.name}_bn.weight" for layer in VGG.convs if layer.norm]


@pytest.fixture(scope="module")
def state() -> dict[str, np.ndarray]:
    return torch_samples.state_dict(VGG, random_variables(VGG, 0))


def given(path: Path, **others) -> ClassificationOptions:
    return ClassificationOptions(init=path, slim=16, **others)


def run_of(options: ClassificationOptions, **preset) -> Run:
    return Run(options, replace(options.resolved(), **preset))


def test_a_file_brings_its_formats_widths_and_weights(tmp_path, state):
    run = run_of(given(torch_samples.write(tmp_path / "q.pt", state, W, A)))
    assert run.quantiser == "mixq"
    assert run.spec == VGG
    assert run.chosen_bits() == FixedBits((3, 4, 5, 6, 7, 2, 8), (8, 3, 4, 5, 6, 7, 8))
    kernel = run.init_variables["params"]["conv3_kernel"]
    assert np.array_equal(kernel.transpose(3, 2, 0, 1), state["conv3.weight"])


def test_options_go_before_what_the_file_says(tmp_path, state):
    path = torch_samples.write(tmp_path / "q.pt", state, W, A)
    run = run_of(given(path, wbits="444444", abits="844444", quantiser="ours"))
    assert run.quantiser == "ours"
    assert run.chosen_bits().w == (4, 4, 4, 4, 4, 4, 8)


def test_a_file_without_widths_is_a_contest_team_s_or_a_float_network(tmp_path, state):
    file = init_file.load(torch_samples.write(tmp_path / "f.pt", state))
    assert init_file.quantiser(file, unquantised=False) == "contest"
    assert init_file.quantiser(file, unquantised=True) == "mixq"
    for net in ("ultranet", "ultranet_bypass"):
        found = init_file.widths(file, detector(net, 32, 64), "contest")
        assert found == FixedBits((4,) * 9, (8, *(4,) * 8))


@pytest.mark.parametrize(
    ("spec", "quantiser"),
    [
        (VGG, "contest"),
        (detector("skynet", 32, 64), "contest"),
        *((detector("ultranet", 32, 64), family) for family in ("mixq", "dorefa", "ours")),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_widths_that_nobody_has_published_are_not_guessed(tmp_path, state, spec, quantiser):
    file = init_file.load(torch_samples.write(tmp_path / "f.pt", state))
    with pytest.raises(OptionError) as refused:
        init_file.widths(file, spec, quantiser)
    assert str(refused.value) == (
        f"--init {file.path}: has no widths, and '{spec.name}' with --quantiser {quantiser} has no "
        "published ones; give --wbits and --abits, or --unquantised"
    )


@pytest.mark.parametrize(("w", "a", "has"), [(W, "", "bitw"), ("", A, "bita")])
def test_half_of_the_widths_is_not_discarded(tmp_path, state, w, a, has):
    file = init_file.load(torch_samples.write(tmp_path / "h.pt", state, w, a))
    assert init_file.quantiser(file, unquantised=False) == "mixq"
    with pytest.raises(OptionError, match=rf"h\.pt: has {has} {w or a} but no bit[aw]; give --wbi"):
        init_file.widths(file, VGG, "mixq")


def test_quantised_layers_without_widths_are_known_by_their_buffers(tmp_path, state):
    buffers = {"conv0.size_product": np.ones(1), "conv0.memory_size": np.ones(1)}
    file = init_file.load(torch_samples.write(tmp_path / "b.pt", buffers | state))
    assert init_file.quantiser(file, unquantised=False) == "mixq"
    with pytest.raises(OptionError, match="has no widths, and 'ultranet' with --quantiser mixq"):
        init_file.widths(file, detector("ultranet", 32, 64), "mixq")
    with pytest.raises(OptionError, match=r"b\.pt: was trained with quantised layers; --unquant"):
        init_file.check_float(file)


def test_a_float_classifier_is_the_published_one(tmp_path, state):
    run = run_of(given(torch_samples.write(tmp_path / "f.pt", state), unquantised=True))
    assert not any(isinstance(layer, PoolSpec) for layer in run.spec.layers)
    assert [layer.name for layer in run.spec.convs if layer.pooled] == ["conv1", "conv3", "conv5"]
    resnet = classifier("resnet8", 32)
    assert classifier("resnet8", 32, unquantised=True) == resnet


def check_pools(path: Path, **others) -> None:
    """Run the check of all that a run needs, without its data."""
    options = given(path, wbits="444444", abits="844444", **others)
    run_of(options, train_steps=0)._check_init()


def test_weights_that_are_another_function_behind_the_pools_are_refused(tmp_path, state):
    path = torch_samples.write(tmp_path / "f.pt", state)
    negative = (state["conv1_bn.weight"] < 0).sum()
    with pytest.raises(
        OptionError, match=rf"--init .*f\.pt: layer 'conv1' has {negative} negative gammas; .*--unq"
    ):
        check_pools(path)
    positive = state | {name: np.abs(state[name]) for name in GAMMAS}
    check_pools(torch_samples.write(tmp_path / "p.pt", positive))
    check_pools(torch_samples.write(tmp_path / "q.pt", state, W, A))
    check_pools(path, quantiser="dorefa")  # trained quantised, behind the norms
    run_of(given(path, wbits="444444", abits="844444"))._check_init()  # trained on


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conv0.weight": np.zeros((3, 3))}, r"'conv0.weight' is \(3, 3, 1, 1\); layer 'conv0'"),
        ({"more.weight": np.zeros((3, 3))}, "'more' is one layer too many"),
        ({"conv1_bn.running_var": np.full(4, -1.0)}, "'conv1_bn.running_var' holds -1, a negative"),
    ],
)
def test_weights_that_do_not_fit_name_the_file_before_data_are_read(
    tmp_path, state, change, message
):
    path = torch_samples.write(tmp_path / "bad.pt", state | change, W, A)
    options = given(path, data=Path("nowhere"))
    with pytest.raises(PretrainedError, match=rf"^--init .*bad\.pt: (tensor )?{message}"):
        run_of(options).check(simulates=False)


@pytest.mark.parametrize(
    ("w", "message"),
    [("34567", "bit string '34567' must have 6 or 7 digits"), (W + "4", "layer 'classifier' of ")],
)
def test_widths_that_do_not_fit_name_the_file(tmp_path, state, w, message):
    path = torch_samples.write(tmp_path / "w.pt", state, w, A)
    with pytest.raises(OptionError, match=rf"^--init .*w\.pt: its widths do not fit: {message}"):
        run_of(given(path)).check(simulates=False)


def test_given_widths_that_a_layer_does_not_have_are_refused(tmp_path, state):
    path = torch_samples.write(tmp_path / "q.pt", state, W, A)
    with pytest.raises(OptionError, match=r"^--wbits 4444444 --abits 8444448: layer 'classifier'"):
        run_of(given(path, wbits="4444444", abits="8444448")).check(simulates=False)


def test_a_float_run_refuses_weights_that_were_trained_at_widths(tmp_path, state):
    path = torch_samples.write(tmp_path / "q.pt", state, W, A)
    with pytest.raises(
        OptionError, match=rf"--init .*q\.pt: was trained at the widths {W}, {A}; --unquantised tak"
    ):
        run_of(given(path, unquantised=True)).check(simulates=False)


def test_another_content_is_another_file_and_another_folder_is_not(tmp_path, state):
    path = torch_samples.write(tmp_path / "q.pt", state, W, A)
    run = run_of(given(path))
    first, card = run.recorded_options()["init"], train_card(run, run.chosen_bits())
    assert first.startswith("q.pt (sha256 ")
    (tmp_path / "moved").mkdir()
    moved = run_of(given(Path(shutil.copy(path, tmp_path / "moved"))))
    assert moved.recorded_options()["init"] == first
    torch_samples.write(path, state | {"conv0.weight": 2 * state["conv0.weight"]}, W, A)
    assert run.recorded_options()["init"] == first  # what was read is what counts
    other = run_of(given(path))
    assert other.recorded_options()["init"] != first
    assert train_card(other, other.chosen_bits()) != card


def test_a_published_network_has_its_full_width():
    options = DetectionOptions(init=Path("x.pt"), preset="smoke")
    assert options.resolved().slim == 1
    assert replace(options, slim=4).resolved().slim == 4
    assert DetectionOptions(preset="smoke").resolved().slim == 4


def test_a_checkpoint_brings_the_size_it_was_trained_at_unless_a_preset_is_given(tmp_path):
    path = tmp_path / "u.pt"
    spec = detector("ultranet", 160, 320)
    torch_samples.write(path, torch_samples.state_dict(spec, random_variables(spec, 0)))
    sizes = {(): ("full", 160, 320), ("--preset", "demo"): ("demo", 80, 160)}
    for words, (preset, height, width) in sizes.items():
        for command in ("all", "train", "test", "export"):
            options = command_line.parse(PROGRAM, [command, "--init", str(path), *words])
            run = Run(options, options.resolved())
            assert (run.spec.height, run.spec.width) == (height, width)
            assert run.recorded_options()["preset"] == preset
    assert run.spec.head.anchor_pixels == spec.head.anchor_pixels / 2
    classes = ClassificationOptions(init=path)
    assert classes.chosen_preset == "demo"


def test_a_search_takes_no_checkpoint():
    with pytest.raises(OptionError, match="search --init: a search begins with weights of its own"):
        stages_of("search", DetectionOptions(init=Path("x.pt")))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("seed", 1), ("resume", True), ("box_gain", 3.0)),
        *(("train_steps", 5), ("workers", 2)),
    ],
)
def test_a_test_of_a_file_refuses_what_it_has_no_use_for(name, value):
    flag = name.replace("_", "-")
    with pytest.raises(OptionError, match=rf"^test --init: --{flag} {value} has no eff"):
        run_pretrained(DetectionOptions(init=Path("x.pt"), data=Path("y"), **{name: value}))


def test_a_test_of_a_file_takes_the_rest():
    path = Path("x.pt")
    init_file.check_test(DetectionOptions(init=path, net="skynet", device="zcu102", json=True))
    init_file.check_test(ClassificationOptions(init=path, dataset="mnist", slim=2, wbits="4"))
    with pytest.raises(OptionError, match="--device zcu102 has no effect"):
        init_file.check_test(DetectionOptions(init=path, unquantised=True, device="zcu102"))
    with pytest.raises(OptionError, match="test --init: give the frames to test on with --data"):
        run_pretrained(DetectionOptions(init=path))
    for given_path, message in ((path, r"x\.pt: no such file"), (Path("."), r"\.: is a folder")):
        with pytest.raises(TorchFileError, match=f"^--init {message}; give a checkpoint of torch"):
            run_pretrained(DetectionOptions(init=given_path, data=Path("y")))


@pytest.mark.parametrize("out", [None, Path("trained")])
def test_with_a_folder_what_was_trained_there_is_tested(monkeypatch, out):
    done = []
    monkeypatch.setattr(command_line, "_test_file", lambda options: done.append("file") or {})
    monkeypatch.setattr(command_line, "run_stages", lambda options, stages: done.append(stages))
    folder = {} if out is None else {"out": out}
    command_line.run("test", DetectionOptions(init=Path("x.pt"), **folder))
    assert done == (["file"] if out is None else [("test",)])


def test_a_folder_that_is_given_as_the_default_is_given(monkeypatch):
    done = []
    monkeypatch.setattr(command_line, "_test_file", lambda options: done.append("file") or {})
    monkeypatch.setattr(command_line, "run_stages", lambda options, stages: done.append(stages))
    for words in ("--out runs/dacsdc", ""):
        assert command_line.main(PROGRAM, ["test", "--init", "x.pt", *words.split()]) == 0
    assert done == [("test",), "file"]


def test_a_test_of_a_file_refuses_options_given_at_their_defaults(capfd):
    for words in ("--seed 0", "--clock-mhz 250 --unquantised", "--no-resume"):
        flag = words.split()[0].replace("--no-", "--")
        assert command_line.main(PROGRAM, ["test", "--init", "x.pt", *words.split()]) == 2
        assert f"test --init: {flag} " in capfd.readouterr().err

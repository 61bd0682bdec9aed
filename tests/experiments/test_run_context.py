# SPDX-License-Identifier: Apache-2.0
"""What a run derives from its options: network, device, data, widths, card."""

import json
import shutil
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import cifar, dacsdc, data, run_context
from experiments.command_line import STAGES, parse
from experiments.detection_options import PRESETS, DetectionOptions
from experiments.options import OptionError
from experiments.run_context import PACKAGES, Run, bit_strings, bits_by_layer
from experiments.run_folder import RunError, write_json
from hw.device import DeviceError, device
from hw.hls import toolchain
from hw.hls.toolchain import ToolchainError
from mixq_jax.bits import FixedBits
from mixq_jax.data import synthetic
from mixq_jax.data.frames import FrameFiles
from mixq_jax.nets import CLASSIFIERS, NETS, classifier, detector
from mixq_jax.spec import QuantSpec, SpecError

FOUND = FixedBits((5, 4, 3, 3, 3, 4, 3, 4, 2), (8, 4, 4, 5, 3, 4, 6, 4, 7))


COUNTS = {
    **{"note": "", "classes": [], "streamed": False},
    **{"train_frames": 3, "test_frames": 2},
}


def folder_of(run: Run) -> Path:
    return data.detection_folder(run.options, run.preset)


def run_of(folder: Path, **given) -> Run:
    options = DetectionOptions(
        **{"preset": "smoke", "out": folder, "cache": folder / "cache", **given}
    )
    return Run(options, options.resolved())


@pytest.fixture(scope="module")
def frames(tmp_path_factory) -> Path:
    """Three training and two test frames of the smoke preset's size."""
    folder = tmp_path_factory.mktemp("frames") / "set"
    sizes = {"height": 48, "width": 96, "train_frames": 3, "test_frames": 2}
    synthetic.generate(folder, synthetic.SyntheticConfig(**sizes))
    return folder


def test_the_network_follows_the_preset(tmp_path):
    for name, preset in PRESETS.items():
        spec = run_of(tmp_path, preset=name).spec
        size = preset.height, preset.width
        assert spec == detector("ultranet", *size, preset.quantiser, preset.slim)
    assert not run_of(tmp_path, preset="paper").spec.quant.narrow  # published steps: full range
    assert run_of(tmp_path, preset="demo").spec.quant == QuantSpec(True, "mse", "mse")


@pytest.mark.parametrize(
    ("program", "words", "expected"),
    [
        *((dacsdc, f"--net {net}", detector(net, 48, 96, "ours", 4)) for net in NETS),
        *((cifar, f"--net {net}", classifier(net, 32, "ours", 8)) for net in CLASSIFIERS),
        (cifar, "--dataset mnist", classifier("vgg_tiny", 32, "ours", 8, 1)),
        (cifar, "--slim 4 --quantiser mixq", classifier("vgg_tiny", 32, "mixq", 4)),
        (dacsdc, "--net skynet --slim 2", detector("skynet", 48, 96, "ours", 2)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_network_reaches_every_stage(program, words, expected):
    for stage in STAGES:
        options = parse(program.PROGRAM, [stage, "--preset", "smoke", *words.split()])
        run = Run(options, options.resolved())
        assert run.spec == expected
        repeated = parse(program.PROGRAM, run.command(stage).split()[3:])
        assert repeated == options
        recorded = {name.replace("_", "-"): now for name, now in run.recorded_options().items()}
        given = words.replace("--", "").split()
        for name, value in zip(given[::2], given[1::2], strict=True):
            assert str(recorded[name]) == value


def test_out_and_device_follow_the_options(tmp_path):
    run = run_of(tmp_path / "here", device="xc7z020")
    assert run.out == tmp_path / "here"
    assert run.device == device("xc7z020")


@pytest.fixture
def generated(monkeypatch):
    """Replace the generator; return the folder and configuration of every call."""
    calls = []

    def generate(folder, config, *, workers, progress):
        calls.append((folder, config))
        assert workers >= 1
        progress(1, 2)

    monkeypatch.setattr(synthetic, "generate", generate)
    return calls


def test_a_generated_set_is_made_once_of_the_presets_sizes(tmp_path, generated):
    run = run_of(tmp_path)
    assert folder_of(run).name
    ((folder, config),) = generated
    assert folder == folder_of(run)
    assert folder.parent == tmp_path / "cache"
    assert folder.name.startswith("generated-48x96-")
    assert config == synthetic.SyntheticConfig(96, 48, train_frames=64, test_frames=32)


def test_the_name_of_a_generated_set_depends_on_its_configuration_alone(tmp_path, generated):
    run = run_of(tmp_path)
    sizes = [{}, {"height": 64}, {"width": 64}, {"train_frames": 63}, {"test_frames": 31}]
    presets = [replace(run.preset, **size) for size in sizes]
    names = [folder_of(Run(run.options, preset)).name for preset in presets]
    assert len(set(names)) == len(names)
    same = [run_of(tmp_path, seed=1, lam=0.5), run_of(tmp_path, search_steps=3, device="xck26")]
    assert {folder_of(again).name for again in same} == {names[0]}


def test_a_given_folder_is_taken_and_nothing_generated(tmp_path, generated, frames):
    assert folder_of(run_of(tmp_path, data=frames)) == frames
    assert generated == []


def test_data_are_decoded_by_split_into_the_cache(tmp_path, frames, capsys):
    run = run_of(tmp_path, data=frames)
    assert run.train_data.images.shape == (3, 48, 96, 3)
    assert run.test_data.images.shape == (2, 48, 96, 3)
    assert all(name.startswith("train/") for name in run.train_data.names)
    assert all(name.startswith("test/") for name in run.test_data.names)
    assert run.train_data is run.train_data
    assert len(list((tmp_path / "cache").iterdir())) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "load train frames" in shown.err
    assert "load test frames" in shown.err
    again = run_of(tmp_path, data=frames).train_data
    assert np.array_equal(again.images, run.train_data.images)
    assert "kept" in capsys.readouterr().err


def test_check_accepts_a_run_and_touches_no_data(tmp_path, generated, monkeypatch):
    monkeypatch.setattr(toolchain, "find", lambda: None)
    run_of(tmp_path).check(simulates=True)
    run_of(tmp_path, wbits="444444444", abits="844444444", data=tmp_path).check(simulates=False)
    assert generated == []


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"device": "xc9"}, DeviceError, "unknown device 'xc9'; known: xc7z020, "),
        (
            {"data": Path("nowhere")},
            OptionError,
            "--data nowhere: no such folder; give the DAC-SDC folder or leave out",
        ),
        (
            {"wbits": "44", "abits": "844444444"},
            OptionError,
            "--wbits 44 --abits 844444444: bit string '44' must have 9 digits, one for each layer",
        ),
        (
            {"wbits": "444444444", "abits": "944444444"},
            OptionError,
            "--wbits 444444444 --abits 944444444: bit-width 9 is not in 2..8",
        ),
    ],
)
def test_check_refuses_early(tmp_path, generated, given, error, message):
    with pytest.raises(error) as refused:
        run_of(tmp_path, **given).check(simulates=False)
    assert str(refused.value).startswith(message)
    assert generated == []


def test_check_refuses_a_file_in_place_of_the_data(tmp_path):
    (tmp_path / "set.zip").touch()
    with pytest.raises(OptionError, match=r"set\.zip: no such folder"):
        run_of(tmp_path, data=tmp_path / "set.zip").check(simulates=False)


def test_check_builds_the_network(tmp_path):
    run = run_of(tmp_path)
    with pytest.raises(SpecError, match="cannot pool"):
        Run(run.options, replace(run.preset, height=8)).check(simulates=False)


def test_check_looks_for_the_compiler_only_where_it_is_needed(tmp_path, monkeypatch):
    def missing():
        raise ToolchainError("C simulation needs g++")

    monkeypatch.setattr(toolchain, "find", missing)
    run_of(tmp_path).check(simulates=False)
    with pytest.raises(ToolchainError, match="needs g"):
        run_of(tmp_path).check(simulates=True)


def test_recorded_options_are_those_that_decide_results(tmp_path):
    run = run_of(tmp_path, resume=True, data=Path("some/frames"), lam=0.5)
    recorded = run.recorded_options()
    left_out = {"resume", "out", "cache", "json", "stream", "workers"}
    assert set(asdict(run.options)) - set(recorded) == left_out
    assert recorded["data"] == "some/frames"
    assert (recorded["preset"], recorded["lam"], recorded["seed"]) == ("smoke", 0.5, 0)
    assert json.loads(json.dumps(recorded)) == recorded


def test_given_widths_win_over_the_search(tmp_path):
    write_json(tmp_path / "search/result.json", bit_strings(FOUND))
    run = run_of(tmp_path, wbits="234567823", abits="844444445")
    assert run.chosen_bits() == FixedBits((2, 3, 4, 5, 6, 7, 8, 2, 3), (8, *(4,) * 7, 5))


def test_widths_of_the_search_are_read_back(tmp_path):
    write_json(tmp_path / "search/result.json", bit_strings(FOUND))
    assert run_of(tmp_path).chosen_bits() == FOUND


@pytest.mark.parametrize(
    ("text", "ending"),
    [
        (None, "is missing; run `SEARCH` first"),
        ('{"w": "44', "; run `SEARCH` again"),
        (
            '{"w": "444444444"}',
            "holds no widths (bit string 'None' must have 9 digits, one for each layer); "
            "run `SEARCH` again",
        ),
        ('{"w": 4, "a": 5}', "; run `SEARCH` again"),
        ("[]", "(not a JSON object); run `SEARCH` again"),
        ("null", "(not a JSON object); run `SEARCH` again"),
    ],
)
def test_a_search_without_widths_is_refused(tmp_path, text, ending):
    path = tmp_path / "search/result.json"
    if text is not None:
        path.parent.mkdir()
        path.write_text(text)
    with pytest.raises(RunError) as refused:
        run_of(tmp_path).chosen_bits()
    assert str(refused.value).startswith(f"{path} ")
    search = f"python -m experiments.dacsdc search --out {tmp_path} --preset smoke"
    assert str(refused.value).endswith(ending.replace("SEARCH", search))


def test_widths_of_another_network_are_refused(tmp_path):
    write_json(tmp_path / "search/result.json", {"w": "4444", "a": "8444"})
    message = r"search/result\.json holds no widths \(bit string '4444' must have 9 digits"
    with pytest.raises(RunError, match=message):
        run_of(tmp_path).chosen_bits()


def test_widths_are_written_with_weights_first(tmp_path):
    assert bit_strings(FOUND) == {"w": "543334342", "a": "844534647"}
    by_layer = bits_by_layer(run_of(tmp_path).spec, FOUND)
    assert list(by_layer) == [f"conv{index}" for index in range(9)]
    assert by_layer["conv0"] == [5, 8]
    assert by_layer["conv8"] == [2, 7]
    with pytest.raises(ValueError, match="zip"):
        bits_by_layer(run_of(tmp_path).spec, FixedBits((4,), (4,)))


def test_the_card_holds_the_whole_configuration(tmp_path, frames):
    run = run_of(tmp_path, data=frames, lam=0.5, device="xc7z020", clock_mhz=100.0)
    run.write_card()
    card = json.loads((tmp_path / "run.json").read_text())
    assert (card["schema"], card["program"], card["score"]) == (2, "dacsdc", "iou")
    assert card["preset"] == "smoke"
    assert card["options"] == run.recorded_options()
    assert card["recipe"] == json.loads(json.dumps(asdict(run.preset)))
    assert card["recipe"]["lam"] == 0.5
    assert set(card["versions"]) == {*PACKAGES, "python"}
    assert card["versions"]["jax"] == version("jax")
    assert card["network"] == {
        "name": "ultranet",
        "height": 48,
        "width": 96,
        "layers": [f"conv{index}" for index in range(9)],
        "fixed": [],
    }
    assert card["device"] == {
        "name": "xc7z020",
        "part": "xc7z020clg400-1",
        "dsp": 220,
        "lut": 53200,
        "ff": 106400,
        "bram18": 280,
        "clock_mhz": 100.0,
    }
    assert card["data"] == {"source": str(frames), **COUNTS}


def test_the_card_names_a_generated_set(tmp_path, frames, monkeypatch):
    monkeypatch.setattr(data.synthetic, "generate", lambda *_, **__: True)
    run = run_of(tmp_path)
    folder_of(run).parent.mkdir()
    folder_of(run).symlink_to(frames)
    run.write_card()
    card = json.loads((tmp_path / "run.json").read_text())
    assert card["data"] == {"source": "generated", **COUNTS}


def test_a_damaged_generated_set_says_what_to_delete(tmp_path, frames, monkeypatch):
    monkeypatch.setattr(data.synthetic, "generate", lambda *_, **__: True)
    run = run_of(tmp_path)
    shutil.copytree(frames, folder_of(run))
    next(folder_of(run).rglob("*.xml")).unlink()
    with pytest.raises(RunError, match=rf"is missing beside it; .*; or delete {folder_of(run)}$"):
        run.train_data  # noqa: B018


def test_compiled_programs_are_kept_beside_the_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = {}
    monkeypatch.setattr(jax.config, "update", told.__setitem__)
    run_context.keep_compiled_programs(Path("cache"))
    assert told["jax_compilation_cache_dir"] == str(tmp_path.resolve() / "cache/xla")
    assert told["jax_persistent_cache_min_compile_time_secs"] <= 1.0


SIZE_BYTES = 3 * 48 * 96 * 3  # of the training frames, decoded


@pytest.mark.parametrize(
    ("stream", "device_bytes", "streamed"),
    [
        ("auto", 4 * SIZE_BYTES, False),
        ("auto", 4 * SIZE_BYTES - 1, True),
        ("on", 1 << 40, True),
        ("off", 1, False),
    ],
)
def test_training_frames_are_streamed_where_they_crowd_the_device(
    tmp_path, frames, monkeypatch, capsys, stream, device_bytes, streamed
):
    monkeypatch.setattr(data, "device_bytes", lambda: device_bytes)
    run = run_of(tmp_path, data=frames, stream=stream, workers=3)
    assert isinstance(run.train_data.images, FrameFiles) is streamed
    assert isinstance(run.test_data.images, np.ndarray)
    assert ("streamed, --workers 3" in capsys.readouterr().err) is streamed
    run.write_card()
    assert json.loads((tmp_path / "run.json").read_text())["data"]["streamed"] is streamed


@pytest.mark.parametrize(("cpus", "count"), [(None, 1), (1, 1), (2, 1), (8, 7), (64, 16)])
def test_one_cpu_is_left_for_the_training(tmp_path, monkeypatch, cpus, count):
    monkeypatch.setattr(data.os, "cpu_count", lambda: cpus)
    assert data.workers(run_of(tmp_path).options) == count
    assert data.workers(run_of(tmp_path, workers=40).options) == 40

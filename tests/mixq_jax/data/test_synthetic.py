# SPDX-License-Identifier: Apache-2.0
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from mixq_jax.data import DataError, SceneConfig, SyntheticConfig, generate, load, scan
from mixq_jax.data.scene.frame import _area

TINY = SyntheticConfig(width=64, height=32, train_frames=12, test_frames=5)


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "tiny"
    assert generate(folder, TINY)
    return folder


def test_is_accepted_by_the_loader(tiny):
    train, test = (load(tiny, 32, 64, split) for split in ("train", "test"))
    assert (len(train.names), len(test.names)) == (12, 5)
    assert all((sample.width, sample.height) == (64, 32) for sample in scan(tiny))
    assert np.all(train.boxes[:, :2] - train.boxes[:, 2:] / 2 >= 0)
    assert np.all(train.boxes[:, :2] + train.boxes[:, 2:] / 2 <= 1)


def test_folders_name_the_class_and_splits_share_none(tiny):
    for sample in scan(tiny):
        assert sample.path.parent.name == sample.name
    classes = [{sample.name for sample in scan(tiny / split)} for split in ("train", "test")]
    assert not classes[0] & classes[1]


def test_labels_are_the_same_on_every_machine(tiny, golden):
    """Pixels may differ with the JPEG encoder, what the seed decides may not."""
    lines = [f"{s.path.relative_to(tiny).as_posix()} {s.box}" for s in scan(tiny)]
    golden("synthetic_labels.txt", "\n".join(lines) + "\n")


def test_same_config_same_bytes_also_with_processes(tiny, tmp_path):
    generate(tmp_path / "again", TINY, workers=2)
    assert contents(tmp_path / "again") == contents(tiny)


def test_frames_do_not_depend_on_how_many_there_are(tiny, tmp_path):
    generate(tmp_path / "more", replace(TINY, train_frames=14))
    more, few = contents(tmp_path / "more"), contents(tiny)
    shared = more.keys() & few.keys() - {"manifest.json"}
    assert len(shared) == 2 * (12 + 5)
    assert all(more[name] == few[name] for name in shared)


def test_seed_changes_the_frames(tiny, tmp_path):
    generate(tmp_path / "other", replace(TINY, seed=1))
    assert contents(tmp_path / "other").keys() != contents(tiny).keys()


def test_is_written_once(tmp_path):
    assert generate(tmp_path / "d", TINY)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "d").rglob("*")}
    assert not generate(tmp_path / "d", TINY)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "d").rglob("*")} == before


def test_another_config_replaces_it(tmp_path):
    generate(tmp_path / "d", TINY)
    assert generate(tmp_path / "d", replace(TINY, train_frames=3))
    assert len(scan(tmp_path / "d" / "train")) == 3
    manifest = json.loads((tmp_path / "d" / "manifest.json").read_text())
    assert manifest["config"]["train_frames"] == 3


def test_foreign_folder_is_not_touched(tmp_path):
    (tmp_path / "precious.txt").write_text("keep")
    text = (
        f"{tmp_path}: exists and was not generated (manifest.json is missing); "
        "choose another folder or remove it"
    )
    with pytest.raises(DataError, match=f"^{re.escape(text)}$"):
        generate(tmp_path, TINY)
    assert (tmp_path / "precious.txt").read_text() == "keep"


def test_unwritable_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file/data: cannot write the data set \(.*\); choose"):
        generate(tmp_path / "file" / "data", TINY)


@pytest.mark.parametrize("workers", [1, 2])
def test_interrupt_leaves_nothing(tmp_path, workers):
    def stop(done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path / "d", TINY, workers=workers, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_progress_counts_every_frame(tmp_path):
    seen = []
    generate(tmp_path / "d", TINY, progress=lambda *step: seen.append(step))
    assert seen == [(k, 17) for k in range(1, 18)]


@pytest.mark.parametrize("name", ["width", "height", "train_frames", "test_frames"])
def test_config_refuses_nonsense(name):
    with pytest.raises(DataError, match=rf"^{name} is 0; give at least \d+$"):
        replace(TINY, **{name: 0})


@pytest.mark.parametrize("limits", [(0.01, 0.02), (0.02, 0.01), (0.0, 0.1), (0.001, 1.0)])
def test_area_limits_must_hold_the_median(limits):
    text = re.escape(f"area_median 0.03 must lie inside area_limits {limits[0]}..{limits[1]}")
    with pytest.raises(ValueError, match=f"^{text}, fractions of the frame; change either$"):
        SceneConfig(area_median=0.03, area_limits=limits)


def test_areas_follow_the_truncated_log_normal():
    config, rng = SceneConfig(), np.random.default_rng(0)
    areas = np.array([_area(rng, config) for _ in range(4000)])
    low, high = (np.log(x / config.area_median) / config.area_sigma for x in config.area_limits)
    law = stats.truncnorm(low, high, np.log(config.area_median), config.area_sigma)
    assert stats.kstest(np.log(areas), law.cdf).pvalue > 0.01
    assert np.mean((areas > 0.002) & (areas < 0.04)) > 0.9

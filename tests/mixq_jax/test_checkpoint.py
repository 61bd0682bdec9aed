# SPDX-License-Identifier: Apache-2.0
"""Checkpoints come back bit for bit; foreign and damaged ones are refused by name."""

import gc
import json
import os
import re
import shutil
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixq_jax import checkpoint
from mixq_jax.checkpoint import Card, CheckpointError

CARD = Card("search", "NetSpec(name='a', height=8)", "Config(steps=10, batch=4)", "w 44 a 44", 4)


# Where several arrays fail to load, orbax leaves some of them behind on a closed event loop.
ONE_ARRAY = {"only": jnp.arange(50.0)}


class Pair(NamedTuple):
    first: jax.Array
    second: dict


def state(seed: int = 0) -> Pair:
    rng = np.random.default_rng(seed)
    return Pair(
        jnp.asarray(rng.standard_normal((3, 5)), jnp.float32),
        {"count": jnp.int32(seed), "inner": (jnp.asarray(rng.integers(0, 9, 4), jnp.int32),)},
    )


@pytest.fixture
def saved(tmp_path):
    folder = tmp_path / "run" / "checkpoint"
    checkpoint.save(folder, CARD, state(1))
    return folder


@pytest.fixture
def failing_load():
    """Collect at once what orbax leaves unawaited, lest Python reports it in a later test."""
    yield
    gc.collect()


def leaves_coroutines(test):
    """Mark a test whose load fails inside orbax."""
    ignored = (
        "ignore:coroutine .* was never awaited:RuntimeWarning",
        "ignore::pytest.PytestUnraisableExceptionWarning",
    )
    return pytest.mark.usefixtures("failing_load")(pytest.mark.filterwarnings(*ignored)(test))


def same(a, b) -> bool:
    return jax.tree.structure(a) == jax.tree.structure(b) and all(
        x.dtype == y.dtype and np.array_equal(x, y)
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def test_a_loaded_state_is_bound_to_no_device(saved):
    """A program that takes it beside fresh arrays would be compiled again for what it returns."""
    _, loaded = checkpoint.load(saved, CARD, state())
    assert not any(leaf.committed for leaf in jax.tree.leaves(loaded))


def test_round_trip(saved):
    card, loaded = checkpoint.load(saved, replace(CARD, step=0), state(2))
    assert replace(card, digest="") == CARD
    assert same(loaded, state(1))
    assert os.listdir(saved) == ["4"]


def test_the_newest_step_stays_and_older_ones_go(saved):
    checkpoint.save(saved, replace(CARD, step=12), state(3))
    assert os.listdir(saved) == ["12"]
    assert checkpoint.latest(saved).step == 12
    assert same(checkpoint.load(saved, CARD, state())[1], state(3))


def test_saving_a_step_again_replaces_it(saved):
    checkpoint.save(saved, CARD, state(3))
    assert same(checkpoint.load(saved, CARD, state())[1], state(3))


def test_clear_removes_all(saved):
    checkpoint.clear(saved)
    assert checkpoint.latest(saved) is None
    checkpoint.clear(saved / "nowhere")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("RANGE\nx")])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, error):
    def refuse(*_):
        raise error

    monkeypatch.setattr(checkpoint.ocp, "save", refuse)
    reason = str(error).splitlines()[0]
    with pytest.raises(
        CheckpointError, match=rf"cannot write checkpoint .*/4: {re.escape(reason)}$"
    ):
        checkpoint.save(tmp_path, CARD, state())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("folder", [".", "nothing"])
def test_without_a_checkpoint(tmp_path, folder):
    assert checkpoint.latest(tmp_path / folder) is None
    message = f"no checkpoint in {tmp_path / folder}; run `search` first"
    with pytest.raises(CheckpointError, match=f"^{re.escape(message)}$"):
        checkpoint.load(tmp_path / folder, CARD, state())


@pytest.mark.parametrize(
    ("field", "value", "difference"),
    [
        ("kind", "train", "'search' instead of 'train'"),
        ("network", "NetSpec(name='a', height=9)", "'height=8)' instead of 'height=9)'"),
        (
            "network",
            "NetSpec(name='b', height=8)",
            "'name='a', height=8)' instead of 'name='b', height=8)'",
        ),
        ("config", "Config(steps=10, batch=40)", "'batch=4)' instead of 'batch=40)'"),
        ("bits", "w 44 a 45", "'44' instead of '45'"),
    ],
)
def test_checkpoints_of_another_run_are_refused(saved, field, value, difference):
    message = (
        f"checkpoint {saved} has another {field}: {difference}; "
        "give the options it was made with, or another --out"
    )
    with pytest.raises(CheckpointError, match=f"^{re.escape(message)}$"):
        checkpoint.load(saved, replace(CARD, **{field: value}), state())


@pytest.mark.parametrize("field", ["network", "config", "bits"])
def test_an_empty_expectation_accepts_any(saved, field):
    card, _ = checkpoint.load(saved, replace(CARD, **{field: ""}), state())
    assert replace(card, digest="") == CARD


def edit_card(folder, **changes) -> None:
    path = folder / "4" / "card.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_unknown_versions_are_refused(saved, version):
    edit_card(saved, version=version)
    message = f"{saved}/4 has checkpoint version {version!r}, this program reads 1"
    with pytest.raises(CheckpointError, match=f"^{re.escape(message)}$"):
        checkpoint.load(saved, CARD, state())


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"version": 1}'])
def test_damaged_cards_are_refused(saved, content):
    (saved / "4" / "card.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=f"^cannot read {saved}/4/card.json: .*; delete "):
        checkpoint.load(saved, CARD, state())


def test_unknown_fields_of_a_card_are_refused(saved):
    edit_card(saved, colour="red")
    with pytest.raises(CheckpointError, match=r"^cannot read .*card\.json: .*'colour'"):
        checkpoint.latest(saved)


def cut(path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: shutil.rmtree(folder),
        lambda folder: cut(folder / "state" / "_METADATA"),
        lambda folder: cut(folder / "state" / "manifest.ocdbt"),
        lambda folder: [cut(path) for path in folder.glob("state/**/d/*")],
        lambda folder: [path.unlink() for path in folder.glob("state/**/d/*")],
    ],
    ids=["no_state", "metadata", "manifest", "cut_data", "no_data"],
)
@leaves_coroutines
def test_damaged_states_are_refused(tmp_path, damage):
    checkpoint.save(tmp_path, CARD, ONE_ARRAY)
    damage(tmp_path / "4" / "state")
    message = f"^cannot read checkpoint {tmp_path}/4: .*; delete it and run again$"
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(tmp_path, CARD, ONE_ARRAY)


@pytest.mark.parametrize(
    "template",
    [
        {"only": jnp.zeros(49)},
        {"other": jnp.zeros(50)},
        {"only": jnp.zeros(50), "more": jnp.zeros(2)},
        (jnp.zeros(50),),
    ],
    ids=["shape", "name", "extra", "kind"],
)
@leaves_coroutines
def test_states_of_another_shape_are_refused(tmp_path, template):
    checkpoint.save(tmp_path, CARD, ONE_ARRAY)
    with pytest.raises(CheckpointError, match=f"^cannot read checkpoint {tmp_path}/4: "):
        checkpoint.load(tmp_path, CARD, template)


def test_a_failed_save_leaves_the_old_checkpoint_alone(saved, monkeypatch):
    unwritable = replace(CARD, step=5, config=object())
    with pytest.raises(TypeError, match="not JSON serializable"):
        checkpoint.save(saved, unwritable, state(2))

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr(checkpoint.ocp, "save", full)
    with pytest.raises(CheckpointError, match="no space left"):
        checkpoint.save(saved, replace(CARD, step=5), state(2))
    assert os.listdir(saved) == ["4"]
    assert same(checkpoint.load(saved, CARD, state())[1], state(1))

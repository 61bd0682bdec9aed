# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: an orbax tree and a JSON card a step, renamed into place when complete."""

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from orbax.checkpoint import v1 as ocp

VERSION = 1


class CheckpointError(ValueError):
    """A checkpoint that is missing, unreadable or of another run; the message says what to do."""


@dataclass(frozen=True)
class Card:
    """What a checkpoint belongs to.

    `network` is the repr of the NetSpec, `config` of the run's configuration; a run resumes only
    from a checkpoint with both equal. `bits` is "" for a supernet.
    """

    kind: str
    network: str
    config: str
    bits: str
    step: int
    digest: str = ""  # SHA-256 over the files of the state, filled in by `save`
    version: int = VERSION


def save(directory: Path, card: Card, state: Any) -> None:
    """Write `directory`/<step> and remove older steps; CheckpointError if the disk refuses."""
    directory = directory.resolve()  # orbax takes absolute paths only
    directory.mkdir(parents=True, exist_ok=True)
    temporary, target = (
        Path(tempfile.mkdtemp(prefix=".step-", dir=directory)),
        directory / str(card.step),
    )
    try:
        ocp.save(temporary / "state", state)
        card = replace(card, digest=_digest(temporary / "state"))
        (temporary / "card.json").write_text(json.dumps(asdict(card), indent=1))
        shutil.rmtree(target, ignore_errors=True)
        os.replace(temporary, target)
    except (OSError, ValueError) as error:  # ValueError: what orbax makes of a full disk
        reason = str(error).splitlines()[0][:200]
        raise CheckpointError(f"cannot write checkpoint {target}: {reason}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for step in _steps(directory):
        if step < card.step:
            shutil.rmtree(directory / str(step), ignore_errors=True)


def clear(directory: Path) -> None:
    """Remove every checkpoint in `directory`."""
    for step in _steps(directory):
        shutil.rmtree(directory / str(step))


def latest(directory: Path) -> Card | None:
    """Return the card of the newest checkpoint in `directory`, None if there is none."""
    steps = _steps(directory)
    return _read_card(directory / str(steps[-1])) if steps else None


def load(directory: Path, expected: Card, template: Any) -> tuple[Card, Any]:
    """Return the newest card and its state, shaped as `template`.

    `expected` gives kind, network, config and bits (an empty one accepts any; step is ignored).
    Raises CheckpointError naming the directory and the field that differs.
    """
    card = latest(directory)
    if card is None:
        raise CheckpointError(f"no checkpoint in {directory}; run `{expected.kind}` first")
    for field in ("kind", "network", "config", "bits"):
        want, got = getattr(expected, field), getattr(card, field)
        if want and want != got:
            raise CheckpointError(
                f"checkpoint {directory} has another {field}: {_difference(want, got)}; "
                "give the options it was made with, or another --out"
            )
    if _digest(directory / str(card.step) / "state") != card.digest:
        # Before orbax sees it: on damaged files its worker threads print pages to stderr.
        raise CheckpointError(
            f"cannot read checkpoint {directory}/{card.step}: its files are damaged; "
            "delete it and run again"
        )
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), template
    )
    try:
        state = ocp.load(directory.resolve() / str(card.step) / "state", abstract)
        # Not bound to a device, like a fresh state: a mixture of both is compiled twice.
        return card, jax.tree.map(lambda x: jnp.asarray(np.array(x)), state)
    except (ValueError, OSError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"cannot read checkpoint {directory}/{card.step}: {reason}; delete it and run again"
        ) from error


def _digest(state: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in state.rglob("*") if path.is_file()):
        digest.update(path.relative_to(state).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def _steps(directory: Path) -> list[int]:
    if not directory.is_dir():
        return []
    return sorted(int(entry.name) for entry in directory.iterdir() if entry.name.isdigit())


def _read_card(path: Path) -> Card:
    try:
        fields = json.loads((path / "card.json").read_text())
        version = fields.get("version")
        if version == VERSION:
            return Card(**fields)
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise CheckpointError(
            f"cannot read {path / 'card.json'}: {error}; delete {path}"
        ) from error
    raise CheckpointError(
        f"{path} has checkpoint version {version!r}, this program reads {VERSION}"
    )


def _difference(want: str, got: str) -> str:
    """Return the part of two long texts around their first difference."""
    at = next(
        (i for i, (a, b) in enumerate(zip(want, got, strict=False)) if a != b),
        min(len(want), len(got)),
    )
    start = max(want.rfind(" ", 0, at) + 1, want.rfind("(", 0, at) + 1)
    return f"'{got[start : start + 40]}' instead of '{want[start : start + 40]}'"

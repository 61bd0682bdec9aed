# SPDX-License-Identifier: Apache-2.0
"""What each stage needs, which options decide its result, and what it makes out of date."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from experiments import run_folder
from experiments.run_context import Run

_RECIPE = ("preset", "net", "quantiser", "data", "seed", "box_gain", "dataset", "slim")
_CHOICE = (*_RECIPE, "search_steps", "relaxation", "lam", "tau_first", "tau_last")
# What is trained may go to any device, but the widths were searched for the DSPs of one.
_TRAINING = (*_CHOICE, "train_steps", "warm_start", "wbits", "abits", "init", "unquantised")
_BUILDING = (*_TRAINING, "device", "clock_mhz", "csim_frames")
DECIDING_OPTIONS = {
    "search": (*_CHOICE, "device"),
    "train": _TRAINING,
    "test": _TRAINING,
    "export": _BUILDING,
    "simulate": _BUILDING,
}
NEEDS = {"train": "search", "test": "train", "export": "train", "simulate": "export"}
OUTPUTS = {"export": ("export", "graph", "hls")}
FOLDERS = tuple(name for stage in DECIDING_OPTIONS for name in OUTPUTS.get(stage, (stage,)))


def decided_by(run: Run, stage: str) -> dict:
    """Return the options that decide the result of `stage`, as JSON values."""
    recorded = run.recorded_options()
    return {name: recorded[name] for name in DECIDING_OPTIONS[stage] if name in recorded}


def finished(run: Run, stage: str) -> bool:
    """Whether `stage` has a result of these options; RunError if it is of other options."""
    result = run_folder.read_json_if_present(run.out / stage / "result.json")
    outputs = OUTPUTS.get(stage, (stage,))
    if result is None or not all((run.out / name).is_dir() for name in outputs):
        return False
    for name, now in decided_by(run, stage).items():
        before = _options(result).get(name)
        if before != now:
            raise run_folder.RunError(
                f"{run.out / stage} was made with --{name.replace('_', '-')} {before}, now {now}; "
                f"give the same options, choose another --out, or run `{stage}` anew"
            )
    return True


def _options(result: dict) -> dict:
    options = result.get("options")
    return options if isinstance(options, dict) else {}


def check_predecessor(run: Run, stage: str) -> None:
    """Raise RunError unless what `stage` reads exists and was made with these options."""
    needed = NEEDS.get(stage)
    if needed is None or (needed == "search" and not run.options.needs_search):
        return
    if not finished(run, needed):
        needs = (f"{needed}/result.json", *OUTPUTS.get(needed, ()))
        gone = next((name for name in needs if not (run.out / name).exists()), needs[0])
        raise run_folder.RunError(f"{run.out / gone} is missing; run `{run.command(needed)}` first")


def replaced_by(stage: str, keep_own: bool) -> Iterator[str]:
    """Yield the folders that `stage` replaces: its own unless it is resumed, and all later ones."""
    if not keep_own:
        yield from OUTPUTS.get(stage, (stage,))
    for later, needed in NEEDS.items():
        if needed == stage:
            yield from replaced_by(later, keep_own=False)


@contextmanager
def replacing(run: Run, stage: str, keep_own: bool) -> Iterator[None]:
    """Set aside what `stage` replaces while it runs; it comes back if the block raises an error.

    Not after Ctrl-C: what the stage has done until then is there to be resumed.
    """
    aside = run.out / ".replaced"
    shutil.rmtree(aside, ignore_errors=True)  # of a run that was killed
    for name in replaced_by(stage, keep_own):
        if (run.out / name).exists():
            aside.mkdir(exist_ok=True)
            (run.out / name).rename(aside / name)
    failed = True
    try:
        yield
        failed = False
    except KeyboardInterrupt:
        failed = False
        raise
    finally:
        for folder in aside.iterdir() if failed and aside.exists() else ():
            shutil.rmtree(run.out / folder.name, ignore_errors=True)
            folder.rename(run.out / folder.name)
        shutil.rmtree(aside, ignore_errors=True)

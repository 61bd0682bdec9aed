# SPDX-License-Identifier: Apache-2.0
"""Shared fixtures: deterministic hypothesis, strict JAX, golden files, a limit on fast tests."""

import os
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from hw.hls import csim, toolchain

GOLDEN = Path(__file__).parent / "golden"
# Of CPU, child processes included, so that a busy machine fails no test; several times what the
# slowest unmarked test takes.
FAST_LIMIT_S = 30.0
CPU_SECONDS = pytest.StashKey[float]()

settings.register_profile(
    "fast",
    derandomize=True,
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile("thorough", parent=settings.get_profile("fast"), max_examples=250)


def pytest_addoption(parser):
    parser.addoption("--update-golden", action="store_true", help="rewrite golden files")


def pytest_configure(config):
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    slow = "slow" in config.getoption("markexpr", "") and "not slow" not in config.option.markexpr
    if not slow:  # they spend their time compiling; slow tests run at the product's own level
        os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
    settings.load_profile("thorough" if slow else "fast")


@pytest.fixture
def update_golden(request) -> bool:
    return request.config.getoption("--update-golden")


@pytest.fixture
def golden(update_golden):
    """Return check(name, text): compares with tests/golden/name, or rewrites it."""

    def check(name: str, text: str) -> None:
        path = GOLDEN / name
        if update_golden:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        assert path.exists(), f"{path} is missing; run pytest --update-golden and review the diff"
        assert text == path.read_text(), f"{path} differs; see the diff of --update-golden"

    return check


@pytest.fixture(autouse=True)
def quick_compiler(monkeypatch, request):
    """Compile C simulations without optimisation, but in slow tests, which run whole networks."""
    if request.node.get_closest_marker("slow") is None:
        quick = partial(toolchain.compile_cpp, flags=(*toolchain.FLAGS, "-O0"))
        monkeypatch.setattr(csim, "compile_cpp", quick)


def cpu_seconds() -> float:
    """Return what this process and its finished children have used."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    started = cpu_seconds()
    try:
        return (yield)
    finally:
        item.stash[CPU_SECONDS] = cpu_seconds() - started


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Fail an unmarked test that is too slow for the fast suite."""
    report = yield
    seconds = item.stash.get(CPU_SECONDS, 0.0)
    over = report.when == "call" and report.passed and seconds > FAST_LIMIT_S
    if over and not {"slow", "csim"} & {mark.name for mark in item.iter_markers()}:
        report.outcome = "failed"
        report.longrepr = f"took {seconds:.1f} s of CPU; mark it slow or make it smaller"
    return report

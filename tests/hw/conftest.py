# SPDX-License-Identifier: Apache-2.0
"""C simulations of small designs: compiling them quickly saves more than running them quickly."""

from functools import partial

import pytest

from hw.hls import csim, toolchain


@pytest.fixture(autouse=True)
def quick_compiler(monkeypatch, request):
    """Leave optimisation out, but in slow tests, which run whole networks."""
    if request.node.get_closest_marker("slow") is None:
        quick = partial(toolchain.compile_cpp, flags=(*toolchain.FLAGS, "-O0"))
        monkeypatch.setattr(csim, "compile_cpp", quick)

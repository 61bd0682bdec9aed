# SPDX-License-Identifier: Apache-2.0
"""A missing tool is one clear error."""

from types import SimpleNamespace

import pytest

from hw.hls import toolchain


def test_missing_compiler(monkeypatch):
    monkeypatch.setattr(toolchain.shutil, "which", lambda name: None)
    with pytest.raises(toolchain.ToolchainError, match=r"needs g\+\+, which is not on PATH; insta"):
        toolchain.find()


@pytest.mark.parametrize("spec", [None, SimpleNamespace(submodule_search_locations=["/nowhere"])])
def test_missing_headers(monkeypatch, spec):
    monkeypatch.setattr(toolchain.shutil, "which", lambda name: "/usr/bin/g++")
    monkeypatch.setattr(toolchain, "find_spec", lambda name: spec)
    with pytest.raises(toolchain.ToolchainError, match=r"needs ap_int\.h.*pip install hls4ml"):
        toolchain.find()


@pytest.mark.csim
def test_installed_tools_are_found():
    tools = toolchain.find()
    assert tools.compiler.is_file()
    assert (tools.ap_include / "ap_int.h").is_file()

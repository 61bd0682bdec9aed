# SPDX-License-Identifier: Apache-2.0
"""Projects reach the disk whole or not at all."""

import pytest

from hw.hls import BuildPlan, HlsError, write
from hw.pipeline import Pipeline

PIPELINE = Pipeline((), ())
PLAN = BuildPlan("top", PIPELINE, (("README.md", b"r"), ("src/top.cpp", b"int x;\n")))


def tree(folder) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_files_arrive(tmp_path):
    write(PLAN, tmp_path / "new" / "project")
    assert tree(tmp_path / "new") == {f"project/{path}": text for path, text in PLAN.files}


def test_an_older_project_is_replaced(tmp_path):
    write(PLAN, tmp_path / "project")
    write(BuildPlan("top", PIPELINE, (*PLAN.files, ("src/more.cpp", b""))), tmp_path / "project")
    write(PLAN, tmp_path / "project")
    assert tree(tmp_path) == {f"project/{path}": text for path, text in PLAN.files}


def test_foreign_files_are_kept(tmp_path):
    write(PLAN, tmp_path / "project")
    (tmp_path / "project" / "hls_project").mkdir()
    with pytest.raises(HlsError, match=r"project' holds 'hls_project', which no HLS project cont"):
        write(PLAN, tmp_path / "project")
    assert (tmp_path / "project" / "hls_project").is_dir()


def test_a_failure_leaves_nothing_behind(tmp_path):
    impossible = BuildPlan("top", PIPELINE, (("src", b""), ("src/top.cpp", b"")))
    with pytest.raises(OSError, match="src"):
        write(impossible, tmp_path / "project")
    assert list(tmp_path.iterdir()) == []

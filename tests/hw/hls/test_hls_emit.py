# SPDX-License-Identifier: Apache-2.0
"""Emission is deterministic, covers every process and keeps to the synthesizable subset."""

import re
import subprocess
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest
from hypothesis import given

from hw.execute import execute
from hw.hls import HlsError, emit, write
from hw.hls.beats import unpack_results
from hw.hls.toolchain import FLAGS, find
from hw.ir import IRError
from hw.pipeline import PROCESSES
from tests.hw.hls.networks import (
    branched_design,
    random_frames,
    residual_design,
    tiny_design,
)
from tests.strategies import chain_design, shape_graph, small_graph

HEADERS = sorted((files("hw.hls") / "include" / "mixq").iterdir())


@given(chain_design(small_graph()))
def test_same_design_same_bytes(design):
    frames = random_frames(design.graph, 1, seed=0)
    first, second = emit(design, frames), emit(replace(design), frames.copy())
    assert first.digest == second.digest
    assert first.files == second.files
    paths = [path for path, _ in first.files]
    assert paths == sorted(set(paths))
    assert not any(path.startswith("/") or ".." in path for path in paths)


def test_digest_sees_every_byte_and_path():
    plan = emit(tiny_design())
    digests = {plan.digest}
    for index, (path, content) in enumerate(plan.files):
        for changed in ((path + "x", content), (path, content + b" ")):
            files = (*plan.files[:index], changed, *plan.files[index + 1 :])
            digests.add(replace(plan, files=files).digest)
    assert len(digests) == 1 + 2 * len(plan.files)


def test_emitted_text(golden):
    texts = dict(emit(tiny_design()).files)
    emitted = [
        path for path in texts if not path.startswith(("include/", "tcl/")) and path != "README.md"
    ]
    assert len(emitted) == 7
    for path in emitted:
        golden(f"hls/{path.replace('/', '_')}.txt", texts[path].decode())


def test_nothing_local_in_the_text():
    for path, content in emit(tiny_design()).files:
        text = content.decode()
        assert not re.search(r"/(home|root|tmp|usr|work)\b", text), path
        assert max(map(len, text.splitlines()), default=0) <= 120, path


@pytest.mark.parametrize(
    ("name", "top"),
    [("ultranet-4b", "ultranet_4b_top"), ("2 layers", "net_2_layers_top"), ("", "net__top")],
)
def test_any_graph_name_makes_a_function_name(name, top):
    design = tiny_design()
    plan = emit(replace(design, graph=replace(design.graph, name=name)))
    assert plan.top == top
    assert f"void {top}(" in dict(plan.files)["src/top.hpp"].decode()


def test_golden_frames_are_the_ports_beats():
    design = tiny_design()
    frames = random_frames(design.graph, 2, seed=3)
    plan = emit(design, frames)
    contents = dict(plan.files)
    assert b"csim csynth cosim export" in contents["run_hls.tcl"]
    results = unpack_results(plan.pipeline.processes[-1], contents["tb/golden_out.bin"])
    assert np.array_equal(results, execute(design.graph, frames))
    assert "tb/golden_out.bin" not in dict(emit(design).files)


def test_every_process_has_its_template():
    """The match over processes is complete, and every template that it names exists."""
    plans = [emit(design()) for design in (tiny_design, branched_design, residual_design)]
    processes = [process for plan in plans for process in plan.pipeline.processes]
    assert {type(process) for process in processes} == set(PROCESSES)
    text = "".join(dict(plan.files)["src/top.cpp"].decode() for plan in plans)
    called = re.findall(r"^  mixq::(\w+)<", text, re.MULTILINE)
    headers = "\n".join(header.read_text() for header in HEADERS)
    assert len(called) == len(processes)
    assert set(called) == set(re.findall(r"^void (\w+)\(\s*hls::stream", headers, re.MULTILINE))


@given(chain_design(small_graph()))
def test_every_stream_has_one_writer_and_one_reader(design):
    plan = emit(design)
    top = dict(plan.files)["src/top.cpp"].decode()
    declared = re.findall(r'^ +(\w+)\("\1"\);$', top, re.MULTILINE)
    calls = re.findall(r"^  mixq::\w+<[^;]*?>\(\n +(\w+), (\w+)[^;]*;$", top, re.MULTILINE)
    readers, writers = [call[0] for call in calls], [call[1] for call in calls]
    assert len(calls) == len(plan.pipeline.processes)
    assert sorted(readers) == sorted([*declared, "image_in"])
    assert sorted(writers) == sorted([*declared, "result_out"])
    depths = dict(re.findall(r"STREAM variable = (\w+) depth = (\d+)$", top, re.MULTILINE))
    fifos = plan.pipeline.streams[1:-1]
    assert depths == {stream.name: str(stream.depth) for stream in fifos}


FORBIDDEN = r"\b(new|delete|malloc|free|while|goto|virtual|std|float|double|static_cast|throw)\b"


@pytest.mark.parametrize("header", HEADERS, ids=lambda header: header.name)
def test_headers_are_synthesizable(header):
    code = without_comments(header.read_text())
    assert re.findall(FORBIDDEN, code) == []
    includes = set(re.findall(r"#include [<\"]([^>\"]+)", code))
    assert {name for name in includes if not name.startswith("mixq/")} <= {
        "ap_int.h",
        "ap_axi_sdata.h",
        "hls_stream.h",
        "csim/count.hpp",
    }
    for name, body in functions(code):
        assert not re.search(rf"\b{name}\s*(<[^;(]*>)?\s*\(", body), f"{name} calls itself"
    for condition in re.findall(r"\bfor \([^;]*;([^;]*);", code):
        bound = re.split(r"<=?", condition, maxsplit=1)[1]
        names = re.findall(r"[A-Za-z_][\w:]*", bound)
        constant = re.compile(r"[A-Z]+::\w+|[A-Z_]+|frames|fields")
        assert all(constant.fullmatch(name) for name in names), condition


def test_every_template_loop_is_pipelined():
    """One flattened loop with initiation interval 1 per process; Window has one per schedule."""
    for header in HEADERS:
        code = header.read_text()
        loops = len(re.findall(r"^void \w+\(\s*hls::stream", code, re.MULTILINE))
        loops += header.name == "window.hpp"
        assert code.count("#pragma HLS PIPELINE II = 1") == loops, header.name
        assert code.count("#pragma HLS LOOP_FLATTEN") == loops, header.name
        assert code.count("MIXQ_ITERATION(C);") == loops, header.name


def test_only_far_windows_drop_their_dependence():
    code = next(header for header in HEADERS if header.name == "window.hpp").read_text()
    far, near = code[code.index("if (S::FAR)") :].split("} else {")
    assert "#pragma HLS DEPENDENCE variable = lines inter false" in far
    assert "DEPENDENCE" not in near
    assert code.count("DEPENDENCE") == 1


def without_comments(code: str) -> str:
    return re.sub(r"//[^\n]*", "", code)


def functions(code: str) -> list[tuple[str, str]]:
    """Return (name, body) of every function definition."""
    found = []
    for match in re.finditer(r"\b(\w+)\([^;{}]*\)\s*(?:const\s*)?\{", code):
        depth, end = 1, match.end()
        while depth:
            depth += {"{": 1, "}": -1}.get(code[end], 0)
            end += 1
        if match[1] not in {"if", "for", "switch"}:
            found.append((match[1], code[match.end() : end]))
    return found


def test_the_rules_above_can_fail():
    code = "int f(int n) { return f<2>(n - 1); }\nint g() { return f(1); }"
    (name, body), (_, other) = functions(code)
    assert name == "f"
    assert re.search(r"\bf\s*(<[^;(]*>)?\s*\(", body)
    assert not re.search(r"\bg\s*\(", other)


@pytest.mark.csim
def test_strict_compiler_has_no_complaint(tmp_path):
    """Without optimisation, whose analysis would blame ap_int for values left undefined."""
    design = tiny_design()
    keyword = replace(design, graph=replace(design.graph, name="float"))
    write(emit(keyword), tmp_path / "p")
    tools, include = find(), tmp_path / "p" / "include"
    command = [tools.compiler, *FLAGS, "-O0", "-fsyntax-only", "-Wall", "-Wextra", "-Wshadow"]
    command += ["-pedantic", "-Werror", f"-I{include}", f"-I{include}/csim"]
    command += ["-isystem", tools.ap_include, "-MD", "-MF", tmp_path / "deps"]
    for source in ("tb/testbench.cpp", "src/top.cpp"):
        words = [*map(str, command), str(tmp_path / "p" / source)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.stderr == ""
        used = (tmp_path / "deps").read_text().split()
        assert str(include / "csim" / "hls_stream.h") in used
        assert str(tools.ap_include / "ap_int.h") in used
        assert not any(path.endswith(("ap_types/hls_stream.h", "ap_shift_reg.h")) for path in used)


@given(chain_design(shape_graph()))
def test_shape_only_designs_are_refused(design):
    with pytest.raises(HlsError, match="graph 'random_chain' is shape-only; export it with param"):
        emit(design)


def test_frames_of_another_shape_are_refused():
    with pytest.raises((HlsError, IRError), match=r"\[N, 6, 7, 3\]"):
        emit(tiny_design(), np.zeros((1, 6, 7, 4), np.uint8))

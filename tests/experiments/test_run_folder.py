# SPDX-License-Identifier: Apache-2.0
"""Files of a run: whole documents, lines that survive a kill, messages that say what to do."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments import run_folder
from experiments.run_folder import RunError


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_prepare_makes_the_folder_and_leaves_nothing_in_it(tmp_path):
    run_folder.prepare(tmp_path / "a/b", "out")
    run_folder.prepare(tmp_path / "a/b", "out")
    assert names(tmp_path / "a/b") == set()


@pytest.mark.parametrize(
    ("place", "reason"), [("file", "File exists"), ("file/below", "Not a directory")]
)
def test_prepare_refuses_what_is_no_folder(tmp_path, place, reason):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(RunError) as refused:
        run_folder.prepare(tmp_path / place, "cache")
    assert str(refused.value) == f"--cache {tmp_path / place}: cannot write there ({reason})"
    assert (tmp_path / "file").read_text() == "kept"


def test_prepare_refuses_a_folder_that_takes_no_files(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "touch", refuse)  # a mode would not stop root
    with pytest.raises(RunError) as refused:
        run_folder.prepare(tmp_path, "out")
    assert str(refused.value) == f"--out {tmp_path}: cannot write there (Permission denied)"


def test_claim_wants_a_run_or_nothing_of_that_name(tmp_path):
    run_folder.claim(tmp_path, ("train",), None)
    (tmp_path / "train").mkdir()
    with pytest.raises(RunError) as refused:
        run_folder.claim(tmp_path, ("search", "train"), None)
    assert str(refused.value) == (
        f"--out {tmp_path}: holds 'train' but no run.json, so it is no run's folder; "
        "choose another one"
    )
    run_folder.claim(tmp_path, ("search",), None)
    (tmp_path / "run.json").touch()
    run_folder.claim(tmp_path, ("search", "train"), None)


@pytest.mark.parametrize("data", ["train", "train/frames", "elsewhere/../train"])
def test_claim_refuses_to_replace_the_data_set(tmp_path, data):
    (tmp_path / "run.json").touch()
    with pytest.raises(RunError, match=r"its 'train' would replace --data .*; choose another"):
        run_folder.claim(tmp_path, ("search", "train"), tmp_path / data)
    run_folder.claim(tmp_path, ("search",), tmp_path / data)


def test_write_json_makes_folders_and_sorts_keys(tmp_path):
    path = tmp_path / "a/b/result.json"
    run_folder.write_json(path, {"b": [1, 2.5], "a": None})
    text = path.read_text()
    assert json.loads(text) == {"a": None, "b": [1, 2.5]}
    assert text.index('"a"') < text.index('"b"')
    assert text.endswith("}\n")
    assert names(path.parent) == {"result.json"}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, Path("x")])
def test_a_document_that_is_no_json_leaves_the_old_one(tmp_path, value):
    path = tmp_path / "result.json"
    run_folder.write_json(path, {"old": 1})
    with pytest.raises((ValueError, TypeError)):
        run_folder.write_json(path, {"good": 1, "wrong": value})
    assert json.loads(path.read_text()) == {"old": 1}
    assert names(tmp_path) == {"result.json"}


def test_a_write_that_is_cut_leaves_the_old_document(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    run_folder.write_json(path, {"old": 1})

    def cut(self, text):
        with self.open("w") as file:
            file.write(text[:5])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", cut)
        with pytest.raises(OSError, match="No space left"):
            run_folder.write_json(path, {"new": 1})
    assert json.loads(path.read_text()) == {"old": 1}
    run_folder.write_json(path, {"new": 1})
    assert json.loads(path.read_text()) == {"new": 1}
    assert names(tmp_path) == {"result.json"}


def test_read_json_returns_the_document(tmp_path):
    run_folder.write_json(tmp_path / "result.json", {"a": [1]})
    assert run_folder.read_json(tmp_path / "result.json", "make it") == {"a": [1]}
    assert run_folder.read_json_if_present(tmp_path / "result.json") == {"a": [1]}


def test_a_missing_document_names_its_command(tmp_path):
    path = tmp_path / "result.json"
    with pytest.raises(RunError) as refused:
        run_folder.read_json(path, "make it")
    assert str(refused.value) == f"{path} is missing; run `make it` first"
    assert run_folder.read_json_if_present(path) is None


@pytest.mark.parametrize("text", ["", '{"a": ', "{'a': 1}"])
def test_a_broken_document_names_its_command(tmp_path, text):
    path = tmp_path / "result.json"
    path.write_text(text)
    with pytest.raises(RunError) as refused:
        run_folder.read_json(path, "make it")
    message = str(refused.value)
    assert message.startswith(f"{path} is unreadable (")
    assert message.endswith("); run `make it` again")
    assert run_folder.read_json_if_present(path) is None


def test_a_folder_in_place_of_a_document(tmp_path):
    with pytest.raises(RunError, match=r"is unreadable \(.*Is a directory.*; run `make it` again"):
        run_folder.read_json(tmp_path, "make it")
    assert run_folder.read_json_if_present(tmp_path) is None


def test_append_lines_adds_to_what_is_there(tmp_path):
    path = tmp_path / "search/metrics.jsonl"
    run_folder.append_lines(path, [{"step": 0}, {"step": 1, "x": [0.5]}])
    run_folder.append_lines(path, iter([]))
    run_folder.append_lines(path, ({"step": step} for step in (2,)))
    assert path.read_text() == '{"step": 0}\n{"step": 1, "x": [0.5]}\n{"step": 2}\n'


@st.composite
def cut_records(draw) -> tuple[list[dict], str]:
    """Rows in order of their steps, and a file of them of which a kill cut the end."""
    steps = sorted(draw(st.lists(st.integers(0, 30), max_size=8)))
    rows = [{"step": step, "x": draw(st.text(max_size=4))} for step in steps]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    start = text.rstrip("\n").rfind("\n") + 1  # of the last line
    return rows, text[: draw(st.integers(start, len(text)))]


@given(cut_records(), st.integers(0, 32))
def test_lines_before_a_step_are_kept_whatever_was_cut(tmp_path_factory, records, step):
    rows, text = records
    path = tmp_path_factory.mktemp("lines") / "metrics.jsonl"
    path.write_text(text)
    whole = len(text.splitlines()) == len(rows) and (not rows or text.rstrip("\n").endswith("}"))
    survived = rows if whole else rows[:-1]
    run_folder.keep_lines_before(path, step)
    kept = [row for row in survived if row["step"] < step]
    assert path.read_text() == "".join(json.dumps(row) + "\n" for row in kept)
    run_folder.append_lines(path, [{"step": step}])
    assert json.loads(path.read_text().splitlines()[-1]) == {"step": step}
    assert names(path.parent) == {"metrics.jsonl"}


@pytest.mark.parametrize("broken", ['{"step": 1', "\0\0\0", '{"other": 1}'])
def test_nothing_behind_a_broken_line_is_trusted(tmp_path, broken):
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"step": 0}}\n{broken}\n{{"step": 2}}\n')
    run_folder.keep_lines_before(path, 9)
    assert path.read_text() == '{"step": 0}\n'


def test_no_lines_where_there_is_no_file(tmp_path):
    run_folder.keep_lines_before(tmp_path / "metrics.jsonl", 3)
    assert names(tmp_path) == set()


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[]", b"null", b"5", b'{"options": '])
def test_documents_of_another_kind_are_broken(tmp_path, content):
    path = tmp_path / "result.json"
    path.write_bytes(content)
    assert run_folder.read_json_if_present(path) is None
    with pytest.raises(RunError, match=r"result\.json is unreadable \(.*\); run `make it` again"):
        run_folder.read_json(path, "make it")


@pytest.mark.parametrize("line", [b"5", b"[1]", b'{"step": null}', b"\xff\xfe", b"{}"])
def test_lines_of_another_kind_end_the_record(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 0}\n' + line + b'\n{"step": 1}\n')
    run_folder.keep_lines_before(path, 9)
    assert path.read_bytes() == b'{"step": 0}\n'


def test_a_full_disk_leaves_no_temporary_file(tmp_path, monkeypatch):
    def full(self, text):
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        run_folder.write_json(tmp_path / "result.json", {})
    assert not list(tmp_path.iterdir())

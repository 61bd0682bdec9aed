# SPDX-License-Identifier: Apache-2.0
import pytest

from mixq_jax.data.atomic import atomic_directory


def listing(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_appears_when_complete(tmp_path):
    with atomic_directory(tmp_path / "new" / "deep") as partial:
        (partial / "a").write_text("1")
        assert not (tmp_path / "new" / "deep").exists()
    assert listing(tmp_path) == ["new", "new/deep", "new/deep/a"]


def test_replaces_the_whole_folder(tmp_path):
    target = tmp_path / "old"
    target.mkdir()
    (target / "stale").write_text("0")
    with atomic_directory(target) as partial:
        (partial / "fresh").write_text("1")
    assert listing(tmp_path) == ["old", "old/fresh"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_failure_leaves_everything_as_it_was(tmp_path, error):
    target = tmp_path / "old"
    target.mkdir()
    (target / "kept").write_text("0")

    def write_half():
        with atomic_directory(target) as partial:
            (partial / "half").write_text("1")
            raise error

    with pytest.raises(error):
        write_half()
    assert listing(tmp_path) == ["old", "old/kept"]

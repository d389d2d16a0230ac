"""A file appears whole or not at all."""

from __future__ import annotations

import pytest

from flashmm_sc._base.files import appearing_whole


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    def interrupted(part):
        part.write_text("half")
        raise KeyboardInterrupt

    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), appearing_whole(path) as part:
        interrupted(part)
    assert path.read_text() == "old"
    with appearing_whole(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]

"""A file appears whole or not at all."""

from __future__ import annotations

import numpy as np
import pytest

from flashmm_sc._base.files import appearing_whole, temporary_zeros


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


def test_arrays_in_temporary_files_leave_nothing(tmp_path):
    def interrupted():
        with temporary_zeros(tmp_path) as new:
            one, none = new((3, 4)), new((0, 4))
            one[1] += 2
            np.testing.assert_array_equal(one.sum(axis=1), [0, 8, 0])
            assert none.shape == (0, 4)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not list(tmp_path.iterdir())

"""Bars are seen in terminals and notebooks, and of what takes long only."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import sys
import termios
import time
import types
from contextlib import suppress

import pytest

import flashmm_sc as fsc
from flashmm_sc._base import progress as module
from flashmm_sc._base.progress import progress, watched

WORK = """
import sys, time
from flashmm_sc._base.progress import progress
with progress("counting", 2000, "cells", None) as bar:
    for _ in range(4):
        time.sleep({pause})
        bar.update(500)
print("after")
"""


def in_terminal(code: str, size: tuple[int, int]) -> str:
    """What a Python writes to a terminal of so many rows and columns."""
    process, terminal = pty.fork()
    if process == 0:
        os.execv(sys.executable, [sys.executable, "-c", code])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    written = b""
    with suppress(OSError):  # which says that it has ended
        while more := os.read(terminal, 4096):
            written += more
    assert os.waitpid(process, 0)[1] == 0, written.decode()
    return written.decode()


def standard_error(monkeypatch, *, terminal):
    """Standard error, made one that can be read; by a fixture, pytest would take it back before the test."""
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    stream.isatty = lambda: terminal
    return stream


@pytest.mark.parametrize("size", [(30, 100), (0, 0)], ids=["known size", "unknown size"])
def test_a_bar_appears_in_a_terminal_and_ends_cleanly(size):
    written = in_terminal(WORK.format(pause=0.4), size)
    assert re.search(r"\rcounting: +75%\|.*\| 1\.50k/2\.00k \[.*cells/s\]", written)
    last = written.split("\r")[-3]
    assert re.match(r"counting: 100%\|.*2\.00k/2\.00k", last)
    assert written.endswith("\r\nafter\r\n")


def test_no_bar_of_what_is_done_at_once():
    assert in_terminal(WORK.format(pause=0), (30, 100)) == "after\r\n"


@pytest.mark.parametrize(("show", "seen"), [(True, True), (False, False), (None, False)])
def test_asked_for_it_is_there_at_once_or_never(monkeypatch, show, seen):
    stream = standard_error(monkeypatch, terminal=show is not True)
    with progress("counting", 10, "cells", show):
        assert ("counting:   0%" in stream.getvalue()) == seen
    assert ("counting" in stream.getvalue()) == seen


def test_none_where_nobody_watches(capsys, monkeypatch):
    monkeypatch.setattr(module, "DELAY", 0.001)
    with progress("counting", 10, "cells", None) as bar:
        time.sleep(0.2)
        bar.update(5)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("config", "seen"), [({"IPKernelApp": {}}, True), ({"TerminalIPythonApp": {}}, False), (None, False)]
)
def test_a_notebook_is_watched_though_it_is_no_terminal(monkeypatch, config, seen):
    shell = None if config is None else types.SimpleNamespace(config=config)
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    stream = standard_error(monkeypatch, terminal=False)
    monkeypatch.setattr(module, "DELAY", 0.001)
    assert watched() == seen
    with progress("counting", 10, "cells", None) as bar:
        time.sleep(0.2)
        bar.update(5)
    assert ("counting" in stream.getvalue()) == seen


def test_without_standard_error(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert not watched()


def test_every_long_part_of_a_fit_has_a_bar(adata, monkeypatch):
    stream = standard_error(monkeypatch, terminal=False)
    options = {"transform": "log1p", "size_factors": "total", "show_progress": True}
    fsc.tl.lmm_de(adata, "~ trt", "sam", groupby="cls", **options)
    written = stream.getvalue()
    for words in ["totals of cells: 100%", "summing over cells: 100%", "fitting: 100%"]:
        assert words in written
    assert re.search(r"160/160 .*cells/s", written)
    assert re.search(r"24\.0/24\.0 .*genes/s", written)

"""Signals wait where they must not strike."""

from __future__ import annotations

import signal
import sys
import threading
import time

import pytest

from flashmm_sc._base.signals import ending_cleanly, interrupts_first, uninterrupted


def test_ctrl_c_waits():
    def interrupted(error=None):
        with uninterrupted() as came, uninterrupted() as inner:
            signal.raise_signal(signal.SIGINT)
            done.extend([len(came), len(inner)])
            if error:
                raise error

    done, error = [], ValueError("first")
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert done == [0, 1]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(KeyboardInterrupt) as caught:
        interrupted(error)
    assert error in (caught.value.__context__, getattr(caught.value.__context__, "__context__", None))


def test_other_threads_are_left_alone():
    def work():
        with uninterrupted() as came, ending_cleanly():
            found.append((came, signal.getsignal(signal.SIGTERM)))

    found = []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [([], signal.SIG_DFL)]


def test_a_request_to_end_is_an_exit():
    def asked():
        with ending_cleanly():
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(SystemExit) as caught:
        asked()
    assert caught.value.code == 143
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize(("number", "error"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)])
def test_a_signal_that_python_swallows_comes_again(number, error):
    """What it raises in a finaliser, or a callback of a weak reference, is printed and forgotten."""

    class Left:
        def __del__(self):
            signal.raise_signal(number)

    def swallowed():
        with ending_cleanly():
            Left()
            time.sleep(10)
            slept.append(True)

    slept = []
    with pytest.raises(error):
        swallowed()
    assert not slept


@pytest.mark.parametrize("code", [1, "bye", None])
def test_other_exits_that_python_swallows_are_printed(code, monkeypatch):
    class Left:
        def __del__(self):
            raise SystemExit(code)

    seen = []
    monkeypatch.setattr(sys, "unraisablehook", lambda swallowed: seen.append(swallowed.exc_value.code))
    with ending_cleanly():
        Left()
    assert seen == [code]


def test_errors_that_an_interrupt_has_led_to():
    def work(before, then):
        try:
            raise before
        except type(before):
            with interrupts_first():
                try:
                    raise then
                finally:
                    raise RuntimeError("release unlocked lock")

    with pytest.raises(KeyboardInterrupt):
        work(ValueError(), KeyboardInterrupt())
    with pytest.raises(SystemExit, match="143"):
        work(ValueError(), SystemExit(143))
    with pytest.raises(RuntimeError, match="unlocked"):
        work(KeyboardInterrupt(), ValueError())

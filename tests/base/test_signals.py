"""Signals wait where they must not strike."""

from __future__ import annotations

import signal
import threading

import pytest

from flashmm_sc._base.signals import ending_cleanly, uninterrupted


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

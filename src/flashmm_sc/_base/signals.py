"""Ctrl-C and requests to end: held back where they must not strike, and ways out for what is temporary."""

from __future__ import annotations

import _thread
import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


@contextmanager
def uninterrupted() -> Iterator[list[Any]]:
    """Hold signals that Python answers, such as Ctrl-C, back until the end; give a list of those that came."""
    came: list[Any] = []
    if threading.current_thread() is not threading.main_thread():  # they never reach others
        yield came
        return
    answers: dict[Any, Any] = {
        number: answer for number in (*_ENDING, signal.SIGINT) if callable(answer := signal.getsignal(number))
    }
    try:
        for number in answers:
            signal.signal(number, lambda *arguments: came.append(arguments))
        yield came
    finally:
        for number, answer in answers.items():
            signal.signal(number, answer)
        for number, frame in came:
            answers[number](number, frame)


@contextmanager
def ending_cleanly() -> Iterator[None]:
    """Let signals that end a process at once do so by SystemExit, which removes what is temporary.

    Python swallows what they raise where nothing can be raised, as in callbacks of weak references: they come again.
    """
    numbers = [
        number
        for number in _ENDING
        if threading.current_thread() is threading.main_thread() and signal.getsignal(number) == signal.SIG_DFL
    ]
    hook = sys.unraisablehook

    def again(swallowed: Any) -> None:
        error = swallowed.exc_value
        asked = [signal.SIGINT] if isinstance(error, KeyboardInterrupt) else []
        if isinstance(error, SystemExit):
            asked = [number for number in numbers if error.code == 128 + number]
        for number in asked:
            later.append(threading.Timer(0.01, _sent, [number]))
            later[-1].start()
        if not asked:
            hook(swallowed)

    later: list[threading.Timer] = []
    try:
        sys.unraisablehook = again
        for number in numbers:
            signal.signal(number, lambda number, _: sys.exit(128 + number))
        yield
    finally:
        sys.unraisablehook = hook
        for timer in later:
            timer.cancel()
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def _sent(number: int) -> None:
    """Send a signal to the main thread, which wakes it where it waits, if the system can."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(int(threading.main_thread().ident or 0), number)
    else:
        _thread.interrupt_main(signal.Signals(number))


@contextmanager
def interrupts_first() -> Iterator[None]:
    """Raise Ctrl-C, or a request to end, in the place of an error that it has led to: those of locks that it left open."""
    before = sys.exception()
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and cause is not before:
            if isinstance(cause, KeyboardInterrupt | SystemExit):
                raise type(cause)(*cause.args) from error
            cause = cause.__context__
        raise

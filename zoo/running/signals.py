"""What a run does when it is asked to stop: it ends at the next place from which it can go on.

SIGTERM and SIGUSR1 come from schedulers and end with status 75, Ctrl-C with 130. While the training loop is `patient`
the request waits for it to save; at any other time the run ends at once, since nothing since the last checkpoint is
worth keeping.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))


class Stop(BaseException):
    """A run was asked to stop, by the signal `number`. No `Exception`, so that nothing on the way swallows it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    @property
    def status(self) -> int:
        """Exit status: 130 after Ctrl-C, else 75."""
        return 130 if self.number == signal.SIGINT else 75


class Listener:
    """Remembers the first signal; see the top of this file.

    Attributes:
        asked: the signal that asked the run to stop, or None.
        patient: somebody looks at `asked` after every batch and raises `Stop` when the run is saved.
        stubborn: a second Ctrl-C changes nothing. So it is in a process that others wait for while it saves.
        agreed: all processes stop at the same place, and what they have is saved.
    """

    def __init__(self) -> None:
        self.asked: int | None = None
        self.patient = False
        self.stubborn = False
        self.agreed = False
        self.before: dict[int, Any] = {}

    def listen(self) -> None:
        """Takes the three signals, also from whoever took them since the last call."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            current = signal.getsignal(number)
            if current == self.heard:
                continue
            self.before.setdefault(number, current)
            if number == signal.SIGINT and current == signal.SIG_IGN:
                continue  # started in the background by a shell: Ctrl-C is meant for somebody else
            signal.signal(number, self.heard)

    def heard(self, number: int, frame: FrameType | None) -> None:
        first = self.asked is None
        if first:
            self.asked = number
        if (first and not self.patient) or (not first and number == signal.SIGINT and not self.stubborn):
            raise Stop(self.asked or number)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """A request waits until the block is done."""
        before, self.patient = self.patient, True
        try:
            yield
        finally:
            self.patient = before
        if self.asked is not None and not before:
            raise Stop(self.asked)

    def deafen(self) -> None:
        """From now on nothing but SIGKILL ends this process before its end."""
        self.stubborn = True
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, signal.SIG_IGN)

    def rest(self) -> None:
        """Gives the signals back to those who had them."""
        if self.stubborn:
            return  # the process ends with the run
        self.asked, self.patient = None, False
        if threading.current_thread() is threading.main_thread():
            for number, handler in self.before.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self.before = {}


LISTENER = Listener()

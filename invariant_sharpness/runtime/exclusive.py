"""One thread measures at a time.

A pass over the data puts other values into the parameters of a model, fixes the random states of the frameworks, and turns switches
that belong to the process, such as those of attention kernels. So there is one lock for all models: it is that of each of them, too.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from threading import RLock

_lock = RLock()


@contextmanager
def exclusive() -> Generator[None]:
    """Wait until no other thread measures, and keep the others waiting inside the ``with`` block; a thread may enter it again.

    However the block ends, by return, error or Ctrl-C, the next thread goes on.
    """
    with _lock:
        yield


def _renew() -> None:
    """After a fork: a lock that another thread held would stay closed, since in the new process there is no such thread."""
    global _lock
    if _lock.acquire(blocking=False):
        _lock.release()
    else:
        _lock = RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)

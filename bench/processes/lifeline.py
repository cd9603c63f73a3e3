"""A process that ends when the one that started it does, however that ends, with all that it has started."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import signal
import sys
import threading


def end_with_parent() -> None:
    """Tie this process, and whatever it starts from now on, to the life of the process that started it.

    For a process of :mod:`multiprocessing`, whatever its start method. It gets a process group of its own, which is
    killed at once when the parent is no more. An interrupt from the keyboard goes to the parent's group, so it is the
    parent's to handle.

    multiprocessing keeps a pipe open as long as the parent lives. On Linux the kernel is asked to send SIGKILL to the
    group when that pipe closes, because a kernel of torch's may hold the interpreter, in which then no thread and no
    handler of a signal runs. Elsewhere a thread waits for it, and acts when the interpreter is free. Not
    prctl(PR_SET_PDEATHSIG): it ends this process alone, it also fires when a mere thread of the parent ends, and to a
    process from a fork server the parent is that server.
    """
    os.setpgrp()
    parent = multiprocessing.parent_process()
    assert parent is not None, "only a process that multiprocessing has started has a parent to end with"
    if sys.platform == "linux":
        fcntl.fcntl(parent.sentinel, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(parent.sentinel, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(parent.sentinel, fcntl.F_SETFL, os.O_ASYNC)
        if not parent.is_alive():  # it ended before the kernel was asked
            _end_group()
    else:
        threading.Thread(target=lambda: (parent.join(), _end_group()), daemon=True).start()


def _end_group() -> None:
    os.killpg(0, signal.SIGKILL)

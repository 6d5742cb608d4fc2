"""How does a child process end when its parent does, even one that was killed? And how does one let others go first?"""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def die_with_parent(number: signal.Signals) -> Callable[[], None]:
    """A `preexec_fn` for `subprocess.Popen`: the kernel sends `number` to the child when its parent is gone.

    Linux only. The parent is the *thread* that starts the child (prctl(2)), so start such children from a
    thread that lives as long as they should: the main thread.
    """
    libc = ctypes.CDLL(None)  # loaded before the fork, where it is safe
    parent = os.getpid()

    def arrange() -> None:
        libc.prctl(PR_SET_PDEATHSIG, int(number))
        if os.getppid() != parent:  # the parent died before the line above
            os.kill(os.getpid(), signal.SIGKILL)

    return arrange


def step_back(nice: int) -> None:
    """Let other processes go first (`nice(2)`): this thread, and all threads and processes that it starts from now on.

    Where the kernel schedules whole sessions against each other (sched_autogroup, sched(7)), niceness counts within a
    session only; so a session that is this process's own steps back as one.
    """
    os.nice(nice)
    autogroup = Path("/proc/self/autogroup")
    if os.getsid(0) == os.getpid() and autogroup.exists():
        with suppress(OSError):  # some containers show it and refuse
            autogroup.write_text(str(nice), encoding="ascii")


def processes_in(folder: Path) -> set[int]:
    """The process ids whose working directory is `folder`, of those this user may look at (Linux only)."""
    return {pid for pid, cwd in _working_directories() if cwd == str(folder)}


def _working_directories() -> Iterator[tuple[int, str]]:
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            yield int(entry.name), os.readlink(f"/proc/{entry.name}/cwd")  # noqa: PTH115 (hot loop)
        except OSError:
            continue  # ended meanwhile, or another user's

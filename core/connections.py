"""Has the server closed a connection that nobody uses now?"""

from __future__ import annotations

import select


def is_closed(fileno: int) -> bool:
    """Whether there is something to read on the idle connection to PostgreSQL: its end, for nothing else ever is there.

    Asking the server would cost every use a round trip.
    """
    poll = select.poll()
    poll.register(fileno, select.POLLIN)
    return bool(poll.poll(0))

"""Does a process that steps back take its threads and children with it?"""

from __future__ import annotations

import json
import os
import subprocess
import sys

STEP_BACK = """
import json, os, subprocess, sys, threading
from rag_service.local.processes import step_back
step_back(7)
seen = {}
thread = threading.Thread(target=lambda: seen.update(thread=os.getpriority(os.PRIO_PROCESS, 0)))
thread.start()
thread.join()
child = [sys.executable, "-c", "import os; print(os.nice(0))"]
seen["child"] = int(subprocess.run(child, capture_output=True, check=True).stdout)
seen["self"] = os.nice(0)
try:
    autogroup = open("/proc/self/autogroup").read()
except OSError:
    autogroup = ""
seen["session"] = autogroup.split()[-1] if autogroup else None
print(json.dumps(seen))
"""


def test_threads_and_children_step_back_too_and_so_does_a_session_of_its_own() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STEP_BACK], capture_output=True, text=True, check=True, start_new_session=True
    )
    niceness = min(os.nice(0) + 7, 19)
    seen = json.loads(done.stdout)
    # None: this kernel has no autogroups, or this session is in none.
    assert seen.pop("session") in {"7", None}
    assert seen == {"thread": niceness, "child": niceness, "self": niceness}


def test_a_session_that_others_share_is_left_alone() -> None:
    done = subprocess.run([sys.executable, "-c", STEP_BACK], capture_output=True, text=True, check=True)
    ours = subprocess.run(["cat", "/proc/self/autogroup"], capture_output=True, text=True, check=False).stdout
    assert json.loads(done.stdout)["session"] == (ours.split()[-1] if ours else None)

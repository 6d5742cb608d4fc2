"""What does the service say when it is ready? Lines to copy that lead to the first cited answer.

They run in any other terminal of the same user, from any folder, and need nothing but what is installed.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from core.settings import ServerSettings, Settings, default_data_dir

SAMPLES = Path(__file__).parents[1] / "demo_documents" / "en"
QUESTION = "How long is the warranty of the Atlas 9?"


def welcome(settings: Settings, url: str, *, first_start: bool) -> str:
    """The text for a service at `url`, which listens as `settings.server` says (its port is not 0).

    The admin key itself is in it after the `first_start` only.
    """
    key_file = settings.admin_key_file
    lines = [f"\nrag-service is ready: {url}", f"Logs: {settings.data_dir / 'logs'}"]
    if first_start and key_file.exists():
        lines.append(f"Admin key (kept in {key_file}): {key_file.read_text(encoding='utf-8').strip()}")
    program = _program(settings)
    lines += [
        "\nIn another terminal, add documents (here samples; any files and folders do) and ask:",
        f"  {program} ingest {shlex.quote(str(SAMPLES))}",
        f"  {program} ask {shlex.quote(QUESTION)}",
        "Or by HTTP:",
        f'  curl -H "Authorization: Bearer $(cat {shlex.quote(str(key_file))})" '
        f"-H 'Content-Type: application/json' -d '{{\"question\": \"{QUESTION}\"}}' "
        f"{url}/api/v1/kbs/default/ask",
        f"Or open {url} in a browser.",
        "\nCtrl-C stops everything.",
    ]
    return "\n".join(lines)


def _program(settings: Settings) -> str:
    """The command `rag-service` for a terminal that knows none of our settings."""
    server, usual = settings.server, ServerSettings()
    variables = {
        "RAG_DATA_DIR": (str(settings.data_dir), str(default_data_dir())),
        "RAG_SERVER__HOST": (server.host, usual.host),
        "RAG_SERVER__PORT": (str(server.port), str(usual.port)),
    }
    words = [f"{name}={shlex.quote(ours)}" for name, (ours, known) in variables.items() if ours != known]
    return " ".join([*words, shlex.quote(str(Path(sys.executable).with_name("rag-service")))])

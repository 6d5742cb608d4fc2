"""`python -m rag_service.cli`: the same as `rag-service`."""

from __future__ import annotations

from rag_service.cli import app

if __name__ == "__main__":
    app(prog_name="rag-service")

"""Searches ask which documents of a knowledge base are in another language."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_documents_kb_id_language",
        "documents",
        ["kb_id", "language"],
        postgresql_where=sa.text("live_revision IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_documents_kb_id_language", table_name="documents")

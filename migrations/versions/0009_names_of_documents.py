"""Searches ask which documents a text names."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

KNOWN_AS = (
    "left(btrim(regexp_replace(regexp_replace(lower(normalize(coalesce(nullif(title, ''), "
    "regexp_replace(name, '^.*/|[.][^./]*$', '', 'g')), NFKC)), "
    "'\\s*[(][^()]*[)]\\s*$', ''), '[-_\\s]+', ' ', 'g')), 101)"
)


def upgrade() -> None:
    op.add_column(
        "documents",
        sa.Column("known_as", sa.Text(), sa.Computed(KNOWN_AS, persisted=True), nullable=False),
    )
    op.create_index(
        "ix_documents_kb_id_known_as",
        "documents",
        ["kb_id", sa.text('"left"(known_as, 6)')],
        postgresql_where=sa.text("live_revision IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_documents_kb_id_known_as", table_name="documents")
    op.drop_column("documents", "known_as")

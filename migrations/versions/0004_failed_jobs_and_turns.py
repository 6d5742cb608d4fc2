"""Failed jobs can be tried again, knowledge bases paused, and uploaders take turns."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "knowledge_bases", sa.Column("paused", sa.Boolean(), server_default=sa.text("false"), nullable=False)
    )
    op.add_column("jobs", sa.Column("uploader", sa.Text(), server_default="", nullable=False))
    op.add_column("jobs", sa.Column("started_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index("ix_jobs_turns", "jobs", ["kb_id", "uploader", "started_at"])
    op.create_index("ix_jobs_failed", "jobs", ["finished_at"], postgresql_where=sa.text("status = 'failed'"))


def downgrade() -> None:
    op.drop_index("ix_jobs_failed", table_name="jobs")
    op.drop_index("ix_jobs_turns", table_name="jobs")
    op.drop_column("jobs", "started_at")
    op.drop_column("jobs", "uploader")
    op.drop_column("knowledge_bases", "paused")

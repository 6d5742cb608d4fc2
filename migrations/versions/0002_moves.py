"""Knowledge bases can move between stores."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("detail", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.add_column(
        "knowledge_bases",
        sa.Column(
            "copies", postgresql.ARRAY(sa.String()), server_default=sa.text("'{}'::varchar[]"), nullable=False
        ),
    )


def downgrade() -> None:
    op.drop_column("knowledge_bases", "copies")
    op.drop_column("jobs", "detail")

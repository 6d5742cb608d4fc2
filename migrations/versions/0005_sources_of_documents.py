"""Documents remember which source keeps them up to date."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("documents", sa.Column("source", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("documents", "source")

"""Knowledge bases can have a second generation, which is being built or can be gone back to."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "knowledge_bases",
        sa.Column("newest_generation", sa.Integer(), server_default="1", nullable=False),
    )
    op.add_column(
        "knowledge_bases",
        sa.Column("other_generation", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
    )
    op.create_table(
        "document_generations",
        sa.Column("document_id", sa.Text(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("revision", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=True),
        sa.Column("language", sa.Text(), nullable=True),
        sa.Column("pages", sa.Integer(), nullable=True),
        sa.Column("characters", sa.Integer(), nullable=True),
        sa.Column("chunks", sa.Integer(), nullable=True),
        sa.Column("summaries", sa.Integer(), nullable=True),
        sa.Column("summary", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["document_id"],
            ["documents.id"],
            name=op.f("fk_document_generations_document_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("document_id", "generation", name=op.f("pk_document_generations")),
    )


def downgrade() -> None:
    op.drop_table("document_generations")
    op.drop_column("knowledge_bases", "other_generation")
    op.drop_column("knowledge_bases", "newest_generation")

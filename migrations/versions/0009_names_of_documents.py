"""Searches ask which documents a text names."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

NAME_LETTERS = r"a-z0-9\u00c0-\u1fff\u2c00-\u2fff\u3040-\uffff\U00020000-\U0003ffff"
NAME_MARKS = ("‘’“”„«»–—‐‑", "''" + '"""""' + "----")
CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003134f"
_MARKS, _PLAIN = (marks.replace("'", "''") for marks in NAME_MARKS)
_EDGES = f"'^[^{NAME_LETTERS}]+|[^{NAME_LETTERS}]+$', '', 'g'"
KNOWN_AS = (
    "regexp_replace(regexp_replace(regexp_replace(regexp_replace(regexp_replace(regexp_replace("
    "translate(lower(normalize(left(coalesce(nullif(btrim(title), ''), "
    "regexp_replace(name, '^.*/|[.][^./]*$', '', 'g')), 200), NFKC)), "
    f"'{_MARKS}', '{_PLAIN}'), "
    r"'^(.+?)\s*[([][^][()]*[])]\s*$', '\1'), '[-_\s]+', ' ', 'g'), "
    f"'(?<=[{CJK}]) (?=[{CJK}])', '', 'g'), "
    f"{_EDGES}), "
    r"'^(the|an?|\d{1,2}[.)]?) +(?=.)', ''), "
    f"{_EDGES})"
)
HEAD, CJK_HEAD = 12, 4
NAME_HEAD = f"""\
"left"(known_as,
CASE
    WHEN ascii(known_as) >= 12352 THEN {CJK_HEAD}
    ELSE {HEAD}
END)"""


def upgrade() -> None:
    op.add_column(
        "documents",
        sa.Column("known_as", sa.Text(), sa.Computed(KNOWN_AS, persisted=True), nullable=False),
    )
    op.create_index(
        "ix_documents_kb_id_known_as",
        "documents",
        ["kb_id", sa.text(NAME_HEAD)],
        postgresql_where=sa.text("live_revision IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_documents_kb_id_known_as", table_name="documents")
    op.drop_column("documents", "known_as")

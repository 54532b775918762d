"""The change feed: of each thing its latest change, ready to be sent, in the order of the commits.

Revision: 0004
Before: 0003
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

ROLE = "heallog_app"


def _id(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(collation="C"), nullable=False)


def upgrade() -> None:
    op.create_table(
        "sync_heads",
        _id("practice_id"),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        _id("epoch"),
        sa.ForeignKeyConstraint(["practice_id"], ["practices.id"], name="sync_heads_practices_fkey"),
        sa.PrimaryKeyConstraint("practice_id", name="sync_heads_pkey"),
    )
    op.create_table(
        "change_feed",
        _id("practice_id"),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        _id("id"),
        _id("patient_id"),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("wire", sa.LargeBinary(), nullable=False),
        sa.Column("row", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("practice_id", "seq", "rank", "id", name="change_feed_pkey"),
        sa.UniqueConstraint("practice_id", "rank", "id", name="change_feed_practice_id_rank_id_key"),
    )
    op.create_table(
        "pushes",
        _id("practice_id"),
        _id("device_id"),
        _id("push_id"),
        _id("account_id"),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("practice_id", "device_id", "push_id", name="pushes_pkey"),
    )
    op.create_table(
        "contributions",
        _id("practice_id"),
        _id("id"),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("practice_id", "id", name="contributions_pkey"),
    )
    op.create_table(
        "pulls",
        _id("practice_id"),
        _id("device_id"),
        sa.Column("hi", sa.BigInteger(), nullable=False),
        sa.Column("lo", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("practice_id", "device_id", "hi", name="pulls_pkey"),
    )
    op.create_table(
        "quarantine",
        _id("practice_id"),
        _id("id"),
        _id("push_id"),
        _id("account_id"),
        _id("device_id"),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("operation", postgresql.JSON(), nullable=False),
        sa.Column("errors", postgresql.JSON(), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("practice_id", "id", name="quarantine_pkey"),
    )
    # What was there before is told by `refeed`, which knows how things are written on the wire.
    op.execute("INSERT INTO sync_heads SELECT id, 0, gen_random_uuid()::text FROM practices")
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON change_feed, pushes, contributions, pulls TO {ROLE}")
    op.execute(f"GRANT SELECT, INSERT, UPDATE ON sync_heads, quarantine TO {ROLE}")


def downgrade() -> None:
    op.drop_table("quarantine")
    op.drop_table("pulls")
    op.drop_table("contributions")
    op.drop_table("pushes")
    op.drop_table("change_feed")
    op.drop_table("sync_heads")

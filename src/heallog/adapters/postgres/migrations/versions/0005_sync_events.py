"""How sync fares: an event of every pull and push, where each device is, what is counted over the whole house.

Revision: 0005
Before: 0004
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

ROLE = "heallog_app"


def _id(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(collation="C"), nullable=False)


def upgrade() -> None:
    op.create_table(
        "sync_events",
        _id("practice_id"),
        _id("id"),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        _id("account_id"),
        _id("device_id"),
        sa.Column("door", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("duration_ms", sa.Double(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        *(
            sa.Column(name, sa.Integer(), nullable=False)
            for name in ("records", "conflicts", "merges", "quarantined", "retries")
        ),
        sa.Column("reached", sa.BigInteger(), nullable=True),
        sa.Column("skew_ms", sa.BigInteger(), nullable=True),
        sa.Column("disputes", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("practice_id", "at", "id", name="sync_events_pkey"),
    )
    # What is swept is the oldest, and stands together: a few pages of an index find it.
    op.create_index("sync_events_at_idx", "sync_events", ["at"], postgresql_using="brin")
    op.create_table(
        "sync_devices",
        _id("practice_id"),
        _id("device_id"),
        _id("account_id"),
        sa.Column("position", sa.BigInteger(), nullable=True),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reached", sa.BigInteger(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("practice_id", "device_id", name="sync_devices_pkey"),
    )
    op.create_table(
        "sync_meters",
        _id("name"),
        _id("labels"),
        sa.Column("value", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", "labels", name="sync_meters_pkey"),
    )
    op.execute(f"GRANT SELECT, INSERT, DELETE ON sync_events TO {ROLE}")
    op.execute(f"GRANT SELECT, INSERT, UPDATE ON sync_devices, sync_meters TO {ROLE}")


def downgrade() -> None:
    op.drop_table("sync_meters")
    op.drop_table("sync_devices")
    op.drop_table("sync_events")

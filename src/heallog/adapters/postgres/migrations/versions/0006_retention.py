"""What of sync is dropped when nobody can ask for it any more: tombstones that can be found, and a floor below them.

Revision: 0006
Before: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("sync_heads", sa.Column("floor", sa.BigInteger(), server_default=sa.text("0"), nullable=False))
    op.add_column("change_feed", sa.Column("deleted", sa.Boolean(), server_default=sa.false(), nullable=False))
    for rank, things in enumerate(("patients", "records")):
        op.execute(
            f"UPDATE change_feed SET deleted = true FROM {things} AS things WHERE rank = {rank} AND content IS NULL"
            " AND (change_feed.practice_id, change_feed.id) = (things.practice_id, things.id)"
        )
    op.create_index(
        "change_feed_tombstones_idx", "change_feed", ["practice_id", "seq"], postgresql_where=sa.text("deleted")
    )
    op.create_index("contributions_practice_id_seq_idx", "contributions", ["practice_id", "seq"])
    op.create_index("pushes_practice_id_at_idx", "pushes", ["practice_id", "at"])


def downgrade() -> None:
    op.drop_index("pushes_practice_id_at_idx", table_name="pushes")
    op.drop_index("contributions_practice_id_seq_idx", table_name="contributions")
    op.drop_index("change_feed_tombstones_idx", table_name="change_feed")
    op.drop_column("change_feed", "deleted")
    op.drop_column("sync_heads", "floor")

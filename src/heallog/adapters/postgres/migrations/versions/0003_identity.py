"""Sessions that can be refreshed and ended, tries, one-time codes, second factors, invitations, plans, broken glass.

Revision: 0003
Before: 0002
"""

from datetime import datetime

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

ROLE = "heallog_app"

CHANGED = ("emergencies", "invitations", "one_time_codes", "revoked_tokens", "tries")
DELETED = ("one_time_codes", "revoked_tokens", "tries")


def _id(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(collation="C"), nullable=nullable)


def _at(name: str, *, nullable: bool = False) -> sa.Column[datetime]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def upgrade() -> None:
    """Whoever is logged in must log in again: a session from before has nothing to be refreshed with."""
    _accounts()
    _sessions()
    op.create_table(
        "tries",
        _id("key"),
        sa.Column("count", sa.Integer(), nullable=False),
        _at("last_at"),
        _at("locked_until", nullable=True),
        sa.PrimaryKeyConstraint("key", name="tries_pkey"),
    )
    op.create_table(
        "one_time_codes",
        _id("id"),
        _id("email_key"),
        sa.Column("purpose", sa.Text(), nullable=False),
        _id("account_id", nullable=True),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        _at("created_at"),
        _at("expires_at"),
        sa.Column("looks", sa.Integer(), nullable=False),
        _at("used_at", nullable=True),
        sa.PrimaryKeyConstraint("email_key", "id", name="one_time_codes_pkey"),
    )
    _practices()
    op.execute(f"GRANT SELECT, INSERT, UPDATE ON {', '.join(CHANGED)} TO {ROLE}")
    op.execute(f"GRANT DELETE ON {', '.join(DELETED)} TO {ROLE}")


def _accounts() -> None:
    op.add_column("accounts", _at("verified_at", nullable=True))
    op.add_column("accounts", sa.Column("totp", sa.LargeBinary(), nullable=True))
    op.add_column("accounts", _at("totp_confirmed_at", nullable=True))
    op.add_column("accounts", sa.Column("totp_step", sa.BigInteger(), server_default=sa.text("0"), nullable=False))
    op.add_column(
        "accounts",
        sa.Column("recovery", postgresql.ARRAY(sa.LargeBinary()), server_default=sa.text("'{}'"), nullable=False),
    )


def _sessions() -> None:
    # First of all: a session that was made between the deletion and the columns would have nothing to put in them.
    op.execute("LOCK TABLE sessions IN ACCESS EXCLUSIVE MODE")
    op.execute("DELETE FROM sessions")
    op.add_column("sessions", _at("refreshed_at"))
    op.add_column("sessions", sa.Column("generation", sa.Integer(), nullable=False))
    op.add_column("sessions", sa.Column("token_hash", sa.LargeBinary(), nullable=False))
    op.add_column("sessions", sa.Column("family", sa.LargeBinary(), nullable=False))
    op.add_column("sessions", _at("ended_at", nullable=True))
    op.add_column("sessions", sa.Column("ending", sa.Text(), nullable=True))
    op.create_index("sessions_account_id_idx", "sessions", ["account_id"])
    op.create_table(
        "revoked_tokens",
        _id("practice_id"),
        _id("session_id"),
        _at("expires_at"),
        sa.PrimaryKeyConstraint("practice_id", "session_id", name="revoked_tokens_pkey"),
    )


def _practices() -> None:
    op.add_column("practices", sa.Column("plan", sa.Text(), server_default=sa.text("'free'"), nullable=False))
    op.add_column("memberships", _at("ended_at", nullable=True))
    op.create_table(
        "invitations",
        _id("practice_id"),
        _id("id"),
        sa.Column("email", sa.Text(), nullable=False),
        _id("email_key"),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        _id("invited_by"),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        _at("created_at"),
        _at("expires_at"),
        _at("closed_at", nullable=True),
        sa.ForeignKeyConstraint(["practice_id"], ["practices.id"], name="invitations_practices_fkey"),
        sa.PrimaryKeyConstraint("practice_id", "id", name="invitations_pkey"),
    )
    op.create_index("invitations_email_key_idx", "invitations", ["email_key"])
    op.create_index(
        "invitations_one_open_idx",
        "invitations",
        ["practice_id", "email_key"],
        unique=True,
        postgresql_where=sa.text("closed_at IS NULL"),
    )
    op.create_table(
        "emergencies",
        _id("practice_id"),
        _id("id"),
        _id("account_id"),
        sa.Column("reason", sa.Text(), nullable=False),
        _at("opened_at"),
        _at("until"),
        _at("closed_at", nullable=True),
        sa.ForeignKeyConstraint(
            ["practice_id", "account_id"],
            ["memberships.practice_id", "memberships.account_id"],
            name="emergencies_memberships_fkey",
        ),
        sa.PrimaryKeyConstraint("practice_id", "id", name="emergencies_pkey"),
    )
    op.create_index("emergencies_practice_id_account_id_idx", "emergencies", ["practice_id", "account_id"])


def downgrade() -> None:
    """Loses invitations, second factors and who is locked; members that were removed are members again, so none are."""
    op.execute("DELETE FROM sessions")
    op.drop_table("emergencies")
    op.drop_table("invitations")
    op.drop_table("one_time_codes")
    op.drop_table("tries")
    op.drop_table("revoked_tokens")
    op.execute("DELETE FROM memberships WHERE ended_at IS NOT NULL")
    op.drop_column("memberships", "ended_at")
    op.drop_column("practices", "plan")
    op.drop_index("sessions_account_id_idx", table_name="sessions")
    for column in ("ending", "ended_at", "family", "token_hash", "generation", "refreshed_at"):
        op.drop_column("sessions", column)
    for column in ("recovery", "totp_step", "totp_confirmed_at", "totp", "verified_at"):
        op.drop_column("accounts", column)

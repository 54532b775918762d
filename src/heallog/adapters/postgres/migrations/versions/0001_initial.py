"""Practices, accounts, sessions, patients, records, versions, audit entries.

Revision: 0001
Before:
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "accounts",
        sa.Column("id", sa.Text(collation="C"), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("email_key", sa.Text(collation="C"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="accounts_pkey"),
        sa.UniqueConstraint("email_key", name="accounts_email_key_key"),
    )
    op.create_table(
        "practices",
        sa.Column("id", sa.Text(collation="C"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="practices_pkey"),
    )
    op.create_table(
        "audit_entries",
        sa.Column("practice_id", sa.Text(collation="C"), nullable=False),
        sa.Column("id", sa.Text(collation="C"), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("account_id", sa.Text(collation="C"), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("session_id", sa.Text(collation="C"), nullable=False),
        sa.Column("device_id", sa.Text(collation="C"), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("collection", sa.Text(collation="C"), nullable=True),
        sa.Column("thing_id", sa.Text(collation="C"), nullable=True),
        sa.Column("patient_id", sa.Text(collation="C"), nullable=True),
        sa.Column("version", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("fields", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("practice_id", "id", name="audit_entries_pkey"),
    )
    op.create_index(
        "audit_entries_practice_id_patient_id_at_idx",
        "audit_entries",
        ["practice_id", "patient_id", "at"],
        unique=False,
    )
    op.create_table(
        "memberships",
        sa.Column("practice_id", sa.Text(collation="C"), nullable=False),
        sa.Column("account_id", sa.Text(collation="C"), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="memberships_accounts_fkey"),
        sa.ForeignKeyConstraint(["practice_id"], ["practices.id"], name="memberships_practices_fkey"),
        sa.PrimaryKeyConstraint("practice_id", "account_id", name="memberships_pkey"),
    )
    op.create_index("memberships_account_id_idx", "memberships", ["account_id"], unique=False)
    op.create_table(
        "patients",
        sa.Column("practice_id", sa.Text(collation="C"), nullable=False),
        sa.Column("id", sa.Text(collation="C"), nullable=False),
        sa.Column("patient_id", sa.Text(collation="C"), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("content", postgresql.JSON(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_by", sa.Text(collation="C"), nullable=False),
        sa.Column("source_digest", sa.LargeBinary(), nullable=True),
        sa.Column("source_version", sa.Integer(), nullable=True),
        sa.Column("sort_name", sa.Text(collation="C"), nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("trigrams", postgresql.ARRAY(sa.BigInteger()), nullable=False),
        sa.Column("tags", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.ForeignKeyConstraint(["practice_id"], ["practices.id"], name="patients_practices_fkey"),
        sa.PrimaryKeyConstraint("practice_id", "id", name="patients_pkey"),
    )
    op.create_index(
        "patients_practice_id_sort_name_id_idx",
        "patients",
        ["practice_id", "sort_name", "id"],
        unique=False,
        postgresql_where=sa.text("content IS NOT NULL"),
    )
    op.create_index("patients_trigrams_idx", "patients", ["trigrams"], unique=False, postgresql_using="gin")
    op.create_table(
        "versions",
        sa.Column("practice_id", sa.Text(collation="C"), nullable=False),
        sa.Column("collection", sa.Text(collation="C"), nullable=False),
        sa.Column("thing_id", sa.Text(collation="C"), nullable=False),
        sa.Column("patient_id", sa.Text(collation="C"), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("parent", sa.Integer(), nullable=True),
        sa.Column("inputs", postgresql.ARRAY(sa.Integer()), nullable=False),
        sa.Column("change", sa.Text(), nullable=False),
        sa.Column("content", postgresql.JSON(), nullable=True),
        sa.Column("author_id", sa.Text(collation="C"), nullable=False),
        sa.Column("device_id", sa.Text(collation="C"), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("client_time", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("contribution_id", sa.Text(collation="C"), nullable=False),
        sa.Column("source", postgresql.JSON(), nullable=True),
        sa.Column("source_digest", sa.LargeBinary(), nullable=True),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("practice_id", "collection", "thing_id", "number", name="versions_pkey"),
    )
    op.create_table(
        "records",
        sa.Column("practice_id", sa.Text(collation="C"), nullable=False),
        sa.Column("id", sa.Text(collation="C"), nullable=False),
        sa.Column("patient_id", sa.Text(collation="C"), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("content", postgresql.JSON(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_by", sa.Text(collation="C"), nullable=False),
        sa.Column("source_digest", sa.LargeBinary(), nullable=True),
        sa.Column("source_version", sa.Integer(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=True),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("code", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["practice_id", "patient_id"], ["patients.practice_id", "patients.id"], name="records_patients_fkey"
        ),
        sa.PrimaryKeyConstraint("practice_id", "id", name="records_pkey"),
    )
    op.create_index(
        "records_practice_id_patient_id_occurred_at_id_idx",
        "records",
        ["practice_id", "patient_id", sa.literal_column("occurred_at DESC"), sa.literal_column("id DESC")],
        unique=False,
        postgresql_where=sa.text("content IS NOT NULL"),
    )
    op.create_table(
        "sessions",
        sa.Column("practice_id", sa.Text(collation="C"), nullable=False),
        sa.Column("id", sa.Text(collation="C"), nullable=False),
        sa.Column("account_id", sa.Text(collation="C"), nullable=False),
        sa.Column("device_id", sa.Text(collation="C"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["practice_id", "account_id"],
            ["memberships.practice_id", "memberships.account_id"],
            name="sessions_memberships_fkey",
        ),
        sa.PrimaryKeyConstraint("practice_id", "id", name="sessions_pkey"),
    )
    op.execute(
        """
        CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
        END $$
        """
    )
    for table in ("versions", "audit_entries"):
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )


def downgrade() -> None:
    op.drop_table("sessions")
    op.drop_table("records")
    op.drop_table("versions")
    op.drop_table("patients")
    op.drop_table("memberships")
    op.drop_table("audit_entries")
    op.drop_table("practices")
    op.drop_table("accounts")
    op.execute("DROP FUNCTION refuse_change()")

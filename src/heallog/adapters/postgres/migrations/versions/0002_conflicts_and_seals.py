"""Branch versions, conflicts, policies; seals over the audit trail, and a role that cannot change what is written.

Revision: 0002
Before: 0001
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ROLE = "heallog_app"

CHANGED = ("accounts", "conflicts", "memberships", "patients", "practices", "records", "sessions")
APPENDED = ("audit_entries", "audit_seals", "policies", "versions")


def upgrade() -> None:
    op.add_column("versions", sa.Column("branch", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    for heads in ("patients", "records"):
        op.add_column(heads, sa.Column("last", sa.Integer(), server_default=sa.text("0"), nullable=False))
        op.execute(f"UPDATE {heads} SET last = version")
        op.add_column(heads, sa.Column("conflict_id", sa.Text(collation="C"), nullable=True))
    _conflicts()
    _policies()
    _trail()
    for table in ("audit_seals", "policies"):
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
    _role()


def _conflicts() -> None:
    op.create_table(
        "conflicts",
        sa.Column("practice_id", sa.Text(collation="C"), nullable=False),
        sa.Column("id", sa.Text(collation="C"), nullable=False),
        sa.Column("collection", sa.Text(collation="C"), nullable=False),
        sa.Column("thing_id", sa.Text(collation="C"), nullable=False),
        sa.Column("patient_id", sa.Text(collation="C"), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("base_version", sa.Integer(), nullable=False),
        sa.Column("head_version", sa.Integer(), nullable=False),
        sa.Column("branches", postgresql.ARRAY(sa.Integer()), nullable=False),
        sa.Column("disputes", postgresql.JSON(), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("resolution", postgresql.JSON(), nullable=True),
        sa.ForeignKeyConstraint(["practice_id"], ["practices.id"], name="conflicts_practices_fkey"),
        sa.PrimaryKeyConstraint("practice_id", "id", name="conflicts_pkey"),
    )
    op.create_index("conflicts_practice_id_state_id_idx", "conflicts", ["practice_id", "state", "id"])
    op.create_index("conflicts_practice_id_patient_id_id_idx", "conflicts", ["practice_id", "patient_id", "id"])
    op.create_index(
        "conflicts_one_open_idx",
        "conflicts",
        ["practice_id", "collection", "thing_id"],
        unique=True,
        postgresql_where=sa.text("state = 'open'"),
    )


def _policies() -> None:
    op.create_table(
        "policies",
        sa.Column("practice_id", sa.Text(collation="C"), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("account_id", sa.Text(collation="C"), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("fields", postgresql.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["practice_id"], ["practices.id"], name="policies_practices_fkey"),
        sa.PrimaryKeyConstraint("practice_id", "number", name="policies_pkey"),
    )


def _trail() -> None:
    op.add_column("audit_entries", sa.Column("hash", sa.LargeBinary(), nullable=True))
    op.add_column("audit_entries", sa.Column("subjects", postgresql.ARRAY(sa.Text(collation="C")), nullable=True))
    # Entries from before have no place: they are sealed first, as another server's.
    for place in ("cluster", "transaction"):
        op.add_column("audit_entries", sa.Column(place, sa.BigInteger(), server_default=sa.text("0"), nullable=False))
    for columns in (
        ("practice_id", "at", "id"),
        ("practice_id", "account_id", "at", "id"),
        ("cluster", "transaction"),
    ):
        op.create_index(f"audit_entries_{'_'.join(columns)}_idx", "audit_entries", list(columns))
    op.create_index(
        "audit_entries_subjects_idx",
        "audit_entries",
        ["subjects"],
        postgresql_using="gin",
        postgresql_where=sa.text("subjects IS NOT NULL"),
    )
    op.create_table(
        "audit_seals",
        sa.Column("practice_id", sa.Text(collation="C"), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("cluster", sa.BigInteger(), nullable=False),
        sa.Column("low", sa.BigInteger(), nullable=False),
        sa.Column("high", sa.BigInteger(), nullable=False),
        sa.Column("entries", postgresql.ARRAY(sa.Text(collation="C")), nullable=False),
        sa.Column("digests", sa.LargeBinary(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("practice_id", "number", name="audit_seals_pkey"),
    )
    op.create_index("audit_seals_cluster_high_idx", "audit_seals", ["cluster", "high"])


def _role() -> None:
    """Roles belong to the server, not to a database: another database's HealLog may have made it already.

    Whoever owns the database need not be allowed to make roles; then an administrator does it, and lets the owner in.
    """
    op.execute(
        f"""
        DO $$
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{ROLE}') THEN
                BEGIN
                    CREATE ROLE {ROLE} NOLOGIN;
                EXCEPTION
                    WHEN duplicate_object OR unique_violation THEN NULL;
                END;
            END IF;
            IF NOT pg_has_role('{ROLE}', 'MEMBER') THEN
                GRANT {ROLE} TO CURRENT_USER;
            END IF;
        EXCEPTION
            WHEN insufficient_privilege THEN
                RAISE insufficient_privilege USING MESSAGE = format(
                    'an administrator must run: CREATE ROLE {ROLE} NOLOGIN; GRANT {ROLE} TO %I', current_user);
        END $$
        """
    )
    op.execute(f"GRANT USAGE ON SCHEMA public TO {ROLE}")
    op.execute(f"GRANT SELECT, INSERT, UPDATE ON {', '.join(CHANGED)} TO {ROLE}")
    op.execute(f"GRANT DELETE ON sessions TO {ROLE}")
    op.execute(f"GRANT SELECT, INSERT ON {', '.join(APPENDED)} TO {ROLE}")


def downgrade() -> None:
    """Loses branches, conflicts and seals. The role stays: other databases may need it."""
    op.execute(f"REVOKE ALL ON {', '.join((*CHANGED, *APPENDED))} FROM {ROLE}")
    op.execute(f"REVOKE USAGE ON SCHEMA public FROM {ROLE}")
    op.drop_table("audit_seals")
    op.drop_table("policies")
    op.drop_table("conflicts")
    for columns in (
        ("practice_id", "at", "id"),
        ("practice_id", "account_id", "at", "id"),
        ("cluster", "transaction"),
    ):
        op.drop_index(f"audit_entries_{'_'.join(columns)}_idx", table_name="audit_entries")
    op.drop_index("audit_entries_subjects_idx", table_name="audit_entries")
    for column in ("transaction", "cluster", "subjects", "hash"):
        op.drop_column("audit_entries", column)
    for heads in ("patients", "records"):
        op.drop_column(heads, "conflict_id")
        op.drop_column(heads, "last")
    op.drop_column("versions", "branch")

"""Accounts in memory."""

from collections.abc import Sequence
from dataclasses import replace

from heallog.adapters.memory.store import ConstraintViolated, Overlay
from heallog.domain.accounts import Account
from heallog.domain.errors import EmailTaken


class AccountRepository:
    def __init__(self, tables: Overlay) -> None:
        self._tables = tables

    async def add(self, account: Account) -> None:
        tables = self._tables
        with tables.writing():
            if account.id in tables.accounts:
                raise ConstraintViolated("accounts: this id is taken")
            if account.email_key in tables.emails:
                raise EmailTaken("an account with this e-mail address exists")
            tables.accounts[account.id] = replace(account)
            tables.emails[account.email_key] = account.id

    async def by_email(self, email_key: str) -> Account | None:
        account_id = self._tables.emails.get(email_key)
        return None if account_id is None else await self.get(account_id)

    async def get(self, account_id: str) -> Account | None:
        account = self._tables.accounts.get(account_id)
        return None if account is None else replace(account)

    async def lock(self, account_id: str) -> Account | None:
        return await self.get(account_id)

    async def sealed(self) -> Sequence[str]:
        return sorted(account.id for account in self._tables.accounts.values() if account.totp is not None)

    async def put(self, account: Account) -> None:
        with self._tables.writing():
            known = self._tables.accounts.get(account.id)
            if known is not None:
                self._tables.accounts[account.id] = replace(
                    account, email=known.email, email_key=known.email_key, created_at=known.created_at
                )

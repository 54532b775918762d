"""Where accounts are kept."""

from typing import Protocol

from heallog.domain.accounts import Account


class AccountRepository(Protocol):
    async def add(self, account: Account) -> None:
        """Raises `EmailTaken`."""

    async def by_email(self, email_key: str) -> Account | None: ...

    async def get(self, account_id: str) -> Account | None: ...

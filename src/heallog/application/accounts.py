"""Use cases of accounts: register, and who am I."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from heallog.application.ports.sessions import Passwords
from heallog.application.ports.unit_of_work import UnitOfWorkFactory
from heallog.application.ports.world import Clock, Ids
from heallog.domain.access import Actor, Role
from heallog.domain.accounts import Account, email_key, registration
from heallog.domain.audit import AuditEntry
from heallog.domain.errors import NotAuthenticated
from heallog.domain.events import AccountRegistered
from heallog.domain.passwords import Guesses
from heallog.domain.practices import Membership, Practice


@dataclass(frozen=True, slots=True)
class Registered:
    account: Account
    practice: Practice
    role: Role


class Accounts:
    """`deliverable` says whether an e-mail address is one, or raises ValueError saying why not."""

    def __init__(
        self,
        uow: UnitOfWorkFactory,
        passwords: Passwords,
        guesses: Guesses,
        deliverable: Callable[[str], None],
        clock: Clock,
        ids: Ids,
    ) -> None:
        self._uow = uow
        self._passwords = passwords
        self._guesses = guesses
        self._deliverable = deliverable
        self._clock = clock
        self._ids = ids

    async def register(self, body: dict[str, object], request_id: str = "") -> Registered:
        """A new account and the practice that it owns. Raises `InvalidFields`, `EmailTaken`."""
        account = await self._account(body)
        practice = Practice(self._ids(), str(body["practice_name"]), account.created_at)
        async with self._uow() as uow:
            await uow.accounts.add(account)
            await uow.practices.add(practice)
            await uow.practices.join(Membership(practice.id, account.id, Role.OWNER, account.created_at))
            await uow.audit([self._entry(practice.id, account, Role.OWNER, "accounts.register", request_id)])
            uow.tell(AccountRegistered(practice.id, account.id))
            await uow.commit()
        return Registered(account, practice, Role.OWNER)

    async def join(self, practice_id: str, role: Role, email: str, password: str, name: str) -> Account:
        """A new account as a member of an existing practice (by the operator, on the command line)."""
        async with self._uow() as uow:
            practice = await uow.practices.get(practice_id)
        known = practice.name if practice else "-"
        account = await self._account({"email": email, "password": password, "name": name, "practice_name": known})
        async with self._uow() as uow:
            await uow.accounts.add(account)
            await uow.practices.join(Membership(practice_id, account.id, role, account.created_at))
            await uow.audit([self._entry(practice_id, account, role, "accounts.join", "")])
            await uow.commit()
        return account

    async def me(self, actor: Actor) -> Registered:
        """The account and practice that a token speaks for."""
        async with self._uow() as uow:
            account = await uow.accounts.get(actor.account_id)
            practice = await uow.practices.get(actor.practice_id)
        if account is None or practice is None:
            raise NotAuthenticated("this account is not here any more")
        return Registered(account, practice, actor.role)

    async def _account(self, body: dict[str, object]) -> Account:
        undeliverable = self._undeliverable(body.get("email"))
        fields = await asyncio.to_thread(registration, body, self._guesses, undeliverable)
        password_hash = await self._passwords.hash(fields["password"])
        email = fields["email"].strip()
        return Account(self._ids(), email, email_key(email), fields["name"], password_hash, self._clock())

    def _undeliverable(self, email: object) -> str | None:
        try:
            self._deliverable(str(email))
        except ValueError as error:
            return str(error)
        return None

    def _entry(self, practice_id: str, account: Account, role: Role, action: str, request_id: str) -> AuditEntry:
        return AuditEntry(
            practice_id, self._ids(), account.created_at, account.id, role, "", "", request_id, action, "done"
        )

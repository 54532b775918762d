"""Use cases of accounts: register, join, who am I, and another password."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from heallog.application import letters
from heallog.application.codes import Codes
from heallog.application.credentials import Claim, Credentials
from heallog.application.ports.accounts import Passwords
from heallog.application.ports.mail import Mail
from heallog.application.ports.unit_of_work import UnitOfWork, UnitOfWorkFactory
from heallog.application.ports.world import Clock, Ids
from heallog.application.sessions import Sessions
from heallog.domain.access import Actor, Caller, Plan, Role, entitle
from heallog.domain.accounts import Account, check_password, email_key, registration
from heallog.domain.audit import AuditEntry, noted
from heallog.domain.errors import CodeInvalid, FieldError, InvalidFields, NotAuthenticated
from heallog.domain.events import AccountRegistered
from heallog.domain.passwords import Guesses
from heallog.domain.practices import Invitation, Membership, Practice, invitation_digest
from heallog.domain.sessions import Ending, Session, Tokens

_NOWHERE = Caller()


@dataclass(frozen=True, slots=True)
class Registered:
    """An account in a practice; `tokens` where it was logged in by this."""

    account: Account
    practice: Practice
    role: Role
    tokens: Tokens | None = None
    practices: Sequence[tuple[Practice, Role]] = ()
    """All that the account belongs to, where it was asked."""


class Accounts:
    """`deliverable` says whether an e-mail address is one, or raises ValueError saying why not."""

    def __init__(
        self,
        uow: UnitOfWorkFactory,
        passwords: Passwords,
        guesses: Guesses,
        deliverable: Callable[[str], None],
        credentials: Credentials,
        codes: Codes,
        sessions: Sessions,
        mail: Mail,
        clock: Clock,
        ids: Ids,
    ) -> None:
        self._uow = uow
        self._passwords = passwords
        self._guesses = guesses
        self._deliverable = deliverable
        self._credentials = credentials
        self._codes = codes
        self._sessions = sessions
        self._mail = mail
        self._clock = clock
        self._ids = ids

    # -- becoming one -------------------------------------------------------------------------------------------

    async def register(self, body: dict[str, object], caller: Caller = _NOWHERE) -> Registered:
        """A new account and the practice that it owns, logged in at once; a code to verify its address is mailed.

        Raises `InvalidFields`, `EmailTaken`.
        """
        account = await self._account(body)
        practice = Practice(self._ids(), str(body["practice_name"]), account.created_at)
        async with self._uow() as uow:
            member = await self._founded(uow, account, practice, caller)
            code = await self._codes.send(uow, account, account.created_at)
            tokens = await self._sessions.open(uow, member, self._ids(), caller, account.created_at, "sessions.login")
            await uow.commit()
        self._codes.post(account, code)
        return Registered(account, practice, Role.OWNER, tokens)

    async def found(self, body: dict[str, object], plan: Plan = Plan.FREE) -> Registered:
        """The same by the operator, on the command line: who vouches for the address, and no one is logged in."""
        made = await self._account(body)
        account = replace(made, verified_at=made.created_at)
        practice = Practice(self._ids(), str(body["practice_name"]), account.created_at, plan)
        async with self._uow() as uow:
            await self._founded(uow, account, practice, _NOWHERE)
            await uow.commit()
        return Registered(account, practice, Role.OWNER)

    async def join(self, practice_id: str, role: Role, email: str, password: str, name: str) -> Account:
        """A new account as a member of an existing practice (by the operator, on the command line)."""
        async with self._uow() as uow:
            practice = await uow.practices.get(practice_id)
        known = practice.name if practice else "-"
        made = await self._account({"email": email, "password": password, "name": name, "practice_name": known})
        account = replace(made, verified_at=made.created_at)
        async with self._uow() as uow:
            await uow.accounts.add(account)
            member = Membership(practice_id, account.id, role, account.created_at)
            await uow.practices.join(member)
            await uow.audit([self._entry(member, "accounts.join", _NOWHERE)])
            await uow.commit()
        return account

    async def accept(
        self,
        email: str,
        code: str,
        password: str,
        otp: str | None,
        name: str | None,
        device_id: str | None,
        caller: Caller,
    ) -> Registered:
        """Join the practice of an invitation, and be logged in to it. Raises `ProRequired` where its plan is full.

        Who has an account logs in to it; for who has none it becomes the password of a new one. Raises
        `CodeInvalid`; `InvalidFields` where a new account lacks a name or a good password; and what
        `Credentials.prove` does.
        """
        key, digest = email_key(email), invitation_digest(code)
        async with self._uow() as uow:
            invitation = await uow.practices.invited(key, digest)
            practice = await uow.practices.get(invitation.practice_id) if invitation else None
            known = await uow.accounts.by_email(key)
        if invitation is None or practice is None or not invitation.open(self._clock()):
            raise CodeInvalid("the invitation is wrong, was used, or is too old; ask for another one", field="code")
        device_id = device_id or self._ids()

        async def work(uow: UnitOfWork, account: Account, now: datetime) -> Registered:
            return await self._joined(uow, account, invitation, device_id, caller, now)

        if known is not None:
            claim = Claim(email, password, otp, device_id, "accounts.accept")
            return await self._credentials.prove(claim, caller, work)
        if name is None:
            raise InvalidFields([FieldError("name", "required", "is required: this address has no account yet")])
        account = await self._account(
            {"email": email, "password": password, "name": name, "practice_name": practice.name}
        )
        async with self._uow() as uow:
            await uow.accounts.add(replace(account, verified_at=account.created_at))
            registered = await work(uow, account, account.created_at)
            await uow.commit()
        return registered

    async def _joined(
        self, uow: UnitOfWork, account: Account, asked: Invitation, device_id: str, caller: Caller, now: datetime
    ) -> Registered:
        await uow.exclusive(asked.practice_id, "members")
        invitation = await uow.practices.invited(asked.email_key, asked.digest)
        practice = await uow.practices.get(asked.practice_id)
        if invitation is None or practice is None or not invitation.open(now):
            raise CodeInvalid("the invitation was used or withdrawn meanwhile", field="code")
        entitle(practice.plan, members=len(await uow.practices.members(practice.id)) + 1)
        member = Membership(practice.id, account.id, invitation.role, now)
        await uow.practices.join(member)
        await uow.practices.put_invitation(replace(invitation, closed_at=now))
        if account.verified_at is None:
            account = replace(account, verified_at=now)
            await uow.accounts.put(account)
        await uow.audit([self._entry(member, "accounts.accept", caller)])
        tokens = await self._sessions.open(uow, member, device_id, caller, now, "sessions.login")
        return Registered(account, practice, member.role, tokens)

    async def _founded(self, uow: UnitOfWork, account: Account, practice: Practice, caller: Caller) -> Membership:
        member = Membership(practice.id, account.id, Role.OWNER, account.created_at)
        await uow.accounts.add(account)
        await uow.practices.add(practice)
        await uow.practices.join(member)
        await uow.audit([self._entry(member, "accounts.register", caller)])
        uow.tell(AccountRegistered(practice.id, account.id))
        return member

    # -- being one ----------------------------------------------------------------------------------------------

    async def me(self, actor: Actor) -> Registered:
        """The account and practice that a token speaks for."""
        async with self._uow() as uow:
            account = await uow.accounts.get(actor.account_id)
            belonging = await uow.practices.belonging(actor.account_id)
        found = next((one for one in belonging if one[0].id == actor.practice_id), None)
        if account is None or found is None:
            raise NotAuthenticated("this account is not here any more")
        return Registered(account, *found, practices=belonging)

    async def rename(self, actor: Actor, name: str) -> Registered:
        """How a person is called from now on; what they did before shows the new name too, for it is by the account."""
        async with self._uow() as uow:
            account = await uow.accounts.lock(actor.account_id)
            if account is None:
                raise NotAuthenticated("this account is not here any more")
            await uow.accounts.put(replace(account, name=name))
            await uow.audit([noted(self._ids(), self._clock(), actor, "accounts.rename")])
            await uow.commit()
        return await self.me(actor)

    async def change_password(self, actor: Actor, password: str, otp: str | None, fresh: str, caller: Caller) -> Tokens:
        """Another password, for who shows the old one. Every session ends, and a new one begins on this device.

        Raises `InvalidFields` for a password that is no good one, and what `Credentials.prove` does.
        """
        known = await self.me(actor)
        about = [known.account.email, known.account.name, known.practice.name]
        await asyncio.to_thread(check_password, fresh, about, self._guesses, "new_password")
        password_hash = await self._passwords.hash(fresh)
        email = known.account.email

        async def work(uow: UnitOfWork, account: Account, now: datetime) -> tuple[list[Session], Tokens]:
            await uow.accounts.put(replace(account, password_hash=password_hash))
            ended = await self._sessions.end(uow, account.id, Ending.PASSWORD)
            member = Membership(actor.practice_id, account.id, known.role, now)
            await uow.audit([noted(self._ids(), now, actor, "accounts.change-password")])
            tokens = await self._sessions.open(uow, member, actor.device_id, caller, now, "sessions.login")
            return list(ended), tokens

        ended, tokens = await self._credentials.confirm(actor, password, caller, "accounts.change-password", work, otp)
        await self._sessions.blacklist(ended)
        self._mail.post(letters.password_changed(email))
        return tokens

    # -- both ---------------------------------------------------------------------------------------------------

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

    def _entry(self, member: Membership, action: str, caller: Caller) -> AuditEntry:
        """Of someone who has no session yet."""
        return AuditEntry(
            member.practice_id,
            self._ids(),
            member.created_at,
            member.account_id,
            member.role,
            "",
            "",
            caller.request_id,
            action,
            "done",
        )

"""Use cases of one-time codes: verify an e-mail address, and choose a new password without the old one."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from math import ceil

from heallog.application import letters
from heallog.application.credentials import Credentials
from heallog.application.ports.accounts import Passwords
from heallog.application.ports.mail import Mail
from heallog.application.ports.unit_of_work import UnitOfWork, UnitOfWorkFactory
from heallog.application.ports.world import Chance, Clock, Ids
from heallog.application.sessions import Sessions
from heallog.application.trail import Books, audited
from heallog.domain.access import Actor, Caller
from heallog.domain.accounts import Account, check_password, email_key
from heallog.domain.audit import AuditEntry, noted
from heallog.domain.codes import AN_HOUR, LIFE, OneTimeCode, Purpose, digest, digits, good, wait
from heallog.domain.errors import CodeInvalid, NotAuthenticated, RateLimited, WrongState
from heallog.domain.passwords import Guesses
from heallog.domain.sessions import Ending, Session

_WRONG = "the code is wrong, was used, or is too old; ask for another one"


class Codes:
    """`keys` are what codes are kept under, the one in use first."""

    def __init__(
        self,
        uow: UnitOfWorkFactory,
        passwords: Passwords,
        guesses: Guesses,
        credentials: Credentials,
        sessions: Sessions,
        mail: Mail,
        books: Books,
        clock: Clock,
        ids: Ids,
        chance: Chance,
        *,
        keys: Sequence[bytes],
    ) -> None:
        self._uow = uow
        self._passwords = passwords
        self._guesses = guesses
        self._credentials = credentials
        self._sessions = sessions
        self._mail = mail
        self.books = books
        self._clock = clock
        self._ids = ids
        self._chance = chance
        self._keys = keys

    # -- verifying an address -----------------------------------------------------------------------------------

    async def send(self, uow: UnitOfWork, account: Account, now: datetime) -> str:
        """A code that verifies a new account's address, within someone's unit of work, who then has to `post` it."""
        return await self._made(uow, Purpose.VERIFY, account.email_key, account, now)

    def post(self, account: Account, code: str) -> None:
        """Call after the commit."""
        self._mail.post(letters.code(account.email, Purpose.VERIFY, code))

    async def resend(self, actor: Actor) -> None:
        """Another code. Raises `WrongState` where the address is verified, `RateLimited` after three within an hour."""
        async with self._uow() as uow:
            account = await uow.accounts.get(actor.account_id)
            if account is None:
                raise NotAuthenticated("this account is not here any more")
            if account.verified_at is not None:
                raise WrongState("the e-mail address is verified already")
            code = await self.send(uow, account, self._clock())
            await uow.commit()
        self.post(account, code)

    @audited("codes.verify")
    async def verify(self, actor: Actor, code: str) -> None:
        """The account's address is its own. Again with an address that is verified already changes nothing.

        Raises `CodeInvalid`.
        """
        async with self._uow() as uow:
            account = await uow.accounts.lock(actor.account_id)
            if account is None:
                raise NotAuthenticated("this account is not here any more")
            if account.verified_at is not None:
                return
            now = self._clock()
            right = await self._looked(uow, Purpose.VERIFY, account.email_key, code, now)
            if right is not None:
                await uow.codes.put(replace(right, used_at=now))
                await uow.accounts.put(replace(account, verified_at=now))
                await uow.audit([noted(self._ids(), now, actor, "codes.verify")])
            await uow.commit()
        if right is None:
            raise CodeInvalid(_WRONG, field="code")

    # -- a forgotten password -----------------------------------------------------------------------------------

    async def forgot(self, email: str, caller: Caller) -> None:
        """Mail a code to whoever has this address; nobody is told whether anyone does.

        For an unknown address the same is done with a code that is never sent. Raises `RateLimited`.
        """
        key = email_key(email)
        async with self._uow() as uow:
            account = await uow.accounts.by_email(key)
            now = self._clock()
            code = await self._made(uow, Purpose.RESET, key, account, now)
            await uow.audit([await self._entry(uow, account, caller, now, "codes.forgot")])
            await uow.commit()
        if account is not None:
            self._mail.post(letters.code(account.email, Purpose.RESET, code))

    async def reset(self, email: str, code: str, password: str, caller: Caller) -> None:
        """Choose a new password. Every session ends, and a lock is lifted; the second factor stays as it is.

        Raises `CodeInvalid`, the same for an unknown address; `InvalidFields` for a password that is no good one, and
        then the code can be used again.
        """
        await asyncio.to_thread(check_password, password, [email], self._guesses)
        key = email_key(email)
        async with self._uow() as uow:
            now = self._clock()
            account = await uow.accounts.by_email(key)
            right = await self._looked(uow, Purpose.RESET, key, code, now)
            if right is None:
                await uow.audit([await self._entry(uow, account, caller, now, "codes.reset", CodeInvalid.code)])
            await uow.commit()
        if right is None or account is None:
            raise CodeInvalid(_WRONG, field="code")
        async with self._uow() as uow:
            practices = [practice.name for practice, _ in await uow.practices.belonging(account.id)]
        about = [account.email, account.name, *practices]
        await asyncio.to_thread(check_password, password, about, self._guesses)
        fresh = await self._passwords.hash(password)
        await self._sessions.blacklist(await self._replaced(right, account, fresh, caller))
        self._mail.post(letters.password_changed(account.email))

    async def _replaced(self, code: OneTimeCode, account: Account, fresh: str, caller: Caller) -> Sequence[Session]:
        async with self._uow() as uow:
            locked = await uow.accounts.lock(account.id)
            now = self._clock()
            latest = _latest(await uow.codes.lock(code.email_key, now - AN_HOUR), Purpose.RESET)
            if locked is None or latest is None or latest.id != code.id or latest.used_at is not None:
                # Someone else used it meanwhile, or asked for another.
                raise CodeInvalid(_WRONG, field="code")
            await uow.codes.put(replace(latest, used_at=now))
            after = replace(locked, password_hash=fresh)
            if locked.verified_at is None:
                # Who reads the mail of an address has verified it; whoever set a factor up before that had not.
                after = replace(after, verified_at=now, totp=None, totp_confirmed_at=None, recovery=())
            await uow.accounts.put(after)
            await self._credentials.forgive(uow, locked)
            ended = await self._sessions.end(uow, locked.id, Ending.PASSWORD)
            await uow.audit([await self._entry(uow, locked, caller, now, "codes.reset")])
            await uow.commit()
        return ended

    # -- both ---------------------------------------------------------------------------------------------------

    async def _made(
        self, uow: UnitOfWork, purpose: Purpose, email_key: str, account: Account | None, now: datetime
    ) -> str:
        """A new code; the ones before it are worth nothing then."""
        sent = await uow.codes.lock(email_key, now - AN_HOUR)
        # Of this purpose alone: that someone registered an hour ago must not show when a password is forgotten.
        if (pause := wait([one for one in sent if one.purpose is purpose], now)) is not None:
            seconds = ceil(pause.total_seconds())
            raise RateLimited(
                f"three codes were sent within an hour; the next one can be sent in {seconds} s",
                context={"retry_after": seconds},
            )
        code = digits(self._chance(16))
        kept = digest(self._keys[0], purpose, email_key, code)
        account_id = account.id if account else None
        await uow.codes.add(OneTimeCode(self._ids(), email_key, purpose, account_id, kept, now, now + LIFE))
        return code

    async def _looked(
        self, uow: UnitOfWork, purpose: Purpose, email_key: str, said: str, now: datetime
    ) -> OneTimeCode | None:
        """The address's latest code, if it is this one. If it is not, that counts: commit in any case."""
        latest = _latest(await uow.codes.lock(email_key, now - AN_HOUR), purpose)
        if latest is None:
            return None
        if good(latest, "".join(said.split()), self._keys, now):
            return latest
        await uow.codes.put(replace(latest, looks=latest.looks + 1))
        return None

    async def _entry(
        self, uow: UnitOfWork, account: Account | None, caller: Caller, now: datetime, action: str, code: str = ""
    ) -> AuditEntry:
        """Of the account's first practice; of none where the address is unknown."""
        members = await uow.practices.memberships(account.id if account else "")
        member = members[0] if members else None
        return AuditEntry(
            member.practice_id if member else "",
            self._ids(),
            now,
            account.id if account else "",
            str(member.role) if member else "",
            "",
            "",
            caller.request_id,
            action,
            "refused" if code else "done",
            reason=code or None,
        )


def _latest(sent: Sequence[OneTimeCode], purpose: Purpose) -> OneTimeCode | None:
    """Only the newest code of a kind is good."""
    return next((code for code in sent if code.purpose is purpose), None)

"""Use cases of credentials: prove that someone is who they say, by password and second factor; and set that factor up.

Every guess takes a try before it is looked at (`domain/tries.py`). Whether an account exists shows in no answer and not
in how long one takes: the same statements run, the same slow hash, and one entry of the trail is written either way.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from math import ceil
from typing import TypeVar

from heallog.application.letters import factor_changed
from heallog.application.ports.accounts import Authenticators, Passwords
from heallog.application.ports.mail import Mail
from heallog.application.ports.unit_of_work import UnitOfWork, UnitOfWorkFactory
from heallog.application.ports.world import Chance, Clock, Ids
from heallog.application.trail import Books, audited
from heallog.domain import tries
from heallog.domain.access import Actor, Caller
from heallog.domain.accounts import (
    RECOVERY_CODES,
    RECOVERY_SIZE,
    Account,
    email_key,
    recovered,
    recovery_codes,
    recovery_digest,
)
from heallog.domain.audit import AuditEntry, noted, operated
from heallog.domain.errors import (
    AccountLocked,
    DomainError,
    InvalidCredentials,
    InvalidFields,
    NotAuthenticated,
    NotFound,
    OtpInvalid,
    OtpRequired,
    Unavailable,
    WrongState,
)
from heallog.domain.practices import Membership
from heallog.domain.tries import Allowance

Result = TypeVar("Result")

_WRONG = "the e-mail address or the password is wrong"


class _Rehashed(Exception):
    """The account's password is kept in another way than a moment ago."""

    def __init__(self, account: Account) -> None:
        super().__init__()
        self.account = account


@dataclass(frozen=True, slots=True)
class Claim:
    """Who someone says to be, and what they show for it."""

    email: str
    password: str = field(repr=False)
    otp: str | None = field(repr=False)
    device_id: str
    action: str
    actor: Actor | None = None
    """Who they are already, where they only confirm it."""
    about: str | None = None
    """The id of what they want to do it to."""


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A new second factor, shown once: the secret to type, and the address that a QR code holds."""

    secret: str = field(repr=False)
    uri: str = field(repr=False)


Work = Callable[[UnitOfWork, Account, datetime], Awaitable[Result]]
"""What is done once someone is proven, in the same unit of work, which commits after it."""


class Credentials:
    """`by_account` and `by_address` say how many wrong tries are free."""

    def __init__(
        self,
        uow: UnitOfWorkFactory,
        passwords: Passwords,
        authenticators: Authenticators,
        mail: Mail,
        books: Books,
        clock: Clock,
        ids: Ids,
        chance: Chance,
        *,
        by_account: Allowance,
        by_address: Allowance,
    ) -> None:
        self._uow = uow
        self._passwords = passwords
        self._authenticators = authenticators
        self._mail = mail
        self.books = books
        self._clock = clock
        self._ids = ids
        self._chance = chance
        self._allowances = (by_account, by_address)

    # -- proving ------------------------------------------------------------------------------------------------

    async def prove(self, claim: Claim, caller: Caller, work: Work[Result], *, second: bool = True) -> Result:
        """Do the work for whoever the claim is right of. `second` asks for the second factor too, where there is one.

        Raises `AccountLocked`, `InvalidCredentials`, `OtpRequired`, `OtpInvalid`; each leaves an entry.
        """
        account, member = await self._take(claim, caller)
        try:
            try:
                return await self._verified(account, claim, caller, work, second=second)
            except _Rehashed as meanwhile:
                # By another login of the same moment, or by a change of the password: that one is to be shown then.
                return await self._verified(meanwhile.account, claim, caller, work, second=second)
        except _Rehashed:
            refusal: DomainError = InvalidCredentials(_WRONG)
        except (InvalidFields, Unavailable):
            raise
        except DomainError as error:
            refusal = error
        await self._refused(account, member, claim, caller, refusal)
        raise refusal

    async def _verified(
        self, account: Account | None, claim: Claim, caller: Caller, work: Work[Result], *, second: bool
    ) -> Result:
        # The hash is slow on purpose: no transaction stays open while it runs.
        right = await self._passwords.verify(account.password_hash if account else None, claim.password)
        if account is None or not right:
            raise InvalidCredentials(_WRONG)
        fresh = None
        if self._passwords.outdated(account.password_hash):
            fresh = await self._passwords.hash(claim.password)
        return await self._admitted(account, claim, caller, work, fresh, second=second)

    async def confirm(
        self,
        actor: Actor,
        password: str,
        caller: Caller,
        action: str,
        work: Work[Result],
        otp: str | None = None,
        *,
        second: bool = True,
        about: str | None = None,
    ) -> Result:
        """The same of someone who is logged in, before what nobody else should do with their device."""
        async with self._uow() as uow:
            account = await uow.accounts.get(actor.account_id)
        if account is None:
            raise NotAuthenticated("this account is not here any more")
        claim = Claim(account.email, password, otp, actor.device_id, action, actor, about)
        return await self.prove(claim, caller, work, second=second)

    async def forgive(self, uow: UnitOfWork, account: Account) -> None:
        """Unlock an account, within someone's unit of work."""
        await uow.tries.forget([tries.key("account", account.email_key)])

    async def _take(self, claim: Claim, caller: Caller) -> tuple[Account | None, Membership | None]:
        """The account that is meant and its first membership, where there are any; with a try taken for it."""
        keys = self._keys(claim, caller)
        async with self._uow() as uow:
            counted = await uow.tries.lock(keys, self._clock())
            # Only now: a crowd may have stood in line for that.
            now = self._clock()
            account = await uow.accounts.by_email(email_key(claim.email))
            members = await uow.practices.memberships(account.id if account else "")
            waits = [wait for one in counted if (wait := tries.locked(one, now)) is not None]
            if not waits:
                pairs = zip(counted, self._allowances, strict=False)
                await uow.tries.put([tries.taken(one, allowance, now) for one, allowance in pairs])
                await uow.commit()
        member = members[0] if members else None
        if waits:
            seconds = ceil(max(waits).total_seconds())
            # A reset opens the account's own lock, and no other one.
            way_out = ", or reset the password" if claim.actor is None and tries.locked(counted[0], now) else ""
            error = AccountLocked(
                f"too many wrong tries; try again in {seconds} s{way_out}", context={"retry_after": seconds}
            )
            await self._refused(account, member, claim, caller, error)
            raise error
        return account, member

    async def _admitted(
        self,
        known: Account,
        claim: Claim,
        caller: Caller,
        work: Work[Result],
        fresh: str | None,
        *,
        second: bool,
    ) -> Result:
        async with self._uow() as uow:
            account = await uow.accounts.lock(known.id)
            if account is None:
                raise InvalidCredentials(_WRONG)
            if account.password_hash != known.password_hash:
                raise _Rehashed(account)
            now = self._clock()
            keys = self._keys(claim, caller)
            if second and account.second_factor and not claim.otp:
                # Half of a login is no guess: the client asks for the code and comes back.
                await self._give_back(uow, keys, now)
                await uow.commit()
                raise OtpRequired("the account asks for a second factor: send otp, too")
            proven = self._second(account, claim.otp or "", now) if second and account.second_factor else account
            if fresh is not None:
                proven = replace(proven, password_hash=fresh)
            if proven is not account:
                await uow.accounts.put(proven)
            await self._give_back(uow, keys, now)
            await uow.tries.forget(keys[:1])
            try:
                result = await work(uow, proven, now)
            except Unavailable:
                raise
            except DomainError as error:
                refusal = error
            else:
                await uow.commit()
                return result
        # What was shown is right all the same, whatever became of the work.
        async with self._uow() as uow:
            await self._give_back(uow, keys, now)
            await uow.commit()
        raise refusal

    async def _give_back(self, uow: UnitOfWork, keys: Sequence[str], now: datetime) -> None:
        await uow.tries.put([tries.given_back(one) for one in await uow.tries.lock(keys, now)])

    def _second(self, account: Account, otp: str, now: datetime) -> Account:
        """The account after this code was used: each is good once."""
        step = self._authenticators.step(account.totp, otp, now) if account.totp else None
        if step is not None and step > account.totp_step:
            return replace(account, totp_step=step)
        if step is None and (after := recovered(account, otp)) is not None:
            return after
        raise OtpInvalid("the code is wrong, or was used before; wait for the next one")

    def _keys(self, claim: Claim, caller: Caller) -> list[str]:
        """What this guess counts for; whoever calls from nowhere (the command line) has no address to count for.

        Who is logged in is counted apart: a stranger who guesses at the account keeps nobody from logging out what was
        stolen, and whoever stole a session gets no guesses at a login by it.
        """
        if claim.actor is None:
            keys = [tries.key("account", email_key(claim.email))]
        else:
            keys = [tries.key("confirm", claim.actor.account_id)]
        return [*keys, tries.key("address", caller.address)] if caller.address else keys

    async def _refused(
        self, account: Account | None, member: Membership | None, claim: Claim, caller: Caller, error: DomainError
    ) -> None:
        """An entry of the account's practice; of none where there is no account. Which of them takes no time."""
        if claim.actor is not None:
            entry = noted(
                self._ids(),
                self._clock(),
                claim.actor,
                claim.action,
                "refused",
                thing_id=claim.about,
                reason=error.code,
            )
            await self.books.turned_away(entry)
            return
        practice_id, role = (member.practice_id, str(member.role)) if member else ("", "")
        account_id = account.id if account else ""
        await self.books.turned_away(
            AuditEntry(
                practice_id,
                self._ids(),
                self._clock(),
                account_id,
                role,
                "",
                claim.device_id,
                caller.request_id,
                claim.action,
                "refused",
                reason=error.code,
            )
        )

    # -- the second factor --------------------------------------------------------------------------------------

    async def enrol(self, actor: Actor, password: str, caller: Caller) -> Enrolment:
        """A secret for an authenticator app, which asks for nothing until `activate`. Raises `WrongState`."""

        async def work(uow: UnitOfWork, account: Account, now: datetime) -> Enrolment:
            if account.second_factor:
                raise WrongState("there is a second factor already; remove it first")
            secret = self._authenticators.new()
            await uow.accounts.put(replace(account, totp=self._authenticators.sealed(secret)))
            await uow.audit([noted(self._ids(), now, actor, "credentials.enrol")])
            return Enrolment(secret, self._authenticators.uri(secret, account.email))

        # Who has one already is told so, and not asked for it.
        return await self.confirm(actor, password, caller, "credentials.enrol", work, second=False)

    @audited("credentials.activate")
    async def activate(self, actor: Actor, otp: str) -> tuple[str, ...]:
        """From now on logins ask for the app's code. The recovery codes are shown here, and never again."""
        async with self._uow() as uow:
            account = await uow.accounts.lock(actor.account_id)
            if account is None or account.totp is None or account.second_factor:
                raise WrongState("there is no second factor that waits to be confirmed")
            now = self._clock()
            step = self._authenticators.step(account.totp, otp, now)
            if step is None:
                raise OtpInvalid("this is not the code that the app should show; check the device's clock")
            codes = recovery_codes(self._chance(RECOVERY_CODES * RECOVERY_SIZE))
            digests = tuple(map(recovery_digest, codes))
            await uow.accounts.put(replace(account, totp_confirmed_at=now, totp_step=step, recovery=digests))
            await uow.audit([noted(self._ids(), now, actor, "credentials.activate")])
            await uow.commit()
        self._mail.post(factor_changed(account.email, added=True))
        return codes

    async def reset_factor(self, email: str) -> None:
        """For who lost the app and the recovery codes: by the operator, who knows the person. Lifts a lock as well.

        Raises `NotFound`.
        """
        async with self._uow() as uow:
            known = await uow.accounts.by_email(email_key(email))
            account = await uow.accounts.lock(known.id) if known else None
            if account is None:
                raise NotFound(f"there is no account with the address {email}")
            await uow.accounts.put(replace(account, totp=None, totp_confirmed_at=None, recovery=()))
            await self.forgive(uow, account)
            members = await uow.practices.memberships(account.id)
            await uow.audit(
                [
                    operated(self._ids(), self._clock(), one.practice_id, "credentials.reset-factor", account.id)
                    for one in members
                ]
            )
            await uow.commit()
        self._mail.post(factor_changed(account.email, added=False))

    async def reseal(self) -> int:
        """Bring the secrets of authenticator apps under the key in use: the old one can go then. How many it were."""
        async with self._uow() as uow:
            sealed = await uow.accounts.sealed()
        resealed = 0
        for account_id in sealed:
            async with self._uow() as uow:
                account = await uow.accounts.lock(account_id)
                fresh = self._authenticators.resealed(account.totp) if account and account.totp else None
                if account is not None and fresh is not None:
                    await uow.accounts.put(replace(account, totp=fresh))
                    resealed += 1
                await uow.commit()
        return resealed

    async def deactivate(self, actor: Actor, password: str, otp: str, caller: Caller) -> None:
        """Logins ask for the password alone again. Takes both factors, or a recovery code."""

        async def work(uow: UnitOfWork, account: Account, now: datetime) -> str:
            if not account.second_factor:
                raise WrongState("there is no second factor")
            await uow.accounts.put(replace(account, totp=None, totp_confirmed_at=None, recovery=()))
            await uow.audit([noted(self._ids(), now, actor, "credentials.deactivate")])
            return account.email

        email = await self.confirm(actor, password, caller, "credentials.deactivate", work, otp)
        self._mail.post(factor_changed(email, added=False))

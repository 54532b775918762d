"""Use cases of sessions: log in, stay logged in, be let in, log out."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from heallog.application.credentials import Claim, Credentials
from heallog.application.ports.sessions import AccessTokens, SessionReads, TokenBlacklist
from heallog.application.ports.unit_of_work import UnitOfWork, UnitOfWorkFactory
from heallog.application.ports.world import Chance, Clock, Ids
from heallog.application.trail import Books, audited
from heallog.domain.access import Actor, Caller
from heallog.domain.accounts import Account, email_key
from heallog.domain.audit import noted, operated
from heallog.domain.errors import (
    Forbidden,
    MembershipEnded,
    NotFound,
    SessionEnded,
    TokenExpired,
    Unavailable,
    WrongState,
)
from heallog.domain.events import LoggedIn, SessionClosed
from heallog.domain.practices import Membership
from heallog.domain.sessions import (
    ACCESS_TOKEN_LIFE,
    MOST_SESSIONS,
    SECRET_SIZE,
    SESSION_LIFE,
    Ending,
    RefreshToken,
    Session,
    Tokens,
    Use,
    opened,
    parse,
    use,
)

LEEWAY = timedelta(minutes=1)
"""How much longer than its life a token stays on the blacklist: servers' clocks differ."""
SWEPT = timedelta(days=7)
"""How long what is over stays: a token that is replayed within a week is still known for what it is."""

OVER = "the session has ended; log in again"
LEFT = "the membership in this practice has ended; push what is on the device once more, for the practice to look at"


class Sessions:
    """`keys` are what the next refresh token is derived with, the one in use first.

    Where `verified_only`, an account whose e-mail address is not verified may do nothing but verify it. For `queue` a
    device may be offline with work that it has still to push.
    """

    def __init__(
        self,
        uow: UnitOfWorkFactory,
        credentials: Credentials,
        tokens: AccessTokens,
        reads: SessionReads,
        blacklist: TokenBlacklist,
        books: Books,
        clock: Clock,
        ids: Ids,
        chance: Chance,
        *,
        keys: Sequence[bytes],
        queue: timedelta,
        verified_only: bool = False,
    ) -> None:
        self._uow = uow
        self._credentials = credentials
        self._tokens = tokens
        self._reads = reads
        self._blacklist = blacklist
        self.books = books
        self._clock = clock
        self._ids = ids
        self._chance = chance
        self._keys = keys
        self._queue = queue
        self._verified_only = verified_only

    # -- in -----------------------------------------------------------------------------------------------------

    async def login(self, email: str, password: str, device_id: str | None, otp: str | None, caller: Caller) -> Tokens:
        """Tokens of a new session, for the account's first practice.

        Raises `AccountLocked`, `InvalidCredentials` (the same and as late for an unknown account), `OtpRequired`,
        `OtpInvalid`, `Forbidden` for who belongs to no practice any more.
        """
        device_id = device_id or self._ids()

        async def work(uow: UnitOfWork, account: Account, now: datetime) -> Tokens:
            members = await uow.practices.memberships(account.id)
            if not members:
                raise Forbidden("this account belongs to no practice any more")
            return await self.open(uow, members[0], device_id, caller, now, "sessions.login")

        return await self._credentials.prove(Claim(email, password, otp, device_id, "sessions.login"), caller, work)

    async def open(
        self,
        uow: UnitOfWork,
        member: Membership,
        device_id: str,
        caller: Caller,
        now: datetime,
        action: str,
        proven_at: datetime | None = None,
    ) -> Tokens:
        """A new session for a member, within someone's unit of work; proven now, or when another session began."""
        chance = self._chance(2 * SECRET_SIZE)
        session, token = opened(member.practice_id, self._ids(), member.account_id, device_id, now, chance)
        if proven_at is not None:
            ends = min(session.expires_at, proven_at + SESSION_LIFE)
            session = replace(session, created_at=proven_at, expires_at=ends)
        # Their rows refuse them: no need to have them blacklisted before the commit.
        crowd = await uow.sessions.of_account(member.account_id, now)
        await self._end(uow, crowd[MOST_SESSIONS - 1 :], Ending.CROWDED)
        await uow.sessions.add(session)
        await uow.audit([noted(self._ids(), now, _actor(member, session, caller), action)])
        uow.tell(LoggedIn(session.practice_id, session.account_id, session.id))
        return self._issued(session, token)

    @audited("sessions.switch")
    async def switch(self, actor: Actor, practice_id: str, caller: Caller) -> Tokens:
        """Tokens for another practice of the same account. The session that asks stays: it speaks for its own.

        Raises `NotFound` for a practice that the account does not belong to, whether there is one or not.
        """
        async with self._uow() as uow:
            # Whoever ends sessions holds the account: a request that was let in before that opens none after it.
            await uow.accounts.lock(actor.account_id)
            session = await uow.sessions.lock(actor.practice_id, actor.session_id)
            if session is None or not session.live(self._clock()):
                raise SessionEnded(OVER)
            members = await uow.practices.memberships(actor.account_id)
            member = next((one for one in members if one.practice_id == practice_id), None)
            if member is None:
                raise NotFound("there is no such practice")
            if practice_id == actor.practice_id:
                raise WrongState("this session speaks for that practice already")
            tokens = await self.open(
                uow, member, actor.device_id, caller, self._clock(), "sessions.switch", session.created_at
            )
            await uow.commit()
        return tokens

    async def refresh(self, text: str, caller: Caller) -> Tokens:
        """The next tokens of a session; for the same token again, within ten seconds, the same ones.

        Raises `SessionEnded` for everything else, `MembershipEnded` where that is why. A token that was used before
        ends the session for everyone.
        """
        token = parse(text)
        if token is None:
            raise SessionEnded(OVER)
        async with self._uow() as uow:
            session = await uow.sessions.lock(token.practice_id, token.session_id)
            if session is None:
                raise SessionEnded(OVER)
            now = self._clock()
            what, after, answer = use(session, token, self._keys, now)
            members = await uow.practices.memberships(session.account_id)
            member = next((one for one in members if one.practice_id == session.practice_id), None)
            if member is None:
                answer = None
            elif after is not session:
                await uow.sessions.put(after)
            if what is Use.REPLAY and member is not None:
                # Nobody knows who of the two is the thief.
                await uow.audit([noted(self._ids(), now, _actor(member, session, caller), "sessions.replay")])
                uow.tell(SessionClosed(session.practice_id, session.account_id, session.id, Ending.REPLAYED))
            await uow.commit()
        if what is Use.REPLAY:
            await self.blacklist([session])
        if what is Use.OVER and session.ending is Ending.MEMBERSHIP and member is None:
            raise MembershipEnded(LEFT)
        if answer is None:
            raise SessionEnded(OVER)
        return self._issued(after, answer)

    def _issued(self, session: Session, token: RefreshToken) -> Tokens:
        access_token, expires_in = self._tokens.issue(session, session.refreshed_at)
        return Tokens(access_token, expires_in, str(token))

    # -- at the door --------------------------------------------------------------------------------------------

    async def admit(self, token: str, request_id: str, *, unsafe: bool) -> Actor:
        """Who brings this access token, as they stand now: asked for once in every request, and never remembered.

        The session's row is asked, and the blacklist. Raises `NotAuthenticated`, `TokenExpired`, `SessionEnded`; and
        `Unavailable` where one of the two does not answer. What changes nothing (not `unsafe`) needs only the row.
        """
        bearer = self._tokens.read(token)
        known, listed = self._reads.standing(bearer), self._blacklist.revoked(bearer.practice_id, bearer.session_id)
        standing, revoked = await asyncio.gather(known, listed, return_exceptions=True)
        if isinstance(standing, BaseException):
            raise standing
        if isinstance(revoked, Unavailable) and not unsafe:
            revoked = False
        if isinstance(revoked, BaseException):
            raise revoked
        now = self._clock()
        if standing is None or revoked or standing.expires_at <= now or standing.account_id != bearer.account_id:
            raise SessionEnded(OVER)
        return Actor(
            bearer.account_id,
            bearer.practice_id,
            standing.role,
            bearer.session_id,
            standing.device_id,
            request_id,
            standing.plan,
            standing.verified or not self._verified_only,
            standing.emergency_until is not None and now < standing.emergency_until,
        )

    async def admit_to_hand_in(self, token: str, request_id: str) -> Actor:
        """The same at a route that takes what a device did; and besides, without any role, whose membership has ended.

        Such a device may have been offline when that happened, and gets no further tokens: its last one counts, expired
        or not, until so long after its issue as a device may be offline. It must be of a session that the end of the
        membership ended: one that was logged out, revoked or replayed before opens nothing.
        """
        try:
            return await self.admit(token, request_id, unsafe=True)
        except (SessionEnded, TokenExpired):
            # That its tokens are on the blacklist says no more than the row does, which says why.
            bearer = self._tokens.read(token, self._clock() - self._queue)
            device_id = await self._reads.left(bearer)
            if device_id is None:
                raise
        return Actor(bearer.account_id, bearer.practice_id, None, bearer.session_id, device_id, request_id)

    # -- out ----------------------------------------------------------------------------------------------------

    async def logout(self, actor: Actor) -> None:
        """The session's tokens are worth nothing from here on, on every server."""
        async with self._uow() as uow:
            session = await uow.sessions.lock(actor.practice_id, actor.session_id)
            if session is None:
                raise SessionEnded(OVER)
            await self._end(uow, [session], Ending.LOGOUT)
            await uow.audit([noted(self._ids(), self._clock(), actor, "sessions.logout")])
            await uow.commit()
        await self.blacklist([session])

    async def logout_all(self, actor: Actor, password: str, caller: Caller) -> int:
        """The same of every session of the account, this one too. How many there were."""

        async def work(uow: UnitOfWork, account: Account, now: datetime) -> Sequence[Session]:
            ended = await self.end(uow, account.id, Ending.LOGOUT)
            await uow.audit([noted(self._ids(), now, actor, "sessions.logout-all")])
            return ended

        ended = await self._credentials.confirm(actor, password, caller, "sessions.logout-all", work, second=False)
        await self.blacklist(ended)
        return len(ended)

    async def mine(self, actor: Actor) -> Sequence[Session]:
        """The account's live sessions in all its practices, newest first."""
        async with self._uow() as uow:
            return await uow.sessions.of_account(actor.account_id, self._clock())

    async def revoke(self, actor: Actor, session_id: str, password: str, caller: Caller) -> None:
        """End one of the account's own sessions, on whatever device. Raises `NotFound`."""

        async def work(uow: UnitOfWork, account: Account, now: datetime) -> Sequence[Session]:
            found = [one for one in await uow.sessions.of_account(account.id, now) if one.id == session_id]
            if not found:
                raise NotFound("there is no such session")
            await self._end(uow, found, Ending.REVOKED)
            await uow.audit([noted(self._ids(), now, actor, "sessions.revoke", thing_id=session_id)])
            return found

        await self.blacklist(
            await self._credentials.confirm(
                actor, password, caller, "sessions.revoke", work, second=False, about=session_id
            )
        )

    async def log_out(self, email: str | None) -> int:
        """End every session of an account, or everybody's: by the operator. How many there were. Raises `NotFound`."""
        async with self._uow() as uow:
            now = self._clock()
            if email is None:
                ended = await uow.sessions.live(now)
            else:
                account = await uow.accounts.by_email(email_key(email))
                if account is None:
                    raise NotFound(f"there is no account with the address {email}")
                ended = await uow.sessions.of_account(account.id, now)
            await self._end(uow, ended, Ending.REVOKED)
            await uow.audit([operated(self._ids(), now, one.practice_id, "sessions.log-out", one.id) for one in ended])
            await uow.commit()
        await self.blacklist(ended)
        return len(ended)

    async def end(
        self, uow: UnitOfWork, account_id: str, ending: Ending, practice_id: str | None = None
    ) -> Sequence[Session]:
        """End an account's sessions within someone's unit of work, who then has to `blacklist` them."""
        sessions = await uow.sessions.of_account(account_id, self._clock(), practice_id)
        await self._end(uow, sessions, ending)
        return sessions

    async def _end(self, uow: UnitOfWork, sessions: Sequence[Session], ending: Ending) -> None:
        now = self._clock()
        for session in sessions:
            await uow.sessions.put(session.ended(ending, now))
            uow.tell(SessionClosed(session.practice_id, session.account_id, session.id, ending))

    async def blacklist(self, ended: Sequence[Session]) -> None:
        """Call after the commit that ended these sessions, and only then."""
        until = self._clock() + ACCESS_TOKEN_LIFE + LEEWAY
        try:
            await self._blacklist.revoke([(session.practice_id, session.id) for session in ended], until)
        except Unavailable:
            # The rows say it already, and every request asks them.
            return

    # -- and what is left ---------------------------------------------------------------------------------------

    async def sweep(self) -> int:
        """Delete what was over a week ago. How many rows that were.

        What ended with a membership stays for as long as its devices may hand in what they did.
        """
        async with self._uow() as uow:
            now = self._clock()
            swept = await uow.sessions.sweep(now - SWEPT, now - max(SWEPT, self._queue))
            await uow.commit()
        return swept


def _actor(member: Membership, session: Session, caller: Caller) -> Actor:
    return Actor(member.account_id, member.practice_id, member.role, session.id, session.device_id, caller.request_id)

"""Use cases of sessions: log in."""

from heallog.application.ports.sessions import AccessTokens, Passwords
from heallog.application.ports.unit_of_work import UnitOfWorkFactory
from heallog.application.ports.world import Clock, Ids
from heallog.domain.access import Actor
from heallog.domain.accounts import email_key
from heallog.domain.audit import AuditEntry
from heallog.domain.errors import InvalidCredentials
from heallog.domain.events import LoggedIn
from heallog.domain.sessions import SESSION_LIFE, AccessToken, Session


class Sessions:
    """A login opens a session on one device, for the account's first practice."""

    def __init__(
        self, uow: UnitOfWorkFactory, passwords: Passwords, tokens: AccessTokens, clock: Clock, ids: Ids
    ) -> None:
        self._uow = uow
        self._passwords = passwords
        self._tokens = tokens
        self._clock = clock
        self._ids = ids

    async def login(self, email: str, password: str, device_id: str | None = None, request_id: str = "") -> AccessToken:
        """An access token. Raises `InvalidCredentials`, the same and as late for an unknown account."""
        async with self._uow() as uow:
            account = await uow.accounts.by_email(email_key(email))
            memberships = await uow.practices.memberships(account.id) if account else []
        # The hash is slow on purpose: no transaction stays open while it runs.
        right = await self._passwords.verify(account.password_hash if account else None, password)
        now = self._clock()
        if account is None or not memberships:
            raise InvalidCredentials("the e-mail address or the password is wrong")
        member = memberships[0]
        session = Session(
            member.practice_id, self._ids(), account.id, device_id or self._ids(), now, now + SESSION_LIFE
        )
        actor = Actor(account.id, member.practice_id, member.role, session.id, session.device_id, request_id)
        async with self._uow() as uow:
            if right:
                await uow.sessions.add(session)
                uow.tell(LoggedIn(session.practice_id, account.id, session.id))
            await uow.audit([self._entry(actor, session, "done" if right else "refused")])
            await uow.commit()
        if not right:
            raise InvalidCredentials("the e-mail address or the password is wrong")
        return self._tokens.issue(actor, now)

    def _entry(self, actor: Actor, session: Session, outcome: str) -> AuditEntry:
        return AuditEntry(
            actor.practice_id,
            self._ids(),
            session.created_at,
            actor.account_id,
            actor.role,
            session.id if outcome == "done" else "",
            session.device_id,
            actor.request_id,
            "sessions.login",
            outcome,
        )

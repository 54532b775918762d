"""Use cases of practices: who belongs to one, who is asked to, and what they may do in an emergency."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta

from heallog.application import letters
from heallog.application.ports.mail import Mail
from heallog.application.ports.unit_of_work import UnitOfWork, UnitOfWorkFactory
from heallog.application.ports.world import Chance, Clock, Ids
from heallog.application.sessions import Sessions
from heallog.application.trail import Books, audited
from heallog.domain.access import Actor, Permission, Plan, Role, authorise, entitle
from heallog.domain.accounts import email_key
from heallog.domain.audit import noted, operated
from heallog.domain.codes import AN_HOUR
from heallog.domain.errors import AlreadyExists, FieldError, Forbidden, InvalidFields, NotFound, RateLimited, WrongState
from heallog.domain.events import GlassBroken
from heallog.domain.practices import (
    INVITATION_LIFE,
    INVITATION_SIZE,
    INVITATIONS_PER_HOUR,
    Emergency,
    Invitation,
    Member,
    Membership,
    Practice,
    Presence,
    invitation_code,
    invitation_digest,
    still_owned,
)
from heallog.domain.sessions import Ending, Session

_PRACTICE = "practice"
"""Name and plan are one row: neither may be written back as it was."""
_MEMBERS = "members"
"""The work that only one unit of work does at a time in a practice: of two owners who remove each other one stays."""


class Practices:
    """`deliverable` says whether an e-mail address is one, or raises ValueError saying why not."""

    def __init__(
        self,
        uow: UnitOfWorkFactory,
        sessions: Sessions,
        deliverable: Callable[[str], None],
        mail: Mail,
        books: Books,
        clock: Clock,
        ids: Ids,
        chance: Chance,
    ) -> None:
        self._uow = uow
        self._sessions = sessions
        self._deliverable = deliverable
        self._mail = mail
        self.books = books
        self._clock = clock
        self._ids = ids
        self._chance = chance

    @audited("practices.read")
    async def get(self, actor: Actor) -> Practice:
        authorise(actor, Permission.READ_PRACTICE)
        async with self._uow() as uow:
            return await self._practice(uow, actor)

    @audited("practices.rename")
    async def rename(self, actor: Actor, name: str) -> Practice:
        authorise(actor, Permission.CHANGE_PRACTICE)
        async with self._uow() as uow:
            await uow.exclusive(actor.practice_id, _PRACTICE)
            practice = replace(await self._practice(uow, actor), name=name)
            await uow.practices.put(practice)
            await uow.audit([noted(self._ids(), self._clock(), actor, "practices.rename")])
            await uow.commit()
        return practice

    async def set_plan(self, practice_id: str, plan: Plan) -> Practice:
        """By the operator, on the command line. Members beyond a smaller plan stay; no further ones come."""
        async with self._uow() as uow:
            await uow.exclusive(practice_id, _PRACTICE)
            practice = await uow.practices.get(practice_id)
            if practice is None:
                raise NotFound("there is no such practice")
            practice = replace(practice, plan=plan)
            await uow.practices.put(practice)
            now = self._clock()
            await uow.audit([operated(self._ids(), now, practice_id, "practices.set-plan", reason=plan)])
            await uow.commit()
        return practice

    # -- members ------------------------------------------------------------------------------------------------

    @audited("members.read")
    async def members(self, actor: Actor) -> Sequence[Member]:
        """Members and open invitations; as many as the plan has room for, so this is one page."""
        authorise(actor, Permission.READ_MEMBERS)
        async with self._uow() as uow:
            return await uow.practices.present(actor.practice_id, self._clock())

    @audited("members.invite")
    async def invite(self, actor: Actor, email: str, role: Role, name: str) -> Member:
        """Ask someone to join. Asking the same address again mails a new code; the one before is worth nothing then.

        Raises `ProRequired`, `AlreadyExists` for a member, `RateLimited`, `InvalidFields`.
        """
        authorise(actor, Permission.MANAGE_MEMBERS)
        self._check_address(email)
        key = email_key(email)
        code = invitation_code(self._chance(INVITATION_SIZE))
        async with self._uow() as uow:
            await uow.exclusive(actor.practice_id, _MEMBERS)
            practice = await self._practice(uow, actor)
            now = self._clock()
            present = await uow.practices.present(actor.practice_id, now)
            others = [one for one in present if email_key(one.email) != key]
            if any(one.presence is Presence.ACTIVE for one in present if one not in others):
                raise AlreadyExists("this address is a member's already")
            entitle(practice.plan, members=len(others) + 1)
            if await uow.practices.invitations_since(actor.practice_id, now - AN_HOUR) >= INVITATIONS_PER_HOUR:
                seconds = int(AN_HOUR.total_seconds())
                raise RateLimited("too many invitations within an hour", context={"retry_after": seconds})
            invitation = Invitation(
                actor.practice_id,
                self._ids(),
                email.strip(),
                key,
                name,
                role,
                actor.account_id,
                invitation_digest(code),
                now,
                now + INVITATION_LIFE,
            )
            await uow.practices.invite(invitation)
            inviter = await uow.accounts.get(actor.account_id)
            await uow.audit([noted(self._ids(), now, actor, "members.invite", thing_id=invitation.id)])
            await uow.commit()
        by = inviter.name if inviter else practice.name
        self._mail.post(letters.invitation(invitation.email, practice.name, by, role, code))
        return _invited(invitation)

    @audited("members.change")
    async def change_role(self, actor: Actor, member_id: str, role: Role) -> Member:
        """What a member, or who is invited, is from now on: the very next request is judged by it.

        Raises `NotFound`, `LastOwner`.
        """
        authorise(actor, Permission.MANAGE_MEMBERS)
        async with self._uow() as uow:
            found = await self._found(uow, actor, member_id)
            now = self._clock()
            if isinstance(found, Invitation):
                await uow.practices.put_invitation(replace(found, role=role))
            else:
                if role is not Role.OWNER:
                    still_owned(await uow.practices.members(actor.practice_id), member_id)
                await uow.practices.put_member(replace(found, role=role))
            entry = noted(self._ids(), now, actor, "members.change", thing_id=member_id, reason=role)
            await uow.audit([entry])
            present = await uow.practices.present(actor.practice_id, now)
            await uow.commit()
        return next(one for one in present if one.id == member_id)

    @audited("members.remove")
    async def remove(self, actor: Actor, member_id: str) -> None:
        """End a membership, its sessions with it; or withdraw an invitation. Raises `NotFound`, `LastOwner`."""
        authorise(actor, Permission.MANAGE_MEMBERS)
        ended: Sequence[Session] = ()
        async with self._uow() as uow:
            found = await self._found(uow, actor, member_id)
            now = self._clock()
            if isinstance(found, Invitation):
                await uow.practices.put_invitation(replace(found, closed_at=now))
            else:
                still_owned(await uow.practices.members(actor.practice_id), member_id)
                await uow.practices.put_member(replace(found, ended_at=now))
                broken = await uow.practices.emergency_of(actor.practice_id, member_id, now)
                if broken is not None:
                    await uow.practices.put_emergency(replace(broken, closed_at=now))
                ended = await self._sessions.end(uow, member_id, Ending.MEMBERSHIP, actor.practice_id)
            await uow.audit([noted(self._ids(), now, actor, "members.remove", thing_id=member_id)])
            await uow.commit()
        await self._sessions.blacklist(ended)

    @audited("members.log-out")
    async def log_out(self, actor: Actor, member_id: str) -> int:
        """End every session that a member has in this practice: a tablet was stolen. How many there were."""
        authorise(actor, Permission.MANAGE_MEMBERS)
        async with self._uow() as uow:
            if isinstance(await self._found(uow, actor, member_id), Invitation):
                raise NotFound("there is no such member")
            ended = await self._sessions.end(uow, member_id, Ending.REVOKED, actor.practice_id)
            await uow.audit([noted(self._ids(), self._clock(), actor, "members.log-out", thing_id=member_id)])
            await uow.commit()
        await self._sessions.blacklist(ended)
        return len(ended)

    # -- broken glass -------------------------------------------------------------------------------------------

    @audited("emergencies.declare")
    async def break_glass(self, actor: Actor, reason: str, minutes: int) -> tuple[Emergency, str]:
        """For a while the caller may do what their role does not let them (`domain/access.py:EMERGENCY`).

        Every owner is written to, and every entry of the trail says so meanwhile. Gives the name of who did it, too.
        Raises `WrongState` where the glass is broken already.
        """
        authorise(actor, Permission.BREAK_GLASS)
        async with self._uow() as uow:
            await uow.exclusive(actor.practice_id, f"emergency/{actor.account_id}")
            now = self._clock()
            emergency = Emergency(
                actor.practice_id, self._ids(), actor.account_id, reason, now, now + timedelta(minutes=minutes)
            )
            latest = await uow.practices.emergency_of(actor.practice_id, actor.account_id, now)
            if latest is not None:
                raise WrongState("the glass is broken already", context={"emergency": latest.id})
            await uow.practices.declare(emergency)
            present = await uow.practices.present(actor.practice_id, now)
            practice = await self._practice(uow, actor)
            entry = noted(self._ids(), now, actor, "emergencies.declare", thing_id=emergency.id, reason=reason)
            await uow.audit([entry])
            uow.tell(GlassBroken(actor.practice_id, actor.account_id, emergency.id))
            await uow.commit()
        name = next((one.name for one in present if one.id == actor.account_id), "")
        for owner in present:
            if owner.role is Role.OWNER and owner.presence is Presence.ACTIVE:
                self._mail.post(letters.glass_broken(owner.email, practice.name, name, minutes, reason))
        return emergency, name

    @audited("emergencies.read")
    async def emergencies(self, actor: Actor, after: str | None, limit: int) -> Sequence[tuple[Emergency, str]]:
        """Every time the glass was broken and by whom, newest first."""
        authorise(actor, Permission.READ_EMERGENCIES)
        async with self._uow() as uow:
            return await uow.practices.emergencies(actor.practice_id, after, limit)

    @audited("emergencies.close")
    async def close(self, actor: Actor, emergency_id: str) -> None:
        """It is over: said by who broke the glass, or by an owner. Raises `NotFound`."""
        async with self._uow() as uow:
            emergency = await uow.practices.emergency(actor.practice_id, emergency_id)
            mine = emergency is not None and emergency.account_id == actor.account_id
            if not mine:
                authorise(actor, Permission.MANAGE_MEMBERS)
            now = self._clock()
            if emergency is None or not emergency.open(now):
                raise NotFound("there is no such broken glass")
            await uow.practices.put_emergency(replace(emergency, closed_at=now))
            await uow.audit([noted(self._ids(), now, actor, "emergencies.close", thing_id=emergency_id)])
            await uow.commit()

    # -- all ----------------------------------------------------------------------------------------------------

    async def _practice(self, uow: UnitOfWork, actor: Actor) -> Practice:
        practice = await uow.practices.get(actor.practice_id)
        if practice is None:
            raise Forbidden("this practice is not here any more")
        return practice

    async def _found(self, uow: UnitOfWork, actor: Actor, member_id: str) -> Membership | Invitation:
        """A member, or an open invitation; nobody else changes who belongs to the practice until this is over."""
        await uow.exclusive(actor.practice_id, _MEMBERS)
        members = await uow.practices.members(actor.practice_id)
        member = next((one for one in members if one.account_id == member_id), None)
        if member is not None:
            return member
        invitation = await uow.practices.invitation(actor.practice_id, member_id)
        if invitation is None or not invitation.open(self._clock()):
            raise NotFound("there is no such member")
        return invitation

    def _check_address(self, email: str) -> None:
        try:
            self._deliverable(email)
        except ValueError as error:
            raise InvalidFields([FieldError("email", "email", str(error))]) from None


def _invited(invitation: Invitation) -> Member:
    return Member(
        invitation.id,
        Presence.INVITED,
        invitation.email,
        invitation.name,
        invitation.role,
        invitation.created_at,
        invitation.expires_at,
    )

"""Every refusal that HealLog can utter, each with a stable code.

A code is part of the interface: clients branch on it, messages are for people. The HTTP status of a code is
decided in one place, `entrypoints/http/errors.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing wrong with one field. `field` is a path such as `values.systolic.unit` or `tags.3`."""

    field: str
    code: str
    message: str

    def as_dict(self) -> dict[str, str]:
        return {"field": self.field, "code": self.code, "message": self.message}


class DomainError(Exception):
    """A refusal with a stable `code`, a message for a person, and optionally the field and context it is about."""

    code: ClassVar[str]

    def __init__(self, message: str, *, field: str | None = None, context: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.context = dict(context or {})


MOST_TOLD = 100
"""Of errors in one refusal: whoever sends a million wrong fields gets no million lines for it."""


class InvalidFields(DomainError):
    """One or more fields break their rules. They are in `context["errors"]`, as far as told, the first in `field`."""

    code = "INVALID_FIELDS"

    def __init__(self, errors: Sequence[FieldError]) -> None:
        first = errors[0]
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        super().__init__(
            f"{first.field}: {first.message}{more}" if first.field else f"{first.message}{more}",
            field=first.field or None,
            context={"errors": [error.as_dict() for error in errors[:MOST_TOLD]]},
        )
        self.errors = tuple(errors[:MOST_TOLD])


class MalformedJson(DomainError):
    """The bytes are not one JSON value in UTF-8."""

    code = "MALFORMED_JSON"


class NotAuthenticated(DomainError):
    """No token, or one that proves nothing."""

    code = "NOT_AUTHENTICATED"


class TokenExpired(DomainError):
    """A token that was good once."""

    code = "TOKEN_EXPIRED"


class InvalidCredentials(DomainError):
    """Unknown account or wrong password; which of the two is never said."""

    code = "INVALID_CREDENTIALS"


class SessionEnded(DomainError):
    """A token of a session that is over: logged out, revoked, expired, or replayed."""

    code = "SESSION_ENDED"


class MembershipEnded(SessionEnded):
    """The session ended because its account is no member of the practice any more.

    What its device still has can be handed in: `Sessions.admit_to_hand_in`.
    """

    code = "MEMBERSHIP_ENDED"


class OtpRequired(DomainError):
    """The password is right; the account asks for its second factor too."""

    code = "OTP_REQUIRED"


class OtpInvalid(DomainError):
    """The second factor is wrong, or was used before."""

    code = "OTP_INVALID"


class CodeInvalid(DomainError):
    """A code from a mail that is wrong, used, too old, or tried too often; which of them is never said."""

    code = "CODE_INVALID"


class AccountLocked(DomainError):
    """Too many wrong tries; `context["retry_after"]` is how many seconds to wait. Known and unknown accounts alike."""

    code = "ACCOUNT_LOCKED"


class RateLimited(DomainError):
    """Too many requests; `context["retry_after"]` says how many seconds to wait."""

    code = "RATE_LIMITED"


class EmailNotVerified(DomainError):
    """The account has to verify its e-mail address first."""

    code = "EMAIL_NOT_VERIFIED"


class ProRequired(DomainError):
    """The practice's plan does not give this."""

    code = "PRO_REQUIRED"


class LastOwner(DomainError):
    """A practice keeps at least one owner."""

    code = "LAST_OWNER"


class Forbidden(DomainError):
    """Who you are is known; the role does not allow this."""

    code = "FORBIDDEN"


class NotFound(DomainError):
    """Missing, or another practice's: the answer is the same."""

    code = "NOT_FOUND"


class Deleted(DomainError):
    """It was here and was deleted; its history can be read and it can be restored."""

    code = "DELETED"


class AlreadyExists(DomainError):
    """The id is taken by something with other content."""

    code = "ALREADY_EXISTS"


class EmailTaken(DomainError):
    """An account with this e-mail address exists."""

    code = "EMAIL_TAKEN"


class VersionRequired(DomainError):
    """A change must name the version it saw."""

    code = "VERSION_REQUIRED"


class StaleVersion(DomainError):
    """`If-Match` named a version that is no longer the head."""

    code = "STALE_VERSION"


class VersionConflict(DomainError):
    """The thing changed since `base_version`; context carries base, head and the caller's fields."""

    code = "VERSION_CONFLICT"


class HeldBack(VersionConflict):
    """A version conflict that keeps what was sent, or a part of it, until someone decides about it."""


class PushConflict(DomainError):
    """A strict push with conflicts in it: nothing of it was kept, and context names all of them."""

    code = "PUSH_CONFLICT"


class RecordSigned(DomainError):
    """Signed content never changes; it can be amended."""

    code = "RECORD_SIGNED"


class WrongState(DomainError):
    """This step does not lead on from the state that the thing is in."""

    code = "WRONG_STATE"


class InvalidCursor(DomainError):
    """A cursor that we did not make, or not for whoever brings it."""

    code = "INVALID_CURSOR"


class ResyncRequired(DomainError):
    """What the device has is of another time than what is here: it must push, and then pull everything anew."""

    code = "RESYNC_REQUIRED"


class Unavailable(DomainError):
    """Something that HealLog needs does not answer; trying again later may work."""

    code = "UNAVAILABLE"


class Contended(Unavailable):
    """Two units of work stood in each other's way and this one was ended: nothing was kept, it can be done again."""

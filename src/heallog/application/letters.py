"""What HealLog writes to people. Plain text, and no link to follow: whoever waits for a code knows where to type it."""

from heallog.application.ports.mail import Letter
from heallog.domain.access import Role
from heallog.domain.codes import Purpose

_FOR = {
    Purpose.VERIFY: ("Your HealLog code", "Type this code to show that this address is yours"),
    Purpose.RESET: ("Your HealLog code", "Type this code to choose a new password"),
}


def code(email: str, purpose: Purpose, digits: str) -> Letter:
    subject, what = _FOR[purpose]
    spaced = f"{digits[:4]} {digits[4:]}"
    text = f"{what}:\n\n    {spaced}\n\nIt is good for ten minutes, once. If you did not ask for it, do nothing.\n"
    return Letter(email, subject, text)


def invitation(email: str, practice: str, inviter: str, role: Role, secret: str) -> Letter:
    text = (
        f"{inviter} asks you to join {practice} as {role}.\n\n"
        f"The code of the invitation, good for seven days, once:\n\n    {secret}\n\n"
        f"If you do not know {practice}, do nothing.\n"
    )
    return Letter(email, f"Join {practice} on HealLog", text)


def password_changed(email: str) -> Letter:
    text = (
        "The password of your HealLog account was changed, and every other device was logged out.\n\n"
        "If that was not you, reset the password now and tell the owner of your practice.\n"
    )
    return Letter(email, "Your HealLog password was changed", text)


def factor_changed(email: str, *, added: bool) -> Letter:
    what = "asks for the code of an authenticator app from now on" if added else "asks for the password alone again"
    text = (
        f"Logging in to your HealLog account {what}.\n\n"
        "If that was not you, reset the password now and tell the owner of your practice.\n"
    )
    return Letter(email, "How you log in to HealLog was changed", text)


def glass_broken(email: str, practice: str, name: str, minutes: int, reason: str) -> Letter:
    text = (
        f"{name} has broken the glass in {practice}: for {minutes} minutes they may do more than their role.\n\n"
        f"The reason given:\n\n{reason}\n\nEverything done meanwhile is marked in the audit trail.\n"
    )
    return Letter(email, f"Broken glass in {practice}", text)

"""Tables in pages say what the program's own tables say."""

from heallog.config import Settings
from heallog.domain.access import EMERGENCY, PERMISSIONS, Permission, Role

from .pages import ROOT

HOWTO = ROOT / "docs" / "howto"


def rows(page: str, heading: str) -> list[list[str]]:
    """The rows of the first table under a heading, without the line below its head."""
    text = (HOWTO / page).read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2]
    table = text[text.index("\n|") :].partition("\n\n|")[0].partition("\n\n")[0]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().splitlines()]
    return [lines[0], *lines[2:]]


def may(role: Role, permission: Permission) -> str:
    if permission in PERMISSIONS[role]:
        return "yes"
    return "glass" if permission in EMERGENCY.get(role, ()) else "no"


def test_what_roles_may_do() -> None:
    head, *lines = rows("practice.md", "Roles")
    assert head == ["", *Role]
    assert {line[0]: line[1:] for line in lines} == {
        f"`{permission}`": [may(role, permission) for role in Role] for permission in Permission
    }


def test_nobody_but_who_may_break_the_glass_gains_by_it() -> None:
    assert all(Permission.BREAK_GLASS in PERMISSIONS[role] for role in EMERGENCY)


def test_how_often_one_may_ask() -> None:
    rates = Settings(_env_file=None).rates or {}
    said = [line[1] for line in rows("accounts.md", "Too many requests")[1:]]
    assert said == [rates[name] for name in ("api", "bulk", "sync", "public", "login", "otp")]

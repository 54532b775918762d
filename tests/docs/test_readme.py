"""The README does what it says, and its settings are the program's."""

import asyncio
import json
import re

from heallog.config import Settings

from .pages import ROOT, Reader, blocks, environment

README = (ROOT / "README.md").read_text(encoding="utf-8")
FIELDS = Settings.model_fields


def settings_in(lines: re.Pattern[str], text: str) -> dict[str, str]:
    return dict(lines.findall(text))


def expected(unset: str) -> dict[str, str]:
    defaults = {name: "on" if field.default is True else field.default for name, field in FIELDS.items()}
    return {
        f"HEALLOG_{name.upper()}": unset if value in {None, ""} else f"{value}".removesuffix(".0")
        for name, value in defaults.items()
    }


def test_the_table_has_every_setting_with_its_default() -> None:
    row = re.compile(r"^\| `(HEALLOG_\w+)` \| `?([^|`]*?)`? \|", re.MULTILINE)
    assert settings_in(row, README) == expected("not set")


def test_the_template_has_every_setting_with_its_default() -> None:
    line = re.compile(r"^(?:# )?(HEALLOG_\w+)=(.*)$", re.MULTILINE)
    assert settings_in(line, (ROOT / ".env.template").read_text(encoding="utf-8")) == expected("")


def test_make_run_is_the_server_with_the_demo() -> None:
    target = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\nrun: ")[2].partition("\n\n")[0]
    assert target.rstrip().endswith("heallog serve --demo")


async def test_make_run_prints_this_and_the_first_request_works(
    newcomer: Reader, own_database: str, port: int, pasting: dict[str, str]
) -> None:
    """The database is one of the tests' server; starting the embedded one is in `docs/howto/run.md`."""
    run, answer = (
        block for block in blocks(README.replace("127.0.0.1:8000", f"127.0.0.1:{port}")) if block.language != "text"
    )
    newcomer.exported["HEALLOG_DATABASE_URL"] = own_database
    started = run.text.replace("make run", "heallog serve --demo", 1)
    try:
        await newcomer.type(started)
        pasted = run.text.partition("A first request to paste:\n")[2]
        shell = await asyncio.create_subprocess_exec(
            *("sh", "-c", pasted), env=environment() | {"PATH": pasting["PATH"]}, stdout=asyncio.subprocess.PIPE
        )
        printed, _ = await shell.communicate()
    finally:
        await newcomer.stop()
    assert list(newcomer.memory.differences(json.loads(answer.text), json.loads(printed))) == []

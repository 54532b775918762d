"""Every how-to does what it says: each block is run and compared (the format is described in `pages.py`)."""

import pytest

from heallog.adapters.embedded import EmbeddedPostgres

from .pages import ROOT, Reader

HOWTO = {page.stem: page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "howto").glob("*.md")}


RUN = HOWTO.pop("run")
SERVED = {page: HOWTO.pop(page) for page in ("accounts", "practice")}
"""Pages that start the server themselves: they read the letters that it prints."""


@pytest.mark.parametrize("page", sorted(HOWTO))
async def test_a_page_does_what_it_says(page: str, reader: Reader) -> None:
    await reader.follow(HOWTO[page])


async def test_running_does_what_it_says(newcomer: Reader, server: EmbeddedPostgres, port: int) -> None:
    """The page names the default port and a database at a usual place; here, both are somewhere else."""
    ours = server.url.partition("?")[2]
    text = RUN.replace("127.0.0.1:8000", f"127.0.0.1:{port}").replace("HEALLOG_PORT=8000", f"HEALLOG_PORT={port}")
    await newcomer.follow(text.replace("@127.0.0.1:5432/clinic", f"@/clinic?{ours}"))


@pytest.mark.parametrize("page", sorted(SERVED))
async def test_a_page_with_letters_does_what_it_says(page: str, resident: Reader, port: int) -> None:
    await resident.follow(SERVED[page].replace("127.0.0.1:8000", f"127.0.0.1:{port}"))

"""`heallog user …` and `heallog practice …`: what the operator does for people whom nobody else can help."""

import asyncio
import sys
from getpass import getpass
from typing import Any

from cyclopts import App

from heallog.domain.access import Plan, Role
from heallog.entrypoints.house import House, find_practice, with_services


def users(house: House) -> App:
    app = App(name="user", help="People who can log in.")

    @app.command
    def create(
        email: str,
        *,
        name: str,
        practice: str | None = None,
        new_practice: str | None = None,
        role: Role = Role.CLINICIAN,
        password_stdin: bool = False,
    ) -> None:
        """Make an account: a member of a practice, or the owner of a new one. The password is asked for.

        For example:

        - `heallog user create ada@example.org --name "Ada Obi" --new-practice Hillside`
        - `heallog user create ben@example.org --name "Ben Ito" --practice Hillside --role assistant`

        Parameters
        ----------
        email: The address to log in with.
        name: The person's name.
        practice: The practice to join, by id or name. Needed where there are several.
        new_practice: The name of a new practice to own.
        role: What the member is: owner, clinician, assistant, auditor.
        password_stdin: Read the password from standard input instead of asking.
        """
        password = sys.stdin.readline().rstrip("\n") if password_stdin else getpass("password: ")

        async def work(services: Any) -> str:
            accounts = services.accounts()
            if new_practice is not None:
                fields = {"email": email, "password": password, "name": name, "practice_name": new_practice}
                registered = await accounts.found(fields)
                return f"{email} owns {registered.practice.name} ({registered.practice.id})"
            async with services.uow() as uow:
                chosen = await find_practice(uow, practice)
            await accounts.join(chosen.id, role, email, password, name)
            return f"{email} is {role} in {chosen.name} ({chosen.id})"

        with house.database() as url:
            house.upgrade(url, "head")
            print(asyncio.run(with_services(house, url, work)))

    @app.command
    def log_out(email: str | None = None, *, everyone: bool = False) -> None:
        """End every session of an account, on every device: something was lost, or somebody left in anger.

        For example:

        - `heallog user log-out ada@example.org`
        - `heallog user log-out --everyone`

        Parameters
        ----------
        email: Whose sessions.
        everyone: Everybody's, in every practice.
        """
        if (email is None) != everyone:
            raise ValueError("name one address, or say --everyone")

        async def work(services: Any) -> int:
            return int(await services.sessions().log_out(email))

        with house.database() as url:
            ended = asyncio.run(with_services(house, url, work))
            print("1 session ended" if ended == 1 else f"{ended} sessions ended")

    @app.command
    def reset_factor(email: str) -> None:
        """Let someone in again who lost the authenticator app and the recovery codes. Make sure who is asking.

        The password alone is asked for then; a lock is lifted, too.

        For example:

        - `heallog user reset-factor ada@example.org`

        Parameters
        ----------
        email: Whose second factor.
        """

        async def work(services: Any) -> None:
            await services.credentials().reset_factor(email)

        with house.database() as url:
            asyncio.run(with_services(house, url, work))
            print(f"{email} logs in with the password alone now")

    return app


def practices(house: House) -> App:
    app = App(name="practice", help="Practices of this installation.")

    @app.command
    def plan(plan: Plan, *, practice: str | None = None) -> None:
        """Set a practice's plan.

        For example:

        - `heallog practice plan pro --practice Hillside`

        Parameters
        ----------
        plan: free or pro.
        practice: The practice, by id or name. Needed where there are several.
        """

        async def work(services: Any) -> str:
            async with services.uow() as uow:
                chosen = await find_practice(uow, practice)
            await services.practices().set_plan(chosen.id, plan)
            return f"{chosen.name} ({chosen.id}) has the plan {plan}"

        with house.database() as url:
            print(asyncio.run(with_services(house, url, work)))

    return app

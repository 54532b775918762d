"""What a request made goes with it, and is not left for the collector: that would look through a push of thousands in
the middle of somebody else's request, and until then the memory would be missing.
"""

import gc
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from .clinic import Clinic
from .devices import METFORMIN, NGOZI, Device, update


async def pushed(device: Device, clinic: Clinic) -> None:
    """Merged, held back, repeated, quarantined."""
    await device.push(
        update("records", "metformin", 1, title="Metformin XR"),
        update("records", "metformin", 1, dose=750),
        update("records", "metformin", 1, dose="much"),
        update("records", "unheard", 1, dose=1),
    )


async def pulled(device: Device, clinic: Clinic) -> None:
    await device.pull()


async def synchronised(device: Device, clinic: Clinic) -> None:
    await device.call("GET", "/v1/sync/watermelon")
    await device.call("POST", "/v1/sync/watermelon", {"records": {"deleted": ["metformin"]}})


async def changed(device: Device, clinic: Clinic) -> None:
    for base in (1, 2, 1, 9):
        await clinic.call("PATCH", "/v1/records/metformin", {"base_version": base, "dose": 600 + base})


async def read(device: Device, clinic: Clinic) -> None:
    for path in ("", "/history", "/versions/1", "/diff?from=1&to=2"):
        await clinic.call("GET", f"/v1/records/metformin{path}")
    await clinic.call("GET", "/v1/patients/ngozi/records")
    await clinic.call("GET", "/v1/patients?search=ngozi")


async def imported(device: Device, clinic: Clinic) -> None:
    patient = {"resourceType": "Patient", "id": "chidi", "name": [{"family": "Obi"}]}
    nobodys = {"resourceType": "Observation", "id": "o-1", "status": "final", "code": {"text": "Weight"}}
    bundle = {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [{"resource": one} for one in (patient, nobodys)],
    }
    answer = await clinic.call("POST", "/v1/import/fhir", bundle)
    assert answer.status_code == 200, answer.text


@pytest.fixture
async def tablet(clinic: Clinic) -> Device:
    return Device(clinic, await clinic.token_for(device="tablet"))


@pytest.mark.parametrize("work", [pushed, pulled, synchronised, changed, read, imported])
async def test_nothing_of_a_request_waits_for_the_collector(
    work: Callable[[Device, Clinic], Awaitable[None]], clinic: Clinic, tablet: Device
) -> None:
    await tablet.push(NGOZI, METFORMIN)
    await clinic.changed("/v1/records/metformin", 1, dose=600)
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        await work(tablet, clinic)
        gc.collect()
        ours: Counter[Any] = Counter(
            type(one).__name__ for one in gc.garbage if type(one).__module__.startswith("heallog")
        )
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert not ours

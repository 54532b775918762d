"""The application in process, as the tests of HTTP have it."""

from tests.http.conftest import another, client, clinic, container, document, new_clinic

__all__ = ["another", "client", "clinic", "container", "document", "new_clinic"]

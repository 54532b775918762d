"""FHIR R4 as something to import: files of a bulk export, Bundles, and what a client posts."""

from heallog.adapters.fhir.reader import FhirBundle, FhirFiles

__all__ = ["FhirBundle", "FhirFiles"]

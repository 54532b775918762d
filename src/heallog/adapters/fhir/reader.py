FhirBundle = None
FhirFiles = None

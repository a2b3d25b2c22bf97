"""Check the RO-Crate of a run folder by the format's own checker, without a network:

    make crate RUN=runs/as_run-smoke

The checker (roc-validator) wants another version of a library than the notebooks, so it lives in an
environment of its own. It would fetch RO-Crate's list of words from the web. Here it gets the list that the
library rocrate carries (version 1.3, which has all of 1.1's words), and nothing else.
"""

import json
import sys
from importlib.resources import files
from io import BytesIO

from requests import PreparedRequest, Response
from requests.adapters import BaseAdapter
from rocrate_validator import services
from rocrate_validator.models import Severity, ValidationSettings
from rocrate_validator.utils.http import HttpRequester

WORDS = json.loads((files("rocrate") / "data" / "ro-crate.jsonld").read_text())
PROFILES = ("ro-crate-1.1", "process-run-crate-0.5")


class Shelf(BaseAdapter):
    "What stands for the web: RO-Crate's words at their addresses, nothing elsewhere."

    def send(self, request: PreparedRequest, **_) -> Response:
        response = Response()
        response.request, response.url = request, request.url
        known = request.url.startswith("https://w3id.org/ro/crate/") and request.url.endswith("/context")
        response.status_code = 200 if known else 404
        response.headers["Content-Type"] = "application/ld+json"
        response.raw = BytesIO(json.dumps(WORDS).encode() if known else b"")
        return response

    def close(self):
        pass


def findings(folder: str, profile: str, severity: Severity) -> list[str]:
    "What the checker says against the crate in `folder`, a line each."
    settings = ValidationSettings(
        rocrate_uri=folder, profile_identifier=profile, requirement_severity=severity, no_cache=True
    )
    requester = HttpRequester.initialize_cache(no_cache=True)
    requester.session.mount("https://", Shelf())
    requester.session.mount("http://", Shelf())
    result = services.validate(settings)
    return [
        f"{issue.severity.name} {issue.check.identifier}: {issue.message}" for issue in result.get_issues()
    ]


def main(folder: str) -> int:
    wrong = 0
    for profile in PROFILES:
        for line in findings(folder, profile, Severity.RECOMMENDED):
            wrong += line.startswith("REQUIRED")
            print(f"{profile}: {line}")
        print(f"{profile}: {'not valid' if wrong else 'valid'}")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

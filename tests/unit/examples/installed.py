"""Builds small installed packages, and runs the review as the workflow does, without a server."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from examples.dependency_review import (
    documentation_digest,
    extract,
    license_review,
    list_packages,
    maintenance_review,
    report,
    verdict,
)
from examples.dependency_review.models import (
    Citation,
    Environment,
    LicenseReview,
    MaintenanceReview,
    Material,
    Report,
    Reviews,
)
from schemas import Gathered

DAY = date(2026, 6, 1)
GOOD = """Metadata-Version: 2.4
Name: {name}
Version: 1.2.3
Summary: Counts things.
Project-URL: Source, https://example.org/{name}
Requires-Python: >=3.10
"""
ABOUT = "\nThis package counts things that nobody else would care to count, and it does so quickly.\n"


def install(
    site: Path, name: str, fields: str = "", files: Mapping[str, str] | None = None, body: str = ABOUT
) -> Path:
    """An installed package with healthy metadata, further header lines, and files beside its METADATA."""
    folder = site / f"{name}-1.2.3.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(GOOD.format(name=name) + fields + body)
    for path, text in (files or {}).items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    return folder


def material(site: Path, name: str, project: str = "Apache-2.0") -> Material:
    """What the extractor reads of one package."""
    environment = Environment(path=str(site), project_license=project, only=[name], as_of=DAY)
    (package,) = list_packages(environment).packages
    found: Material = extract(package)
    return found


def licenses(site: Path, name: str, project: str = "Apache-2.0") -> LicenseReview:
    review: LicenseReview = license_review(material(site, name, project))
    return review


def maintenance(site: Path, name: str) -> MaintenanceReview:
    review: MaintenanceReview = maintenance_review(material(site, name))
    return review


def review_all(environment: Environment) -> Report:
    """The whole workflow; everything that passes between agents goes through JSON, as it does in a run."""
    verdicts = []
    for package in list_packages(environment).packages:
        read = Material.model_validate_json(extract(package).model_dump_json())
        parts = {
            "license_review": license_review(read),
            "maintenance_review": maintenance_review(read),
            "documentation_digest": documentation_digest(read),
        }
        reviews = Reviews.model_validate_json(json.dumps({k: v.model_dump() for k, v in parts.items()}))
        verdicts.append(verdict(reviews))
    found: Report = report(Gathered(results=verdicts))
    return found


def rules(review: Any) -> dict[str, str]:
    """The severity of each rule that found something."""
    return {finding.rule: finding.severity for finding in review.findings}


def assert_supported(citation: Citation) -> None:
    """The cited lines exist, and what is quoted stands there; a sentence may run on below its first line."""
    lines = re.split(r"\r\n|\n|\r", Path(citation.file).read_bytes().decode("utf-8", errors="replace"))
    last = citation.last_line or citation.line
    assert 1 <= citation.line <= last <= len(lines), citation
    here = _letters(" ".join(lines[citation.line - 1 : citation.line + 30]))
    # Links and code are taken out of a sentence, so its words are looked for one by one, in order.
    position = 0
    for word in re.findall(r"[a-z0-9]+", _letters(citation.quote.rstrip("…"))):
        position = here.find(word, position)
        assert position >= 0, (word, citation)


def _letters(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", " ", text.lower())

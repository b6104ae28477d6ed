"""Reviews the open-source packages of a Python environment: licences, maintenance, documentation.

The agents are rules, not models, so the review needs no key and no network, and the same environment gets the
same report every time. Every finding cites the installed file and the line it rests on.

    list_packages >> each package: extract >> (license | maintenance | documentation) >> verdict >> report
"""

from examples.dependency_review.documentation import documentation_digest
from examples.dependency_review.inventory import extract, list_packages
from examples.dependency_review.judgement import report, verdict
from examples.dependency_review.license_review import license_review
from examples.dependency_review.maintenance_review import maintenance_review
from examples.dependency_review.models import Environment, Report
from examples.dependency_review.rendering import render
from orchestrator import each, fan_out, workflow

dependency_review = workflow(
    "dependency-review",
    list_packages
    >> each(
        extract
        >> fan_out(
            license_review, maintenance_review, documentation_digest, join=verdict, require=2, within=60
        ),
        items="packages",
        join=report,
        require="any",
        parallel=16,
        max_items=2_000,
    ),
    description="Reviews the packages installed in a Python environment; every finding cites file and line.",
    timeout=900,
)

__all__ = [
    "Environment",
    "Report",
    "dependency_review",
    "documentation_digest",
    "extract",
    "license_review",
    "list_packages",
    "maintenance_review",
    "render",
    "report",
    "verdict",
]

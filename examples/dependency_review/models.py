"""What the agents of the dependency review hand to each other."""

from __future__ import annotations

from datetime import date
from typing import Literal

from pydantic import BaseModel, Field

from schemas import Gap

Severity = Literal["info", "minor", "major", "critical"]
Tier = Literal["low", "medium", "high"]
SEVERITIES: tuple[Severity, ...] = ("info", "minor", "major", "critical")


class Environment(BaseModel):
    """Which installed packages to review, and for what project."""

    path: str | None = None
    """A virtual environment or a `site-packages` folder; by default the environment this runs in."""
    project_license: str = "Apache-2.0"
    """SPDX id of the licence under which the project that uses the packages is distributed."""
    only: list[str] | None = None
    """Names of the packages to review; by default all of them."""
    limit: int | None = Field(default=None, ge=1)
    """At most so many packages, the first ones by name."""
    as_of: date | None = None
    """The day that ends of life are measured at; by default today."""


class PackageRef(BaseModel):
    """One installed package, and all that its review needs to know of the run."""

    name: str
    version: str
    folder: str
    """Its `*.dist-info` or `*.egg-info`."""
    project_license: str
    as_of: date
    """Read from the clock once per run, so that every branch and every retry sees the same day."""


class Inventory(BaseModel):
    """The packages of an environment, sorted by name."""

    packages: list[PackageRef]
    skipped: list[str] = []
    """What is installed but not reviewed, each with its reason."""


class SourceText(BaseModel):
    """The text of an installed file, from its first line on, cut off at a bound."""

    file: str
    text: str
    truncated: bool = False


class LicenseFile(SourceText):
    """A file with licence terms: the package's own, or those of something that it bundles."""

    bundled: bool = False


class Material(BaseModel):
    """What was read of one package."""

    package: PackageRef
    metadata: SourceText
    """The whole `METADATA`: header fields, an empty line, the description."""
    licenses: list[LicenseFile] = []
    wheel: SourceText | None = None
    """The file `WHEEL`, which names the tool that built the package."""


class Citation(BaseModel):
    """A place in an installed file; for something that is absent, the lines where it would stand."""

    file: str
    line: int = Field(ge=1)
    last_line: int | None = None
    quote: str
    """What stands on `line`, without surrounding blanks, shortened to 160 characters."""


class Finding(BaseModel):
    """One thing found out, and where."""

    rule: str
    """Stable name of the rule, such as `license.conflict`."""
    severity: Severity
    message: str
    citations: list[Citation] = Field(min_length=1)


class Review(BaseModel):
    """What a reviewer found out about one package."""

    package: str
    version: str
    findings: list[Finding]


class LicenseReview(Review):
    """The licence, what it asks for, and whether the project can live with it."""

    license: str
    """SPDX expression; `unknown` when neither text nor metadata tell."""
    declared: str | None
    """What the metadata say, as an SPDX expression or, if it is none, word for word."""
    identified: list[str]
    """SPDX ids of the licences whose text was recognised in the package's own files."""
    obligations: list[str]


class MaintenanceReview(Review):
    """Signs of how well a package is looked after."""

    status: str | None
    """Its `Development Status` classifier."""
    requires_python: str | None
    newest_python: str | None
    """The newest Python version that its classifiers name."""


class DocumentationDigest(Review):
    """What a package says about itself, in its own words."""

    summary: str
    key_sentences: list[Citation]
    sections: list[str]


class Reviews(BaseModel):
    """The fan-out of one package; a reviewer that failed or was late is None and named in `gaps`."""

    license_review: LicenseReview | None = None
    maintenance_review: MaintenanceReview | None = None
    documentation_digest: DocumentationDigest | None = None
    gaps: list[Gap] = []


class Verdict(BaseModel):
    """The judgement on one package."""

    package: str
    version: str
    tier: Tier
    license: str
    summary: str
    reasons: list[str]
    """Why it is not in a lower tier."""
    findings: list[Finding]
    """Most severe first."""
    key_sentences: list[Citation]
    obligations: list[str]
    gaps: list[Gap] = []


class Obligation(BaseModel):
    """Something that licences ask for, and the packages it is owed to."""

    text: str
    packages: list[str]


class Report(BaseModel):
    """The review of an environment: most risky packages first."""

    packages: int
    tiers: dict[Tier, int]
    severities: dict[Severity, int]
    """Findings by severity."""
    licenses: dict[str, int]
    """Packages by licence, most frequent first."""
    verdicts: list[Verdict]
    obligations: list[Obligation]
    gaps: list[Gap] = []
    """Packages (by index) that could not be reviewed."""

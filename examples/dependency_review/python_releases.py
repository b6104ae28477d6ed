"""When Python versions came and ended (devguide.python.org/versions), and how old a build tool is."""

from __future__ import annotations

from datetime import date

RELEASES: dict[str, tuple[date, date]] = {
    "2.6": (date(2008, 10, 1), date(2013, 10, 29)),
    "2.7": (date(2010, 7, 3), date(2020, 1, 1)),
    "3.2": (date(2011, 2, 20), date(2016, 2, 20)),
    "3.3": (date(2012, 9, 29), date(2017, 9, 29)),
    "3.4": (date(2014, 3, 16), date(2019, 3, 18)),
    "3.5": (date(2015, 9, 13), date(2020, 9, 30)),
    "3.6": (date(2016, 12, 23), date(2021, 12, 23)),
    "3.7": (date(2018, 6, 27), date(2023, 6, 27)),
    "3.8": (date(2019, 10, 14), date(2024, 10, 7)),
    "3.9": (date(2020, 10, 5), date(2025, 10, 31)),
    "3.10": (date(2021, 10, 4), date(2026, 10, 31)),
    "3.11": (date(2022, 10, 24), date(2027, 10, 31)),
    "3.12": (date(2023, 10, 2), date(2028, 10, 31)),
    "3.13": (date(2024, 10, 7), date(2029, 10, 31)),
    "3.14": (date(2025, 10, 7), date(2030, 10, 31)),
}
"""First release and end of life; where only the month of the end is known, its last day."""

BUILD_TOOLS: dict[str, dict[tuple[int, ...], int]] = {
    "bdist_wheel": {
        (0, 22): 2013,
        (0, 24): 2014,
        (0, 26): 2015,
        (0, 29): 2016,
        (0, 30): 2017,
        (0, 31): 2018,
        (0, 33): 2019,
        (0, 34): 2020,
        (0, 37): 2021,
        (0, 38): 2022,
        (0, 40): 2023,
        (0, 43): 2024,
    },
    "setuptools": {(70, 1): 2024, (75, 7): 2025},
}
"""The year in which a release of the tool came (pypi.org/project/wheel, pypi.org/project/setuptools)."""


def supported(as_of: date) -> list[str]:
    """The Python versions that receive fixes on this day, oldest first; none when the table is outdated."""
    return [version for version, (begin, end) in RELEASES.items() if begin <= as_of <= end]


def end_of_life(version: str) -> date | None:
    return RELEASES[version][1] if version in RELEASES else None


def build_year(tool: str, version: tuple[int, ...]) -> int | None:
    """The year of the newest listed release that is not newer than `version`."""
    years = [year for release, year in BUILD_TOOLS.get(tool, {}).items() if release <= version]
    return max(years, default=None)

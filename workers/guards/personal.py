"""Personal data by its looks: what has a form, and a checksum wherever there is one."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal, get_args

from orchestrator.masking.kinds import Kind

PersonalKind = Literal["email", "phone", "iban", "card", "national-id", "ip"]
KINDS: tuple[PersonalKind, ...] = tuple(kind for kind in get_args(PersonalKind) if kind != "ip")
"""Those that are looked for by default. An address of the internet is personal data to a court, but to most agents a
part of their work, and looks like a version number: ask for it by name."""


def _digits(text: str) -> str:
    return "".join(c for c in text if c.isdigit())


def luhn(text: str) -> bool:
    """ISO/IEC 7812-1, annex B."""
    doubled = [int(c) * (1 + place % 2) for place, c in enumerate(reversed(_digits(text)))]
    return sum(n - 9 if n > 9 else n for n in doubled) % 10 == 0


def is_card(text: str) -> bool:
    """The lengths and first digits of the great card schemes (ISO/IEC 7812, issuer numbers), and the check digit."""
    digits = _digits(text)
    begins = re.match(r"4(?:\d{12}|\d{15}|\d{18})$|(?:5[1-5]|2[2-7])\d{14}$|3[47]\d{13}$|3[068]\d{12}$"
                      r"|6(?:011|5\d\d|4[4-9]\d)\d{12}$|35\d{14}$|62\d{14,17}$", digits)  # fmt: skip
    return begins is not None and len(set(digits)) > 1 and luhn(digits)


_IBAN_LENGTH = {
    15: "NO", 16: "BE", 18: "DK FI FO GL NL", 19: "MK SI", 20: "AT BA EE KZ LT LU XK", 21: "CH HR LI LV",
    22: "BG BH CR DE GB GE IE ME RS VA", 23: "AE GI IL IQ TL", 24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "LY PT", 26: "IS TR", 27: "FR GR IT MC MR SM", 28: "AL AZ CY DO GT HU LB PL", 29: "BR EG PS QA UA",
    30: "JO KW MU", 31: "MT SC", 32: "LC",
}  # fmt: skip
"""Countries by the characters of their IBAN: SWIFT, IBAN registry."""


def is_iban(text: str) -> bool:
    """ISO 13616: the country's length, and 1 as the rest of a division by 97."""
    packed = "".join(text.split()).upper()
    if packed[:2] not in _IBAN_LENGTH.get(len(packed), "").split():
        return False
    return int("".join(str(int(c, 36)) for c in packed[4:] + packed[:4])) % 97 == 1


def _is_ssn(text: str) -> bool:
    """The Social Security Administration gives out no area 000, 666 or from 900, no group 00, no number 0000."""
    area, group, number = text.split("-")
    return area not in ("000", "666") and area < "900" and group != "00" and number != "0000"


def _is_cpf(text: str) -> bool:
    """Receita Federal: two check digits, modulo 11."""
    digits = [int(c) for c in _digits(text)]
    for end in (9, 10):
        rest = sum(n * (end + 1 - place) for place, n in enumerate(digits[:end])) * 10 % 11 % 10
        if rest != digits[end]:
            return False
    return len(set(digits)) > 1


def _is_dni(text: str) -> bool:
    """Real Decreto 1553/2005: a letter by the rest of a division by 23; a foreigner's begins with X, Y or Z."""
    packed = text.replace("-", "").replace(" ", "").upper()
    number = packed[:-1].translate(str.maketrans("XYZ", "012"))
    return packed[-1] == "TRWAGMYFPDXBNJZSQVHLCKE"[int(number) % 23]


def _is_nir(text: str) -> bool:
    """INSEE: 97 less the rest of a division by 97; Corsica's 2A and 2B count as 19 and 18."""
    packed = text.replace(" ", "").upper()
    body, key = packed[:13].replace("2A", "19").replace("2B", "18"), packed[13:]
    return packed[0] in "12" and 97 - int(body) % 97 == int(key)


_ODD = dict(zip("0123456789", (1, 0, 5, 7, 9, 13, 15, 17, 19, 21), strict=True)) | dict(
    zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23), strict=True)
)  # fmt: skip


def _is_codice_fiscale(text: str) -> bool:
    """Decreto ministeriale 23 December 1976: a letter by the sum of the others, odd places by a table, modulo 26."""
    total = sum(
        _ODD[c] if place % 2 == 0 else (int(c) if c.isdigit() else ord(c) - ord("A"))
        for place, c in enumerate(text[:15].upper())
    )
    return chr(ord("A") + total % 26) == text[15].upper()


def _is_phone(text: str) -> bool:
    """ITU-T E.164: at most 15 digits; shorter ones than 8 are not dialled from abroad."""
    return 8 <= len(_digits(text)) <= 15


def _is_address(text: str) -> bool:
    return all(int(part) < 256 for part in text.split(".")) and not text.startswith(("127.", "0."))


_ENDS = r"(?![\w-]|\.\d)"


def _first(one: str) -> str:
    """The first character, where no word goes on. To look behind only after it is found is five times as fast.

    In JSON, a letter before it may be the end of `\\n`.
    """
    return rf"{one}(?:(?<!\w{one})|(?<=\\[nrtbf]{one}))"


_DIGIT, _LETTER = _first(r"\d"), _first("[A-Z]")


def _personal(
    name: PersonalKind,
    pattern: str,
    *marks: str,
    valid: Callable[[str], bool] | None = None,
    back: str = "",
    needs: Kind | None = None,
) -> Kind:
    before = re.compile(back) if back else None
    return Kind(name, re.compile(pattern), marks, valid=valid, before=before, needs=needs)


_EIGHT = Kind("digits", re.compile(rf"{_DIGIT}(?:[ .-]?[\dAB]){{7}}"))
"""Eight digits, in groups or not."""


PERSONAL: tuple[Kind, ...] = (
    # RFC 5321 as people write it: without quotes and comments
    _personal("email", r"@(?:[a-zA-Z0-9-]{1,63}\.)+[a-zA-Z]{2,24}(?![\w@])", "@", back=r"(?<![/:@])\b[\w.+%-]{1,64}$"),
    _personal("iban", rf"{_LETTER}[A-Z]\d\d(?: ?[A-Z0-9]{{4}}){{2,7}}(?: ?[A-Z0-9]{{1,3}})?{_ENDS}", valid=is_iban),
    _personal("card", rf"{_DIGIT}(?:[ -]?\d){{12,18}}{_ENDS}", needs=_EIGHT, valid=is_card),
    _personal("national-id", rf"{_DIGIT}\d\d-\d\d-\d{{4}}{_ENDS}", needs=_EIGHT, valid=_is_ssn),
    _personal("national-id", rf"{_DIGIT}\d\d\.\d{{3}}\.\d{{3}}-\d\d{_ENDS}", needs=_EIGHT, valid=_is_cpf),
    _personal("national-id", rf"{_DIGIT}\d{{7}}[ -]?[A-HJ-NP-TV-Z]{_ENDS}", needs=_EIGHT, valid=_is_dni),
    _personal("national-id", rf"[XYZ]-?\d{{7}}-?[A-HJ-NP-TV-Z]{_ENDS}", "X", "Y", "Z", valid=_is_dni),
    _personal("national-id", rf"{_DIGIT} ?\d\d ?(?:0[1-9]|1[0-2]) ?(?:\d\d|2[AB]) ?\d{{3}} ?\d{{3}} ?\d\d{_ENDS}",
              needs=_EIGHT, valid=_is_nir),
    _personal("national-id", rf"{_LETTER}[A-Z]{{5}}\d\d[ABCDEHLMPRST]\d\d[A-Z]\d{{3}}[A-Z]{_ENDS}",
              valid=_is_codice_fiscale),
    _personal("phone", r"\+[1-9](?:[ ./()-]{0,2}\d){7,14}(?![\w+/=])", "+", valid=_is_phone),
    _personal("ip", rf"{_DIGIT}\d{{0,2}}(?:\.\d{{1,3}}){{3}}(?![\w.-])", valid=_is_address),
)  # fmt: skip

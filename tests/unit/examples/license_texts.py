"""Licence texts for the tests: the short ones whole, the long ones cut down to how they begin and end."""

from __future__ import annotations

MIT = """MIT License

Copyright (c) 2020 Ada

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY
CLAIM, DAMAGES OR OTHER LIABILITY, ARISING FROM, OUT OF OR IN CONNECTION WITH
THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""
BSD_2 = """Copyright (c) 2020, Ada. All rights reserved.

Redistribution and use in source and binary forms, with or without
modification, are permitted provided that the following conditions are met:

1. Redistributions of source code must retain the above copyright notice, this
   list of conditions and the following disclaimer.
2. Redistributions in binary form must reproduce the above copyright notice,
   this list of conditions and the following disclaimer in the documentation.
{third}
THIS SOFTWARE IS PROVIDED BY THE COPYRIGHT HOLDERS AND CONTRIBUTORS "AS IS" AND
ANY EXPRESS OR IMPLIED WARRANTIES ARE DISCLAIMED. IN NO EVENT SHALL THEY BE
LIABLE FOR ANY DAMAGES, EVEN IF ADVISED OF THE POSSIBILITY OF SUCH DAMAGE.
"""
BSD_3 = BSD_2.format(
    third="""3. Neither the name of Ada nor the names of its contributors may be used to
   endorse or promote products derived from this software without permission.
"""
)
BSD_4 = BSD_2.format(
    third="""3. All advertising materials mentioning features or use of this software must
   display an acknowledgement. 4. Nobody's name may be used to endorse or promote products.
"""
)
BSD_2 = BSD_2.format(third="")
ISC = """Copyright (c) 2020, Ada

Permission to use, copy, modify, and/or distribute this software for any
purpose with or without fee is hereby granted{condition}.

THE SOFTWARE IS PROVIDED "AS IS" AND THE AUTHOR DISCLAIMS ALL WARRANTIES. IN NO
EVENT SHALL THE AUTHOR BE LIABLE FOR ANY DAMAGES ARISING OUT OF OR IN
CONNECTION WITH THE USE OR PERFORMANCE OF THIS SOFTWARE.
"""
ZERO_BSD = ISC.format(condition="")
ISC = ISC.format(
    condition=", provided that the above\ncopyright notice and this permission notice appear in all copies"
)
HPND = """Permission to use, copy, modify and distribute this software and its
documentation for any purpose and without fee is hereby granted, provided that
the above copyright notice appears in all copies. It is provided "as is"
without express or implied warranty.
"""
UNLICENSE = """This is free and unencumbered software released into the public domain.

Anyone is free to copy, modify, publish, use, compile, sell, or distribute it.

For more information, please refer to <https://unlicense.org>
"""
ZLIB = """This software is provided 'as-is', without any express or implied
warranty. In no event will the authors be held liable for any damages.

1. The origin of this software must not be misrepresented.
3. This notice may not be removed or altered from any source distribution.
"""
APACHE = """                                 Apache License
                           Version 2.0, January 2004
                        http://www.apache.org/licenses/

   TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION
   1. Definitions.

   END OF TERMS AND CONDITIONS
"""
MPL = """Mozilla Public License Version 2.0
==================================

1. Definitions

  This Source Code Form is "Incompatible With Secondary Licenses", as
  defined by the Mozilla Public License, v. 2.0.
"""
PSF = """PYTHON SOFTWARE FOUNDATION LICENSE VERSION 2

1. This LICENSE AGREEMENT is between the Python Software Foundation ("PSF"), and
the Individual or Organization accessing and otherwise using this software.

8. By copying, installing or otherwise using Python, Licensee agrees to be bound
by the terms and conditions of this License Agreement.
"""
PYTHON = f"""{PSF}
BEOPEN.COM LICENSE AGREEMENT FOR PYTHON 2.0

CNRI LICENSE AGREEMENT FOR PYTHON 1.6.1

CWI LICENSE AGREEMENT FOR PYTHON 0.9.0 THROUGH 1.2
{HPND}
ARISING OUT OF OR IN CONNECTION WITH THE USE OR PERFORMANCE OF THIS SOFTWARE.
"""
ZPL = BSD_3.replace(
    "THIS SOFTWARE IS",
    "4. This license does not give you the right to use Servicemarks.\n\nTHIS SOFTWARE IS",
)


def gnu(title: str, version: str, ending: str = "END OF TERMS AND CONDITIONS") -> str:
    """A text of the GNU family; the form feed is in the originals."""
    return f"""                    {title}
                       {version}

  Everyone is permitted to copy and distribute verbatim copies.
\f
                       TERMS AND CONDITIONS

  {ending}

            How to Apply These Terms to Your New Programs

    This program is free software: you can redistribute it and/or modify
    it under the terms of the GNU General Public License as published by
    the Free Software Foundation, either version 3 of the License, or
    (at your option) any later version.
"""


GPL_2 = gnu("GNU GENERAL PUBLIC LICENSE", "Version 2, June 1991")
GPL_3 = gnu("GNU GENERAL PUBLIC LICENSE", "Version 3, 29 June 2007")
AGPL_3 = gnu("GNU AFFERO GENERAL PUBLIC LICENSE", "Version 3, 19 November 2007")
LGPL_21 = gnu("GNU LESSER GENERAL PUBLIC LICENSE", "Version 2.1, February 1999")
LGPL_3 = gnu(
    "GNU LESSER GENERAL PUBLIC LICENSE",
    "Version 3, 29 June 2007",
    "permanent authorization for you to choose that version for the Library.",
)
CC0 = """CC0 1.0 Universal

Creative Commons has no duty or obligation with respect to this CC0 or use of the Work.
"""

TEXTS = {
    "MIT": MIT,
    "BSD-2-Clause": BSD_2,
    "BSD-3-Clause": BSD_3,
    "BSD-4-Clause": BSD_4,
    "ISC": ISC,
    "0BSD": ZERO_BSD,
    "HPND": HPND,
    "Unlicense": UNLICENSE,
    "Zlib": ZLIB,
    "Apache-2.0": APACHE,
    "MPL-2.0": MPL,
    "PSF-2.0": PSF,
    "Python-2.0": PYTHON,
    "ZPL-2.1": ZPL,
    "GPL-2.0": GPL_2,
    "GPL-3.0": GPL_3,
    "AGPL-3.0": AGPL_3,
    "LGPL-2.1": LGPL_21,
    "LGPL-3.0": LGPL_3,
    "CC0-1.0": CC0,
}

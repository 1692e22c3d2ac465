"""Values, texts and names that nobody would give, and of which people give one in a thousand."""

import tarfile
from typing import Any

# fmt: off
LENGTHS = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)
"""What writers leave in length fields, and what makes readers allocate too much."""

MAGICS = (
    b"\x89PNG\r\n\x1a\n", b"RIFF\xff\xff\xff\xffWAVEfmt ", b"\x00\x00\x00\x18ftypmp42", b"PK\x03\x04", b"GIF89a",
    b"\xff\xd8\xff\xe0", b"OggS\x00\x02", b"fLaC\x00\x00\x00\x22", b"\x1aE\xdf\xa3", b"ustar\x00", b"\x80\x02}q\x00",
)
"""First bytes of formats."""

SPECIAL_FILES = (
    "missing", "folder", "pipe", "link to itself", "link to nothing", "socket", "huge", "unreadable",
    "link to /dev/zero", "link to /dev/null", "link to its folder",
)

ODDITIES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, -(2**31), 2**31, 2**63, 10**30, 0.5, -0.5, 1e-320, 1e308, -1e308,
    float("nan"), float("inf"), float("-inf"), "", " ", "x", "0", "-1", "nan", "None", "\u4f60\u597d", "a\u0000b",
    "\ud800", "x" * 100_000, "../../x", "/dev/zero", "\u202e\u200b\ufeff", [], {}, [0], [None], [[]], {"": 0},
    {"kind": "x"}, [1e9, 1e9, 1e9],
)
"""Values of JSON and YAML."""

NUMBERS = (
    "-1", "0", "1", "2", "3", "0.5", "-0.0", "nan", ".nan", "inf", "-inf", ".inf", "1e308", "1e-320", "9999999999997",
    "1000000000", "2147483648", "18446744073709551616", "1" * 400, "x", "", " 1", "1_0", "0x10", "\u0661",
)
"""Texts where a number is expected."""

TEXTS = (
    "", " ", "\u2026", "\u4f60\u597d", "caf\u00e9 na\u00efve", "\u202eabc\u202c", "a\u0301" * 40,
    "\U0001f600\U0001f9d1\u200d\U0001f680", "5" * 400, "$" * 50, "1e999", "-0", "1/0", "00:00:61", "31/02/2026",
    "\u2167\u00bd\u00b2", "a" * 10_000, "A." * 500, "\ud800", "\ufffe", "tab\tnew\nline", "\x1b[31mred\x07",
    "%s%n{0}{x}",
    "<b>&amp;</b>", "'; DROP TABLE--", "\u0660\u0661\u0662", "NaN",
)
"""Sentences to be said and captions."""

WORDS = ("0x0", "1x1", "64x", "999999x32", "-32x32", "32x32x32", "nano", "base", "../x", "a=b", "cuda", "all")
"""Values of options that are texts."""

PATHS = (
    "", ".", "/", "~", "-", "a" * 300 + ".mp4", "/proc/self/mem", "/dev/null", "/dev/full", "x/" * 3000, "\udcff.mp4",
    "a/../b.mp4", "out/", "http://127.0.0.1:1/x.mp4", "file:///x", "concat:a|b", "pipe:0", "owner/name", "%d.mp4",
)
FILE_NAMES = ("odd.mp4", "odd.yaml", "odd", "o" * 255, "\u4f60" * 80 + ".mp4", "odd name\n.mp4", "-odd.mp4")

JSON_ODDITIES = (
    b"", b" ", b"null", b"[]", b"{", b"NaN", b'"x"', b"5", b"[" * 50_000, b'{"a":' * 50_000, b"{}", b"\xff\xfe{}",
    b'{"a": 1, "a": 2}', b'{"a": 1e400}', b'{"a": ' + b"9" * 5000 + b"}", b"{} {}", b"{'a': 1}",
)

YAML_ODDITIES = (
    "", " ", "~", "@", "`", "%", "%YAML 9.9\n---\na: 1", "&a [*a]", "*a", "&a", "!!x y", "!!int x", "!!float x",
    "!!python/object/apply:os.mkdir [code_was_run]", "!!timestamp x", "!!binary ?", "!!set {a, b}", "!!omap [a: 1]",
    "!!null x", "!!bool x", "2026-13-45", "2026-02-30", "2026-01-01T25:61:61Z", "190:20:30", "0x", "0b2", "0o9",
    "1_000",
    ".nan", "-.inf", ".inf", "1e400", "9" * 5000, "<<: 5", "<<: [1]", "{<<: 5}", "? [a]\n: b", "{[a]: b}",
    "{{a: b}: c}",
    "{1: 2}", "{null: 1}", "{true: 1}", "[", "{", "'", '"', "|", ">", "- a\n- b", "a: b: c", "\ta: 1",
    "a: 1\n---\nb: 2",
    "...", "---", "\x00", "\x07", "\ufeffa: 1", "\u00ed\u00a0\u00bd", '"\\ud800"', "[" * 3000, "{a: " * 3000,
    "- " * 3000,
    "x" * 200_000, "a: &x [1,1,1,1,1,1,1,1,1]\nb: &y [*x,*x,*x,*x,*x,*x,*x,*x]\nc: [*y,*y,*y,*y,*y,*y]",
    "extends: 5", "extends: []", "extends: nothing", "extends: {}", "extends: ''", "extends: ../x",
    "extends: /dev/zero",
    "kind: 5", "kind: []",
)

MEMBER_NAMES = (
    "../x.json", "/x.json", "", ".", "a/b/{stem}.{ending}", "x" * 300 + ".json", "{stem}.JSON", "\udcff.json",
    "{stem}.",
    ".{ending}", "{stem}", "{stem}.tmp.{ending}", "{stem}\n.{ending}", "\u4f60.{ending}",
)
"""Of a member of an archive, for a sample of a stem and an ending."""
FOREIGN_MEMBERS = ("README", "zzz.txt", "zzz.jpg", "zzz.json", "zzz.mp4", "__MACOSX/._a.json", "zzz.tar")
MEMBER_TYPES = (
    tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.GNUTYPE_SPARSE, b"Z",
)

NO_NUMBERS = {
    "F16": (b"\x00\x7e", b"\x00\x7c"), "BF16": (b"\xc0\x7f", b"\x80\x7f"), "F32": (b"\0\0\xc0\x7f", b"\0\0\x80\x7f"),
}
"""NaN and infinity by data type of safetensors."""
# fmt: on

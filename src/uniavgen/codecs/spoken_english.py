"""Writes English numbers, money, units, dates, times and abbreviations as the words that are said.

A speech model reads characters: it has learned "five dollars", not "$5". `spoken_english` rewrites a sentence rule by
rule; every rule replaces what it matches by words without digits, so a later rule never sees the result of an earlier
one. Cardinals, ordinals and years come from num2words; what is ours is the grammar around them. [ours]
"""

import re
from collections.abc import Callable
from functools import cache, partial

from uniavgen.codecs.english_tables import (
    ABBREVIATIONS,
    BARE_TITLES,
    CURRENCIES,
    CURRENCY_CODES,
    DAYS,
    DOMAINS,
    DOTTED,
    FRACTION_SIGNS,
    MONTH_PATTERN,
    MONTHS,
    NAMED_NUMBERS,
    NUMBER,
    NUMBERED,
    PLACES,
    RATES,
    ROMAN,
    RULERS,
    SAME_PLURAL,
    SCALES,
    SENTENCE_STARTS,
    TITLES,
    UNITS,
    VERSIONED,
)
from uniavgen.codecs.number_words import cardinal, digits, ordinal, year

Rule = tuple[re.Pattern[str], Callable[[re.Match[str]], str]]


def spoken_english(text: str) -> str:
    """Returns `text` with everything written in figures, signs or abbreviations as words.

    "It costs $5.20 on March 3rd." becomes "It costs five dollars twenty on March third." A text without such parts is
    returned unchanged.
    """
    for pattern, replace in _rules():
        text = pattern.sub(partial(_begin_sentence, replace), text)
    return re.sub(r" {2,}", " ", text).strip()


def _begin_sentence(replace: Callable[[re.Match[str]], str], match: re.Match[str]) -> str:
    """Returns the words of a match, with a capital where they begin a sentence."""
    words = replace(match)
    before = match.string[: match.start()]
    ended = re.search(r"(\w*)[.!?]\s+$", before)
    starts = not before.strip(" \"'(") or (
        ended and (ended[1] == "etc" or not {ended[1], ended[1].lower()} & {*ABBREVIATIONS})
    )
    return words[:1].upper() + words[1:] if starts and words != match[0] else words


def _amount(number: str, scale: str | None) -> str:
    return cardinal(number) + (f" {SCALES[scale.lower()]}" if scale else "")


def _plural(unit: str, number: str) -> str:
    """Returns the unit after a number: singular after 1 alone, `feet`, `inches` and `hertz` as English has them."""
    if number in ("1", "-1") or unit in SAME_PLURAL:
        return unit
    head, per, rest = unit.partition(" per ")
    words = head.split(" ")
    # "degree Celsius" and "kilowatt hour" differ in which word takes the plural.
    at = 0 if words[0] == "degree" else -1
    words[at] = {"foot": "feet", "inch": "inches", "hertz": "hertz"}.get(words[at], words[at] + "s")
    return " ".join(words) + per + rest


def _is_attribute(match: re.Match[str]) -> bool:
    """Returns whether an amount stands between an article and a noun, or is joined to it: a five kilometer run."""
    before, after = match.string[: match.start()], match.string[match.end() :]
    return re.search(r"\b[Aa]n?\s$", before) is not None and re.match(rf"[ -](?!{_NO_NOUNS})[a-z]", after) is not None


def _money(match: re.Match[str]) -> str:
    minus = "minus " if "-" in match[0] or "\u2212" in match[0] else ""
    return minus + _money_words(match["sign"], match["number"], match["scale"], _is_attribute(match))


def _money_range(match: re.Match[str]) -> str:
    sign, low, high = match["sign"], match["low"], match["number"]
    if "." in low + high and not match["scale"]:
        return f"{_money_words(sign, low, match['first'])} to {_money_words(sign, high, None)}"
    return f"{_amount(low, match['first'])} to {_money_words(sign, high, match['scale'], _is_attribute(match))}"


def _money_words(sign: str, number: str, scale: str | None, is_attribute: bool = False) -> str:
    one, many, hundredth = CURRENCIES[sign]
    many = one if is_attribute else many
    plain = number.replace(",", "")
    whole, _, decimals = plain.partition(".")
    if scale:
        return f"{_amount(number, scale)} {many}"
    if len(decimals) != 2 or not hundredth:
        return f"{cardinal(number)} {one if plain == '1' else many}"
    cents = int(decimals)
    if int(whole) == 0 and cents:
        return f"{cardinal(str(cents))} {_hundredth(hundredth, cents)}"
    words = f"{cardinal(whole)} {one if int(whole) == 1 else many}"
    if 0 < cents < 10:
        return f"{words} and {cardinal(str(cents))} {_hundredth(hundredth, cents)}"
    return f"{words} {cardinal(str(cents))}" if cents else words


def _cents(match: re.Match[str]) -> str:
    count = 1 if _is_attribute(match) else int(float(match[1].replace(",", "")))
    return f"{cardinal(match[1])} {_hundredth('cent', count)}"


def _hundredth(name: str, count: int) -> str:
    if name == "p":
        return "penny" if count == 1 else "pence"
    return name if count == 1 else {"paisa": "paise"}.get(name, f"{name}s")


_NO_NOUNS = r"(?:a|an|and|as|at|but|by|for|from|if|in|is|of|off|on|or|per|than|the|to|was|when|with)\b"


def _clock(match: re.Match[str]) -> str:
    hour, minute, half = int(match["hour"]), match["minute"], match["half"]
    suffix = f" {half[0].upper()}M" if half else ""
    if match[0].endswith(".") and re.match(rf"\s+({SENTENCE_STARTS})\b", match.string[match.end() :]):
        suffix += "."
    if minute is None or int(minute) == 0:
        whole = cardinal(str(hour))
        if suffix:
            return whole + suffix
        return f"{whole} o'clock" if 1 <= hour <= 12 else f"{whole} hundred hours"
    minutes = f"oh {cardinal(str(int(minute)))}" if int(minute) < 10 else cardinal(minute)
    seconds = match["second"]
    tail = f" and {cardinal(str(int(seconds)))} {_plural('second', str(int(seconds)))}" if seconds else ""
    return f"{cardinal(str(hour))} {minutes}{tail}{suffix}"


def _date_words(day: int, month: int, number: int | None) -> str:
    tail = f", {year(number)}" if number is not None else ""
    return f"{MONTHS[month - 1]} {ordinal(day)}{tail}"


def _numeric_date(match: re.Match[str]) -> str:
    """Reads a date with the month first as in America, unless that cannot be."""
    first, second, number = int(match[1]), int(match[3]), int(match[4])
    month, day = (second, first) if first > 12 or match[2] == "." else (first, second)
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return match[0]
    if len(match[4]) == 2:
        number += 2000 if number < 50 else 1900
    return _date_words(day, month, number)


def _iso_date(match: re.Match[str]) -> str:
    number, month, day = (int(part) for part in match.groups())
    return _date_words(day, month, number) if 1 <= month <= 12 and 1 <= day <= 31 else match[0]


def _month(text: str) -> str:
    return next(name for name in MONTHS if name.startswith(text[:3]))


def _month_day(match: re.Match[str]) -> str:
    day = int(match["day"])
    if not 1 <= day <= 31:
        return match[0]
    tail = f", {year(int(match['year']))}" if match["year"] else ""
    return f"{_month(match['month'])} {ordinal(day)}{tail}"


def _month_days(match: re.Match[str]) -> str:
    """Reads a range of days: March third to fifth."""
    first, last = int(match["day"]), int(match["last"])
    if not 1 <= first < last <= 31:
        return match[0]
    tail = f", {year(int(match['year']))}" if match["year"] else ""
    return f"{_month(match['month'])} {ordinal(first)} to {ordinal(last)}{tail}"


def _day_month(match: re.Match[str]) -> str:
    day = int(match["day"])
    if not 1 <= day <= 31:
        return match[0]
    the = "" if match["the"] else "the "
    tail = f", {year(int(match['year']))}" if match["year"] else ""
    return f"{match['the'] or the}{ordinal(day)} of {_month(match['month'])}{tail}"


def _decade(match: re.Match[str]) -> str:
    digits = match[1]
    words = year(int(digits)) if len(digits) == 4 else cardinal(digits)
    # "hundreds" for 1900s, "thousands" for 2000s, "nineties" for the rest
    return words[:-1] + "ies" if words.endswith("y") else words + "s"


def _fraction(match: re.Match[str]) -> str:
    whole, top, bottom = match[1], int(match[2]), int(match[3])
    if whole is None and (top, bottom) in ((50, 50), (24, 7), (9, 11), (20, 20)):
        return f"{cardinal(match[2])} {cardinal(match[3])}"
    if bottom < 2 or top >= bottom or bottom > 100:
        words = f"{cardinal(match[2])} over {cardinal(match[3])}" if bottom else match[0]
        return words if whole is None else f"{cardinal(whole)} {words}"
    name = {2: "half", 4: "quarter"}.get(bottom, ordinal(bottom))
    if top > 1:
        name = {"half": "halves"}.get(name, f"{name}s")
    count = ("a" if bottom in (2, 4) else "one") if whole is not None and top == 1 else cardinal(str(top))
    words = f"{count} {name}"
    return words if whole is None else f"{cardinal(whole)} and {words}"


def _unit(match: re.Match[str]) -> str:
    unit = UNITS[match["unit"]]
    minus = "minus " if match["minus"] else ""
    low = f"{cardinal(match['low'])} to " if match["low"] else ""
    is_single = match["joint"] == "-" or _is_attribute(match)
    counted = "1" if is_single else match["number"]
    return f"{minus}{low}{_amount(match['number'], match['scale'])} {_plural(unit, counted)}"


def _rate(match: re.Match[str]) -> str:
    """Reads a slash as `per`, unless it belongs to a unit that has words of its own: Mbit/s."""
    has_words = match[0].lstrip("0123456789., ") in UNITS
    return match[0] if has_words else f"{match[1]} per {RATES[match['per']]}"


def _mixed_unit(match: re.Match[str]) -> str:
    """Reads a unit behind a fraction: two and a half kilometers."""
    if match["unit"] == "%":
        return f"{_fraction(match)} percent"
    return f"{_fraction(match)} {_plural(UNITS[match['unit']], '2' if match[1] else '1')}"


def _day_of_week_date(match: re.Match[str]) -> str:
    month, day = int(match["m"]), int(match["d"])
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return match[0]
    day_of_week = DAYS.get(match[1].rstrip("."))
    return (f"{day_of_week}, " if day_of_week else f"{match[1]} ") + _date_words(day, month, None)


def _name_in_figures(digits: str) -> str:
    """Reads a name of three or four digits: seven forty-seven, one oh one, twelve oh-four."""
    if len(digits) == 4:
        return year(int(digits))
    tens = int(digits[1:])
    if tens == 0:
        return cardinal(digits)
    return f"{cardinal(digits[0])} {'oh ' if tens < 10 else ''}{cardinal(str(tens))}"


def _acronym(match: re.Match[str]) -> str:
    return match[0].replace(".", "") + ("." if _ends_sentence(match) else "")


def _ends_sentence(match: re.Match[str]) -> bool:
    """Returns whether the period at the end of a match ends a sentence, as far as the next word tells."""
    after = match.string[match.end() :]
    return not after.strip() or re.match(rf"\s+({SENTENCE_STARTS})\b", after) is not None


def _power(match: re.Match[str]) -> str:
    named = {"2": " squared", "3": " cubed", "\u00b2": " squared", "\u00b3": " cubed"}
    return named.get(match[1].lstrip("^"), f" to the power of {match[1].lstrip('^')}")


def _phone(match: re.Match[str]) -> str:
    groups = re.findall(r"\d+", match[0])
    plus = "plus " if match[0].lstrip().startswith("+") else ""
    return plus + ", ".join(digits(group, zero="oh") for group in groups)


def _address(match: re.Match[str]) -> str:
    spoken = {".": " dot ", "@": " at ", "/": " slash ", "-": " dash ", "_": " underscore ", ":": " colon "}
    text = re.sub(r"^https?://", "", match[0])
    tail = ""
    while text and text[-1] in ".,/":  # the end of the sentence, not of the address
        tail, text = ("" if text[-1] == "/" else text[-1]) + tail, text[:-1]
    return "".join(spoken.get(character, character) for character in text) + tail


def _abbreviation(match: re.Match[str]) -> str:
    name, after = match[1], match.string[match.end() :]
    words = _like(name, ABBREVIATIONS.get(name) or ABBREVIATIONS[name.lower()])
    # Behind anything but a title, a capital letter or the end of the text begins a new sentence.
    ends = not {name, name.lower()} & TITLES and (not after.strip() or re.match(r"\s+[\"']?[A-Z]", after) is not None)
    if name in ("Jr", "Sr", "Ave", "Rd", "Blvd", "Inc", "Ltd", "Corp", "Co") and after.strip():
        ends = False
    return words + ("." if ends else "")


def _like(written: str, words: str) -> str:
    """Returns `words` with a capital where `written` begins with one."""
    return words[:1].upper() + words[1:] if written[:1].isupper() else words


def _saint_or_street(match: re.Match[str]) -> str:
    before, after = match.string[: match.start()], match.string[match.end() :]
    if re.match(r"\s+[A-Z]", after) and not re.search(r"[A-Z\d][\w']*\s$", before):
        return "Saint"
    return "Street" + ("" if re.match(r"\s+[a-z]|,", after) else "." if not after.strip() or match[0] == "St." else "")


def _bare_number(match: re.Match[str]) -> str:
    """Spells out a number that no other rule took: four digits without a separator are read as a year."""
    minus = "minus " if match["minus"] else ""
    number = match["number"]
    if re.fullmatch(r"1[1-9]\d\d|20[1-9]\d", number) and not minus:
        return year(int(number))
    return minus + cardinal(number)


_RELATIONS = {
    "<": "is less than", ">": "is greater than", "\u2264": "is at most", "\u2265": "is at least",
    "\u2248": "is about", "\u2260": "is not", "\u00b1": "plus or minus",
}  # fmt: skip
"""Signs between figures or names."""


@cache
def _rules() -> tuple[Rule, ...]:
    """Returns the rules in their order: the more a pattern asks for, the earlier it comes."""
    flags = re.UNICODE
    number, signs = NUMBER, "|".join(re.escape(sign) for sign in sorted(CURRENCIES, key=len, reverse=True))
    scale = r"(?:\s?(?P<scale>k|K|mn|bn|tn|thousand|million|billion|trillion|M|B)\b)?"
    units = "|".join(re.escape(unit) for unit in sorted(UNITS, key=len, reverse=True))
    days, rates = ("|".join(sorted(table, key=len, reverse=True)) for table in (DAYS, RATES))
    abbreviations = {*ABBREVIATIONS} | {name.capitalize() for name in ABBREVIATIONS}
    codes, minus = "|".join(CURRENCY_CODES), r"(?:(?<![\w.,])(?P<minus>[-\u2212]))?"
    year4 = r"(?P<year>1\d{3}|20\d\d)"

    def rule(pattern: str, replace: Callable[[re.Match[str]], str], extra: int = 0) -> Rule:
        return re.compile(pattern, flags | extra), replace

    return (
        rule("[" + "".join(FRACTION_SIGNS) + "]", lambda m: f" {FRACTION_SIGNS[m[0]]}"),
        rule(rf"(?:https?://\S+|www\.\S+|[\w.+-]+@[\w-]+(?:\.[\w-]+)+|\b[\w-]+(?:\.[\w-]+)*\.(?:{DOMAINS})\b(?:/\S*)?)",
             _address),
        rule("|".join(rf"(?<![\w.]){re.escape(name)}" for name in sorted(DOTTED, key=len, reverse=True)),
             lambda m: DOTTED[m[0]] + ("." if m[0][0].isupper() and _ends_sentence(m) else "")),
        rule(r"\bSt\.(?!\w)", _saint_or_street),
        rule(r"\b[Nn]os?\.\s?(?=\d)", lambda m: "Number " if m[0][0] == "N" else "number "),
        rule(rf"(?<!\d )(?<!\d)\b({'|'.join(PLACES)})\.\s?(?=\d)",
             lambda m: _like(m[1], PLACES[m[1].lower()]) + " ", re.IGNORECASE),
        rule(rf"\b({days})\.?\s?-\s?({days})\b", lambda m: f"{DAYS[m[1]]} to {DAYS[m[2]]}"),
        rule(rf"\b({days}|[Oo]n)\b\.?,?\s+(?P<m>\d{{1,2}})/(?P<d>\d{{1,2}})(?![\d/])(?!\s+of\b)", _day_of_week_date),
        rule(rf"\b({VERSIONED})\s+(\d+)\.([1-9]\d*)\b(?!\.\d)",
             lambda m: f"{m[1]} {cardinal(m[2])} point {cardinal(m[3])}"),
        rule(rf"\b({NAMED_NUMBERS})\s+([1-9]\d{{2,3}})\b", lambda m: f"{m[1]} {_name_in_figures(m[2])}"),
        rule(r"\b([Dd]ial|[Cc]all|[Tt]ext)\s+(\d{3,6})\b(?=\s*(?:[.,;!?]|$|(?:for|if|now|or|and|when|in)\b))",
             lambda m: f"{m[1]} {digits(m[2])}"),
        rule(rf"\b({NUMBERED})\s+({'|'.join(sorted(ROMAN, key=len, reverse=True))}|I)\b",
             lambda m: f"{m[1]} {cardinal(str(ROMAN.get(m[2], 1)))}"),
        rule(rf"\b({RULERS})\s+({'|'.join(sorted(ROMAN, key=len, reverse=True))})\b",
             lambda m: f"{m[1]} the {ordinal(ROMAN[m[2]])}"),
        # Before seconds are thought of: the 1980s.
        rule(r"(?<=\d's)\s?-\s?(?='?\d0'?s\b)|(?<=\ds)\s?-\s?(?='?\d0'?s\b)", lambda _: " to "),
        rule(r"\b(\d{3}0)'?s\b", _decade),
        rule(r"(?<!\w)'?(\d0)'?s\b", _decade),
        # Numbers of telephones, dates and times, before their separators mean anything else.
        rule(r"(?<![\w-])(?:\+\d{1,3}[ .-]?|1[-. ](?=\(?\d{3}\D))?"
             r"(?:\(\d{3}\)\s?|\d{3}[-. ])?\d{3}[-.]\d{4}(?![\w-])", _phone),
        rule(r"(?<![\w-])0\d{2,4}(?:[ -]\d{3,4}){1,3}(?![\w-])", _phone),
        rule(r"(?<![\w-])\+\d{1,3}(?:[ -]\d{2,5}){2,5}(?![\w-])", _phone),
        rule(r"(?<![\d/.-])(\d{4})-(\d{2})-(\d{2})(?![\d/-])", _iso_date),
        rule(r"(?<![\d/.-])(\d{1,2})([/.])(\d{1,2})\2(\d{4}|\d{2})(?![\d/]|\.\d)", _numeric_date),
        rule(r"\b(1[1-9]|20)(\d\d)\s?[-/]\s?(\d\d)\b(?![\d/-])",
             lambda m: f"{year(int(m[1] + m[2]))} to {cardinal(m[3])}" if m[3] > m[2] else m[0]),
        rule(rf"\b{MONTH_PATTERN}\s+(?P<day>\d{{1,2}})(?:st|nd|rd|th)?\s?-\s?(?P<last>\d{{1,2}})(?:st|nd|rd|th)?\b"
             rf"(?:,?\s+{year4}\b)?", _month_days),
        rule(rf"\b{MONTH_PATTERN}\s+(?P<day>\d{{1,2}})(?:st|nd|rd|th)?\b(?:,?\s+{year4}\b)?(?!\s?[:%])", _month_day),
        rule(rf"\b(?P<the>[Tt]he\s+)?(?P<day>\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?{MONTH_PATTERN}(?!\w)"
             rf"(?:,?\s+{year4}\b)?", _day_month),
        rule(r"(?<=\d)(:\d\d)?(\s?[ap]\.?m\b\.?)?\s?-\s?(?=\d{1,2}(?::\d\d)?\s?[ap]\.?m\b)",
             lambda m: f"{m[1] or ''}{m[2] or ''} to ", re.IGNORECASE),
        rule(r"(?<=\d:\d\d)\s?-\s?(?=\d{1,2}:\d\d)", lambda _: " to "),
        rule(r"\b(\d{1,2})\.([0-5]\d)(?=\s?[ap]\.?m\b)", lambda m: f"{m[1]}:{m[2]}", re.IGNORECASE),
        rule(r"(?<![\d:])(?P<hour>[01]?\d|2[0-3]):(?P<minute>[0-5]\d)(?::(?P<second>[0-5]\d))?"
             r"(?:\s?(?P<half>[ap])(?:\.m\b\.?|m\b)(?=[,;!?.)-]|$|\s))?(?![\d:])", _clock, re.IGNORECASE),
        rule(r"(?<![\d:.,])(?P<hour>1[0-2]|[1-9])(?P<minute>(?!))?(?P<second>(?!))?\s?(?P<half>[ap])(?:\.m\b\.?|m\b)",
             _clock, re.IGNORECASE),
        rule(r"\b(?:[A-Z]\.){2,}(?!\w)", _acronym),
        rule(rf"({number}(?:\s?[^\W\d_]+|\s?[€£₹¥%])?)\s?/\s?(?P<per>{rates})(?!\w)", _rate),
        # Money. Europeans write the cents behind a comma.
        rule(r"(?<=[€£$])\.(?=\d\d\b)", lambda _: "0."),
        rule(r"(€\s?\d+),(\d\d)(?!\d)", lambda m: f"{m[1]}.{m[2]}"),
        rule(r"(\d),(\d\d)(?=\s?(?:€|EUR\b))", lambda m: f"{m[1]}.{m[2]}"),
        rule(rf"(?P<sign>{signs})\s?(?P<low>{number})(?:\s?(?P<first>k|K|mn|bn|tn|thousand|million|billion|M|B)\b)?\s?-\s?"
             rf"(?:(?P=sign)\s?)?(?P<number>{number}){scale}(?![\d])", _money_range),
        rule(rf"{minus}(?P<sign>{signs})\s?(?:-(?=\d))?(?P<number>{number}){scale}(?![\d])", _money),
        rule(rf"{minus}(?P<number>{number}){scale}\s?(?P<sign>[€£₹¥])(?!\d)", _money),
        rule(rf"\b(?P<code>{codes})\s?(?P<number>{number}){scale}",
             lambda m: _money_words(CURRENCY_CODES[m["code"]], m["number"], m["scale"])),
        rule(rf"(?<![\w.])(?P<number>{number}){scale}\s?(?P<code>{codes})\b",
             lambda m: _money_words(CURRENCY_CODES[m["code"]], m["number"], m["scale"])),
        rule(rf"({number})\s?¢", _cents),
        # Shares, units, sizes.
        rule(rf"(?<![\w/.])(?:(\d+)\s+)?(\d+)\s?[/\u2044]\s?(\d+)[\s-]?(?P<unit>%|{units})(?![\w²³/'])", _mixed_unit),
        rule(rf"{minus}(?:(?P<low>{number})\s?%?\s?-\s?)?(?P<number>{number})\s?%",
             lambda m: ("minus " if m["minus"] else "") + (f"{cardinal(m['low'])} to " if m["low"] else "")
             + f"{cardinal(m['number'])} percent"),
        rule(rf"({number})\s?‰", lambda m: f"{cardinal(m[1])} per mille"),
        rule(r"\b(\d)'(?=\s+(?:tall|long|wide|deep|high)\b)", lambda m: f"{cardinal(m[1])} {_plural('foot', m[1])}"),
        rule(r"\b(\d)'\s?(\d{1,2})(?:\"|''|\b(?!\w))",
             lambda m: f"{cardinal(m[1])} {_plural('foot', m[1])} {cardinal(m[2])} {_plural('inch', m[2])}"),
        rule(r"\b(\d)\s?(?:ft|feet)\.?\s+(\d{1,2})\s?in\b\.?",
             lambda m: f"{cardinal(m[1])} {_plural('foot', m[1])} {cardinal(m[2])} {_plural('inch', m[2])}"),
        rule(rf"(?<![\w.])({number})[\s-]?in\.(?=\s+[a-z]|\s*[,;)]|\s*$)",
             lambda m: f"{cardinal(m[1])} {_plural('inch', m[1])}" + ("" if m.string[m.end():].strip() else ".")),
        rule(r"\b(\d+(?:\.\d+)?)\"(?!\w)", lambda m: f"{cardinal(m[1])} {_plural('inch', m[1])}"),
        rule(rf"(?<=\d)((?:\s?(?:{units}))?)\s?[x\u00d7]\s?(?=\d)", lambda m: f"{m[1]} by "),
        rule(rf"{minus}(?<![\w.,])(?:(?P<low>{number})\s?-\s?)?(?P<number>{number})(?:\s(?P<scale>million|billion))?"
             rf"(?P<joint>\s|-)?(?P<unit>{units})(?![\w²³/])(?:\.(?=\s+[a-z]|\s*[,;)]|\s+\d+\s?(?:{units})\b))?",
             _unit),
        rule(rf"(?<!\w)({number})x(?!\w)", lambda m: f"{cardinal(m[1])} times"),
        # Sums, before their signs mean ranges and fractions.
        rule(r"(?<=\d)\s[-\u2212]\s(?=\d+(?:\s?[-+*/\u00d7÷\u2212]\s?\d+)*\s?=)", lambda _: " minus "),
        rule(r"(?<=\d)\s?/\s?(?=\d+\s?=)", lambda _: " divided by "),
        # Ordinals, fractions, ranges.
        rule(r"\b(\d{1,3}(?:,\d{3})+|\d+)(?:st|nd|rd|th)\b", lambda m: ordinal(int(m[1].replace(",", "")))),
        rule(r"(?<![\w/])(\d+\.\d+)\s?/\s?(\d+)(?![\w/])", lambda m: f"{cardinal(m[1])} out of {cardinal(m[2])}"),
        rule(r"(?<![\w/.])(?:(\d+)\s+)?(\d+)\s?[/\u2044]\s?(\d+)(?![\w/])", _fraction),
        rule(r"\b(1[1-9]\d\d|20\d\d)\s?-\s?(1[1-9]\d\d|20\d\d)\b", lambda m: f"{year(int(m[1]))} to {year(int(m[2]))}"),
        rule(rf"(?<![\w-])({number})\s?-\s?({number})(?![\w-])", lambda m: f"{cardinal(m[1])} to {cardinal(m[2])}"),
        rule(r"\b(\d+):(\d+)\b", lambda m: f"{cardinal(m[1])} to {cardinal(m[2])}"),
        rule(r"\b(in|In|since|Since|by|By|from|From|of|until|Until|before|after|year|during|During)\s+(20\d\d|1[1-9]\d\d)\b"
             r"(?![.,]\d)", lambda m: f"{m[1]} {year(int(m[2]))}"),
        rule(r"\bFY\s?(20\d\d)\b", lambda m: f"FY {year(int(m[1]))}"),
        rule(r"\b(1\d{3})\s?(?=(?:AD|CE|BC|BCE)\b)", lambda m: f"{year(int(m[1]))} "),
        rule(r"(?<=\w\s)'(\d\d)\b(?!.*'(?!\w))",
             lambda m: f"oh {cardinal(m[1][1])}" if m[1][0] == "0" else cardinal(m[1])),
        # Signs.
        rule(r"(?<=[\w)])(\^\d+|[\u00b2\u00b3])", _power),
        *(rule(rf"(?<=[\w)])\s?{sign}\s?(?=[\w(-])", lambda _, words=words: f" {words} ")
          for sign, words in _RELATIONS.items()),
        rule(r"\u00b1\s?(?=\d)", lambda _: "plus or minus "),
        rule(r"(?<=[A-Za-z])\+\+", lambda _: " plus plus"),
        rule(r"(?<=\w)\+(?=\w)", lambda _: " plus "),
        rule(r"#\s?(?=\d)", lambda _: "number "),
        rule(r"#(?=[A-Za-z])", lambda _: "hashtag "),
        rule(r"(?<=\w)\s\+\s(?=\w)|(?<=\d)\+(?=\d)", lambda _: " plus "),
        rule(r"(?<=\d)\+", lambda _: " plus"),
        rule(r"(?<=[\dA-Za-z])\s?=\s?(?=[\dA-Za-z-])", lambda _: " equals "),
        rule(r"(?<=\d)\s?[*\u00d7]\s?(?=\d)", lambda _: " times "),
        rule(r"(?<=\d)\s?÷\s?(?=\d)", lambda _: " divided by "),
        rule(r"~\s?(?=\d)", lambda _: "about "),
        rule(r"\s?&\s?", lambda _: " and "),
        rule(r"\bw/o\b", lambda _: "without"),
        rule(r"\bw/(?=\s)", lambda _: "with"),
        rule(r"(?<=\s)@(?=\s)", lambda _: "at"),
        rule(r"([A-Za-z]+)/([A-Za-z]+)\b", lambda m: f"{m[1]} or {m[2]}" if m[0].lower() == "and/or" else m[0]),
        # Versions, then whatever figures are left, also within words (A4, 3D).
        rule(r"(?<![\w.,])(\d+\.\d+[KMB]|\d+M)\b", lambda m: _amount(m[1][:-1], m[1][-1])),
        rule(r"(?<![\w.])v?(\d+(?:\.\d+){2,})(?!\w)", lambda m: " point ".join(cardinal(p) for p in m[1].split("."))),
        rule(rf"(?:(?<![\w.,)])(?P<minus>[-\u2212]))?(?<![\d.])(?P<number>{number})(?=[^\W\d_])",
             lambda m: (" " if m.string[: m.start()][-1:].isalpha() else "") + ("minus " if m["minus"] else "")
             + cardinal(m["number"]) + " "),
        rule(rf"(?<=[^\W\d_])-?(?P<number>{number})", lambda m: " " + cardinal(m["number"])),
        rule(rf"(?:(?<![\w.,)])(?P<minus>[-\u2212]))?(?P<number>{number})(?:\s?(?P<scale>thousand|million|billion|trillion|mn|bn|tn)\b)?",
             lambda m: _bare_number(m) if not m["scale"] else f"{'minus ' if m['minus'] else ''}"
             f"{_amount(m['number'], m['scale'])}"),
        rule(r"\.(?=\d)", lambda _: "point "),
        rule(rf"\b({'|'.join(sorted(abbreviations, key=len, reverse=True))})\.(?!\w)", _abbreviation),
        rule(rf"\b({'|'.join(BARE_TITLES)})(?=\s+[A-Z])", lambda m: _like(m[1], BARE_TITLES[m[1]])),
    )  # fmt: skip

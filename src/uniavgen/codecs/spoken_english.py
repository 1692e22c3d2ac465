"""Writes English numbers, money, units, dates, times and abbreviations as the words that are said.

A speech model reads characters: it has learned "five dollars", not "$5". `spoken_english` rewrites a sentence rule by
rule; every rule replaces what it matches by words without digits, so a later rule never sees the result of an earlier
one. Cardinals, ordinals and years come from num2words; what is ours is the grammar around them. [ours]
"""

import re
from collections.abc import Callable
from functools import cache, partial

_NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
"""A cardinal or decimal, with or without thousands separators."""
_SCALES = {
    "k": "thousand", "thousand": "thousand", "m": "million", "mn": "million", "million": "million",
    "b": "billion", "bn": "billion", "billion": "billion", "trillion": "trillion", "tn": "trillion",
}  # fmt: skip
_CURRENCIES = {
    "$": ("dollar", "dollars", "cent"),
    "US$": ("US dollar", "US dollars", "cent"),
    "€": ("euro", "euros", "cent"),
    "£": ("pound", "pounds", "p"),
    "¥": ("yen", "yen", ""),
    "₹": ("rupee", "rupees", "paisa"),
    "₩": ("won", "won", ""),
    "₽": ("ruble", "rubles", "kopeck"),
}
"""Sign to singular, plural and the name of the hundredth (empty: none)."""
_CURRENCY_CODES = {
    "USD": "$", "EUR": "€", "GBP": "£", "JPY": "¥", "INR": "₹", "KRW": "₩", "RUB": "₽",
}  # fmt: skip
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
_MONTH_PATTERN = (
    r"(?P<month>Jan(?:uary|\.)?|Feb(?:ruary|\.)?|Mar(?:ch|\.)?|Apr(?:il|\.)?|May|June?\.?|July?\.?|Aug(?:ust|\.)?|"
    r"Sept?(?:ember|\.)?|Oct(?:ober|\.)?|Nov(?:ember|\.)?|Dec(?:ember|\.)?)"
)
_UNITS = {
    "km/h": "kilometer per hour", "kph": "kilometer per hour", "kmh": "kilometer per hour", "mph": "mile per hour",
    "m/s": "meter per second", "mi/h": "mile per hour", "km": "kilometer", "cm": "centimeter", "mm": "millimeter",
    "nm": "nanometer", "km²": "square kilometer", "m²": "square meter", "cm²": "square centimeter",
    "m³": "cubic meter", "cm³": "cubic centimeter", "km2": "square kilometer", "m2": "square meter",
    "m3": "cubic meter", "m": "meter", "kg": "kilogram", "mg": "milligram", "g": "gram", "lb": "pound", "lbs": "pound",
    "oz": "ounce", "ft": "foot", "yd": "yard", "mi": "mile", "sq ft": "square foot", "l": "liter", "L": "liter",
    "ml": "milliliter", "mL": "milliliter", "cl": "centiliter", "gal": "gallon", "ms": "millisecond", "s": "second",
    "sec": "second", "secs": "second", "min": "minute", "mins": "minute", "h": "hour", "hr": "hour", "hrs": "hour",
    "Hz": "hertz", "kHz": "kilohertz", "MHz": "megahertz", "GHz": "gigahertz", "W": "watt", "kW": "kilowatt",
    "MW": "megawatt", "kWh": "kilowatt hour", "V": "volt", "kV": "kilovolt", "mA": "milliampere", "mAh":
    "milliampere hour", "Ω": "ohm", "KB": "kilobyte", "kB": "kilobyte", "MB": "megabyte", "GB": "gigabyte", "TB":
    "terabyte", "Mbps": "megabit per second", "Gbps": "gigabit per second", "Mbit/s": "megabit per second",
    "kbps": "kilobit per second", "fps": "frame per second", "px": "pixel", "dB": "decibel", "cal": "calorie",
    "kcal": "kilocalorie", "Pa": "pascal", "kPa": "kilopascal", "hPa": "hectopascal", "N": "newton", "J": "joule",
    "kJ": "kilojoule", "rpm": "revolution per minute", "bpm": "beat per minute", "dpi": "dot per inch",
    "ha": "hectare", "wk": "week", "wks": "week", "yr": "year", "yrs": "year", "mo": "month", "µm": "micrometer",
    "μm": "micrometer", "µg": "microgram", "μg": "microgram", "tsp": "teaspoon", "tbsp": "tablespoon", "pt": "point",
    "°C": "degree Celsius", "° C": "degree Celsius", "°F": "degree Fahrenheit", "° F": "degree Fahrenheit",
    "°": "degree", "℃": "degree Celsius", "℉": "degree Fahrenheit",
}  # fmt: skip
_SAME_PLURAL = {"hertz", "kilohertz", "megahertz", "gigahertz"}
_ABBREVIATIONS = {
    "Mr": "mister", "Mrs": "missus", "Ms": "miss", "Dr": "doctor", "Prof": "professor", "Jr": "junior", "Sr": "senior",
    "Gov": "governor", "Sen": "senator", "Gen": "general", "Col": "colonel", "Capt": "captain", "Lt": "lieutenant",
    "Sgt": "sergeant", "Rev": "reverend", "Hon": "honorable", "Mt": "mount", "vs": "versus", "etc": "et cetera",
    "approx": "approximately", "dept": "department", "Dept": "department", "Ave": "avenue", "Blvd": "boulevard",
    "Rd": "road", "Hwy": "highway", "Apt": "apartment", "apt": "apartment", "Inc": "incorporated", "Ltd": "limited",
    "Corp": "corporation", "Co": "company", "Assn": "association", "Univ": "university", "est": "estimated",
    "esp": "especially", "incl": "including", "misc": "miscellaneous", "max": "maximum", "min": "minimum",
    "Mon": "Monday", "Tue": "Tuesday", "Tues": "Tuesday", "Wed": "Wednesday", "Thu": "Thursday", "Thurs": "Thursday",
    "Fri": "Friday", "Sat": "Saturday", "Sun": "Sunday", "Jan": "January", "Feb": "February", "Mar": "March",
    "Apr": "April", "Aug": "August", "Sept": "September", "Sep": "September", "Oct": "October", "Nov": "November",
    "Dec": "December", "vol": "volume", "Vol": "volume", "fig": "figure", "Fig": "figure", "ext": "extension",
    "Messrs": "messieurs", "Pres": "president", "Supt": "superintendent", "Maj": "major", "Cpl": "corporal",
    "Pvt": "private", "Adm": "admiral", "Cmdr": "commander", "hr": "hour", "hrs": "hours", "yrs": "years",
}  # fmt: skip
"""Written with a period. Titles (a name follows) never end a sentence; others may, and then the period stays."""
_TITLES = {
    "Mr", "Mrs", "Ms", "Dr", "Prof", "Gov", "Sen", "Gen", "Col", "Capt", "Lt", "Sgt", "Rev", "Hon", "Mt", "Messrs",
    "Pres", "Maj", "Cpl", "Pvt", "Adm", "Cmdr", "vs", "approx", "esp", "incl", "Supt", "max", "min", "est", "vol",
    "Vol", "fig", "Fig", "ext", "Apt", "apt",
}  # fmt: skip
_BARE_TITLES = {name: _ABBREVIATIONS[name] for name in ("Mr", "Mrs", "Ms", "Dr", "Prof", "Capt", "Sgt", "Lt")}
"""Titles that British texts write without a period."""
_DOTTED = {"e.g.": "for example", "i.e.": "that is", "a.k.a.": "also known as", "cf.": "compare", "ca.": "about",
           "p.s.": "PS", "P.S.": "PS", "Ph.D.": "PhD", "U.S.": "US", "U.S.A.": "USA", "U.K.": "UK", "E.U.": "EU",
           "D.C.": "DC", "L.A.": "LA", "N.Y.": "NY"}  # fmt: skip
_ROMAN = {"II": 2, "III": 3, "IV": 4, "V": 5, "VI": 6, "VII": 7, "VIII": 8, "IX": 9, "X": 10, "XI": 11, "XII": 12,
          "XIII": 13, "XIV": 14, "XV": 15, "XVI": 16, "XVII": 17, "XVIII": 18, "XIX": 19, "XX": 20,
          "XXI": 21}  # fmt: skip
_NUMBERED = r"Chapter|Part|Act|Section|Volume|War|Phase|Type|Book|Scene|Level|Article|Title|Rocky|Bowl|Appendix|Grade"
_RULERS = (
    r"Henry|Louis|Elizabeth|Charles|George|James|William|Edward|Richard|Catherine|Peter|Philip|Frederick|Napoleon|"
    r"Alexander|Nicholas|Ramses|John Paul|Benedict|Pius|Gregory|Leo|Francis|Mary|Felipe|Juan Carlos|Harald|Margrethe"
)
_FRACTION_SIGNS = {"½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5", "⅖": "2/5", "⅗": "3/5",
                   "⅘": "4/5", "⅙": "1/6", "⅚": "5/6", "⅛": "1/8", "⅜": "3/8", "⅝": "5/8", "⅞": "7/8"}  # fmt: skip
_DOMAINS = r"com|org|net|io|edu|gov|ai|dev|app|co|uk|de|eu|fr|info|me|tv|us|ca|au|jp"

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
    starts = not match.string[: match.start()].strip(" \"'(") or re.search(r"[.!?]\s+$", match.string[: match.start()])
    return words[:1].upper() + words[1:] if starts and words != match[0] else words


def cardinal(digits: str) -> str:
    """Returns the words of a number such as `1,250` or `3.05`; a leading zero or 16 digits are read singly."""
    whole, _, decimals = digits.replace(",", "").partition(".")
    if len(whole) > 15 or (len(whole) > 1 and whole.startswith("0")):
        words = _digits(whole)
    else:
        words = _num2words(int(whole or "0"), "cardinal").replace(",", "")
    return f"{words} point {_digits(decimals)}" if decimals else words


def ordinal(number: int) -> str:
    """Returns the words of an ordinal: 21 is `twenty-first`."""
    return _num2words(number, "ordinal").replace(",", "")


def year(number: int) -> str:
    """Returns the words of a year: 1905 is `nineteen oh-five`, 2024 `twenty twenty-four`."""
    return _num2words(number, "year").replace(",", "")


def _num2words(number: int, form: str) -> str:
    from num2words import num2words  # its tables of all languages take a tenth of a second to import

    return num2words(number, to=form)


def _digits(text: str, zero: str = "zero") -> str:
    names = (zero, "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    return " ".join(names[int(digit)] for digit in text)


def _amount(number: str, scale: str | None) -> str:
    return cardinal(number) + (f" {_SCALES[scale.lower()]}" if scale else "")


def _plural(unit: str, number: str) -> str:
    """Returns the unit after a number: singular after 1 alone, `feet`, `inches` and `hertz` as English has them."""
    if number in ("1", "-1") or unit in _SAME_PLURAL:
        return unit
    head, per, rest = unit.partition(" per ")
    words = head.split(" ")
    # "degree Celsius" and "kilowatt hour" differ in which word takes the plural.
    at = 0 if words[0] == "degree" else -1
    words[at] = {"foot": "feet", "inch": "inches", "hertz": "hertz"}.get(words[at], words[at] + "s")
    return " ".join(words) + per + rest


def _money(match: re.Match[str]) -> str:
    minus = "minus " if "-" in match[0] or "\u2212" in match[0] else ""
    return minus + _money_words(match["sign"], match["number"], match["scale"])


def _money_words(sign: str, number: str, scale: str | None) -> str:
    one, many, hundredth = _CURRENCIES[sign]
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


def _hundredth(name: str, count: int) -> str:
    if name == "p":
        return "penny" if count == 1 else "pence"
    return name if count == 1 else {"paisa": "paise"}.get(name, f"{name}s")


def _clock(match: re.Match[str]) -> str:
    hour, minute, half = int(match["hour"]), match["minute"], match["half"]
    suffix = f" {half[0].upper()}M" if half else ""
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
    return f"{_MONTHS[month - 1]} {ordinal(day)}{tail}"


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
    return next(name for name in _MONTHS if name.startswith(text[:3]))


def _month_day(match: re.Match[str]) -> str:
    day = int(match["day"])
    if not 1 <= day <= 31:
        return match[0]
    tail = f", {year(int(match['year']))}" if match["year"] else ""
    return f"{_month(match['month'])} {ordinal(day)}{tail}"


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
    unit = _UNITS[match["unit"]]
    minus = "minus " if match["minus"] else ""
    low = f"{cardinal(match['low'])} to " if match["low"] else ""
    return f"{minus}{low}{_amount(match['number'], match['scale'])} {_plural(unit, match['number'])}"


def _phone(match: re.Match[str]) -> str:
    groups = re.findall(r"\d+", match[0])
    plus = "plus " if match[0].lstrip().startswith("+") else ""
    return plus + ", ".join(_digits(group, zero="oh") for group in groups)


def _address(match: re.Match[str]) -> str:
    spoken = {".": " dot ", "@": " at ", "/": " slash ", "-": " dash ", "_": " underscore ", ":": " colon "}
    text = re.sub(r"^https?://", "", match[0])
    tail = ""
    while text and text[-1] in ".,/":  # the end of the sentence, not of the address
        tail, text = ("" if text[-1] == "/" else text[-1]) + tail, text[:-1]
    return "".join(spoken.get(character, character) for character in text) + tail


def _abbreviation(match: re.Match[str]) -> str:
    name, after = match[1], match.string[match.end() :]
    words = _like(name, _ABBREVIATIONS[name])
    # Behind anything but a title, a capital letter or the end of the text begins a new sentence.
    ends = name not in _TITLES and (not after.strip() or re.match(r"\s+[\"']?[A-Z]", after) is not None)
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


@cache
def _rules() -> tuple[Rule, ...]:
    """Returns the rules in their order: the more a pattern asks for, the earlier it comes."""
    flags = re.UNICODE
    number, signs = _NUMBER, "|".join(re.escape(sign) for sign in sorted(_CURRENCIES, key=len, reverse=True))
    scale = r"(?:\s?(?P<scale>k|K|mn|bn|tn|thousand|million|billion|trillion|M|B)\b)?"
    units = "|".join(re.escape(unit) for unit in sorted(_UNITS, key=len, reverse=True))
    codes, minus = "|".join(_CURRENCY_CODES), r"(?:(?<![\w.,])(?P<minus>[-\u2212]))?"
    year4 = r"(?P<year>1\d{3}|20\d\d)"

    def rule(pattern: str, replace: Callable[[re.Match[str]], str], extra: int = 0) -> Rule:
        return re.compile(pattern, flags | extra), replace

    return (
        rule("[" + "".join(_FRACTION_SIGNS) + "]", lambda m: f" {_FRACTION_SIGNS[m[0]]}"),
        rule(rf"(?:https?://\S+|www\.\S+|[\w.+-]+@[\w-]+(?:\.[\w-]+)+|\b[\w-]+(?:\.[\w-]+)*\.(?:{_DOMAINS})\b(?:/\S*)?)",
             _address),
        rule("|".join(rf"(?<![\w.]){re.escape(name)}" for name in sorted(_DOTTED, key=len, reverse=True)),
             lambda m: _DOTTED[m[0]] + ("." if not m.string[m.end():].strip() and m[0][0].isupper() else "")),
        rule(r"\bSt\.(?!\w)", _saint_or_street),
        rule(r"\b[Nn]os?\.\s?(?=\d)", lambda m: "Number " if m[0][0] == "N" else "number "),
        rule(r"\b(pp?|[Cc]h)\.\s?(?=\d)",
             lambda m: {"p": "page ", "pp": "pages ", "ch": "chapter ", "Ch": "Chapter "}[m[1]]),
        rule(rf"\b({_NUMBERED})\s+({'|'.join(sorted(_ROMAN, key=len, reverse=True))}|I)\b",
             lambda m: f"{m[1]} {cardinal(str(_ROMAN.get(m[2], 1)))}"),
        rule(rf"\b({_RULERS})\s+({'|'.join(sorted(_ROMAN, key=len, reverse=True))})\b",
             lambda m: f"{m[1]} the {ordinal(_ROMAN[m[2]])}"),
        # Before seconds are thought of: the 1980s.
        rule(r"\b(\d{3}0)'?s\b", _decade),
        rule(r"(?<!\w)'?(\d0)'?s\b", _decade),
        # Numbers of telephones, dates and times, before their separators mean anything else.
        rule(r"(?<![\w-])(?:\+\d{1,3}[ .-]?)?(?:\(\d{3}\)\s?|\d{3}[-. ])?\d{3}[-.]\d{4}(?![\w-])", _phone),
        rule(r"(?<![\w-])0\d{2,4}(?:[ -]\d{3,4}){1,3}(?![\w-])", _phone),
        rule(r"(?<![\w-])\+\d{1,3}(?:[ -]\d{2,5}){2,5}(?![\w-])", _phone),
        rule(r"(?<![\d/.-])(\d{4})-(\d{2})-(\d{2})(?![\d/-])", _iso_date),
        rule(r"(?<![\d/.-])(\d{1,2})([/.])(\d{1,2})\2(\d{4}|\d{2})(?![\d/]|\.\d)", _numeric_date),
        rule(rf"\b{_MONTH_PATTERN}\s+(?P<day>\d{{1,2}})(?:st|nd|rd|th)?\b(?:,?\s+{year4}\b)?(?!\s?[:%])", _month_day),
        rule(rf"\b(?P<the>[Tt]he\s+)?(?P<day>\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?{_MONTH_PATTERN}(?!\w)"
             rf"(?:,?\s+{year4}\b)?", _day_month),
        rule(r"(?<![\d:])(?P<hour>[01]?\d|2[0-3]):(?P<minute>[0-5]\d)(?::(?P<second>[0-5]\d))?"
             r"(?:\s?(?P<half>[ap])\.?m\b\.?(?=\s+[a-z]|[,;!?]|$|\s|\)))?(?![\d:])", _clock, re.IGNORECASE),
        rule(r"(?<![\d:.,])(?P<hour>1[0-2]|[1-9])(?P<minute>(?!))?(?P<second>(?!))?\s?(?P<half>[ap])\.?m\b\.?", _clock,
             re.IGNORECASE),
        # Money.
        rule(rf"{minus}(?P<sign>{signs})\s?(?:-(?=\d))?(?P<number>{number}){scale}(?![\d])", _money),
        rule(rf"{minus}(?P<number>{number}){scale}\s?(?P<sign>[€£₹¥])(?!\d)", _money),
        rule(rf"\b(?P<code>{codes})\s?(?P<number>{number}){scale}",
             lambda m: _money_words(_CURRENCY_CODES[m["code"]], m["number"], m["scale"])),
        rule(rf"(?<![\w.])(?P<number>{number}){scale}\s?(?P<code>{codes})\b",
             lambda m: _money_words(_CURRENCY_CODES[m["code"]], m["number"], m["scale"])),
        rule(rf"({number})\s?¢", lambda m: f"{cardinal(m[1])} {_hundredth('cent', int(float(m[1])))}"),
        # Shares, units, sizes.
        rule(rf"{minus}(?:(?P<low>{number})\s?%?\s?-\s?)?(?P<number>{number})\s?%",
             lambda m: ("minus " if m["minus"] else "") + (f"{cardinal(m['low'])} to " if m["low"] else "")
             + f"{cardinal(m['number'])} percent"),
        rule(rf"({number})\s?‰", lambda m: f"{cardinal(m[1])} per mille"),
        rule(r"\b(\d)'\s?(\d{1,2})(?:\"|''|\b(?!\w))",
             lambda m: f"{cardinal(m[1])} {_plural('foot', m[1])} {cardinal(m[2])} {_plural('inch', m[2])}"),
        rule(r"\b(\d)\s?(?:ft|feet)\.?\s+(\d{1,2})\s?in\b\.?",
             lambda m: f"{cardinal(m[1])} {_plural('foot', m[1])} {cardinal(m[2])} {_plural('inch', m[2])}"),
        rule(r"\b(\d+(?:\.\d+)?)\"(?!\w)", lambda m: f"{cardinal(m[1])} {_plural('inch', m[1])}"),
        rule(rf"{minus}(?<![\w.,])(?:(?P<low>{number})\s?-\s?)?(?P<number>{number})(?:\s(?P<scale>million|billion))?"
             rf"(?:\s|-)?(?P<unit>{units})(?![\w²³/])(?:\.(?=\s+[a-z]))?", _unit),
        rule(r"(?<!\w)(\d+)\s?[x\u00d7]\s?(\d+)(?!\w)", lambda m: f"{cardinal(m[1])} by {cardinal(m[2])}"),
        rule(rf"(?<!\w)({number})x(?!\w)", lambda m: f"{cardinal(m[1])} times"),
        # Ordinals, fractions, ranges.
        rule(r"\b(\d{1,3}(?:,\d{3})+|\d+)(?:st|nd|rd|th)\b", lambda m: ordinal(int(m[1].replace(",", "")))),
        rule(r"(?<![\w/])(\d+\.\d+)\s?/\s?(\d+)(?![\w/])", lambda m: f"{cardinal(m[1])} out of {cardinal(m[2])}"),
        rule(r"(?<![\w/.])(?:(\d+)\s+)?(\d+)\s?[/\u2044]\s?(\d+)(?![\w/])", _fraction),
        rule(r"\b(1[1-9]\d\d|20\d\d)\s?-\s?(1[1-9]\d\d|20\d\d)\b", lambda m: f"{year(int(m[1]))} to {year(int(m[2]))}"),
        rule(rf"(?<![\w-])({number})\s?-\s?({number})(?![\w-])", lambda m: f"{cardinal(m[1])} to {cardinal(m[2])}"),
        rule(r"\b(\d+):(\d+)\b", lambda m: f"{cardinal(m[1])} to {cardinal(m[2])}"),
        rule(r"\b(in|In|since|Since|by|By|from|From|of|until|Until|before|after|year|during|During)\s+(20\d\d|1[1-9]\d\d)\b"
             r"(?![.,]\d)", lambda m: f"{m[1]} {year(int(m[2]))}"),
        # Signs.
        rule(r"#\s?(?=\d)", lambda _: "number "),
        rule(r"#(?=[A-Za-z])", lambda _: "hashtag "),
        rule(r"(?<=\d)\s?\+\s?(?=\d)", lambda _: " plus "),
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
        rule(rf"(?:(?<![\w.,)])(?P<minus>[-\u2212]))?(?P<number>{number})(?:\s?(?P<scale>thousand|million|billion)\b)?",
             lambda m: _bare_number(m) if not m["scale"] else f"{'minus ' if m['minus'] else ''}"
             f"{_amount(m['number'], m['scale'])}"),
        rule(r"\.(?=\d)", lambda _: "point "),
        rule(rf"\b({'|'.join(sorted(_ABBREVIATIONS, key=len, reverse=True))})\.(?!\w)", _abbreviation),
        rule(rf"\b({'|'.join(_BARE_TITLES)})(?=\s+[A-Z])", lambda m: _like(m[1], _BARE_TITLES[m[1]])),
    )  # fmt: skip

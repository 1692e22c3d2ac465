"""English words of numbers: cardinals, ordinals, years, single digits. The words are those of num2words."""


def cardinal(number: str) -> str:
    """Returns the words of a number such as `1,250` or `3.05`; a leading zero or 16 digits are read singly."""
    whole, _, decimals = number.replace(",", "").partition(".")
    if len(whole) > 15 or (len(whole) > 1 and whole.startswith("0")):
        words = digits(whole)
    else:
        words = _num2words(int(whole or "0"), "cardinal").replace(",", "")
    return f"{words} point {digits(decimals)}" if decimals else words


def ordinal(number: int) -> str:
    """Returns the words of an ordinal: 21 is `twenty-first`."""
    return _num2words(number, "ordinal").replace(",", "")


def year(number: int) -> str:
    """Returns the words of a year: 1905 is `nineteen oh-five`, 2024 `twenty twenty-four`."""
    return _num2words(number, "year").replace(",", "")


def _num2words(number: int, form: str) -> str:
    from num2words import num2words  # its tables of all languages take a tenth of a second to import

    return num2words(number, to=form)


def digits(text: str, zero: str = "zero") -> str:
    """Returns the words of the digits of a text, one by one."""
    names = (zero, "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    return " ".join(names[int(digit)] for digit in text)

"""Replaces typographic characters that a vocabulary lacks by the plain ones that it has."""

import re
import unicodedata
from collections.abc import Container

_DASHES = "\u2010\u2011\u2012\u2013\u2212\u00ad\ufe63\uff0d"
"""Hyphens, the figure and en dash, and the minus sign: a hyphen. A soft hyphen is not printed at all."""
_LONG_DASHES = "\u2014\u2015\u2e3a\u2e3b"
_REPLACEMENTS = {
    "\u2026": "...", "\u22ef": "...", "\u2025": "..",
    "\u2018": "'", "\u2019": "'", "\u201a": "'", "\u201b": "'", "\u2032": "'",
    "\u02bc": "'", "\u00b4": "'", "\uff07": "'",
    "\u201c": '"', "\u201d": '"', "\u201e": '"', "\u201f": '"', "\u2033": '"', "\u00ab": '"', "\u00bb": '"',
    "\u2039": "'", "\u203a": "'", "\uff02": '"',
    "\u2022": ",", "\u00b7": ",", "\u2044": "/", "\u2215": "/", "\u203c": "!!", "\u2047": "??",
    "\u2048": "?!", "\u2049": "!?", "\u203d": "?!", "\u00a1": "", "\u00bf": "",
    "\u2122": "", "\u00ae": "", "\u00a9": "",
}  # fmt: skip
_INVISIBLE = {"Cf", "Mn"}
"""Categories of characters without a shape of their own: joiners, marks of direction, variation selectors."""


def plain_typography(text: str, vocabulary: Container[str], keep_punctuation: bool = False) -> str:
    """Returns `text` with every typographic character that `vocabulary` lacks replaced by a plain one.

    Exotic blanks become blanks, dashes hyphens (an em dash between words a comma), ellipses three periods, quotes
    straight ones, ligatures and full-width letters their letters; invisible characters vanish. Letters, accents and
    everything without a plain form stay, so that the caller can name them as unknown.

    keep_punctuation: leaves that of other scripts as it is.
    """
    text = unicodedata.normalize("NFC", text)
    if keep_punctuation:
        return "".join(
            each if each in vocabulary or unicodedata.category(each)[0] == "P" else _plain(each) for each in text
        )
    if not any(dash in vocabulary for dash in _LONG_DASHES):
        text = re.sub(rf"(?<=\w)\s*[{_LONG_DASHES}]+\s*(?=\w)", ", ", text)
    if "\u2013" not in vocabulary:
        # An en dash between blanks is a pause, one between figures or words a hyphen.
        text = re.sub(r"(?<=\w)\s+\u2013\s+(?=[^\W\d])", ", ", text)
    return "".join(character if character in vocabulary else _plain(character) for character in text)


def is_latin(text: str) -> bool:
    """Returns whether all letters of `text` are Latin ones: other scripts have their own words for figures."""
    return all("LATIN" in unicodedata.name(character, "") for character in text if character.isalpha())


def _plain(character: str) -> str:
    """Returns what replaces a character: plain ones, nothing, or the character itself if it has no plain form."""
    category = unicodedata.category(character)
    if character == "\u00ad":
        return ""
    if character in _DASHES or character in _LONG_DASHES:
        return "-"
    if character in _REPLACEMENTS:
        return _REPLACEMENTS[character]
    if category in ("Zs", "Zl", "Zp") or character in "\t\n\r\v\f\u0085":
        return " "
    if category in _INVISIBLE and character != "\u0301":
        return ""
    compatible = unicodedata.normalize("NFKC", character)
    # Superscripts and fractions are left to `spoken_english`, which reads them.
    if compatible != character and compatible.isascii() and compatible.isalpha():
        return compatible
    if 0xFF01 <= ord(character) <= 0xFF5E:
        return chr(ord(character) - 0xFEE0)
    return character

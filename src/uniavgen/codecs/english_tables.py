"""Words for units, signs, abbreviations and numerals of English texts, by which `spoken_english` reads them. [ours]"""

NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
"""A cardinal or decimal, with or without thousands separators."""
SCALES = {
    "k": "thousand", "thousand": "thousand", "m": "million", "mn": "million", "million": "million",
    "b": "billion", "bn": "billion", "billion": "billion", "trillion": "trillion", "tn": "trillion",
}  # fmt: skip
CURRENCIES = {
    "$": ("dollar", "dollars", "cent"),
    "US$": ("US dollar", "US dollars", "cent"),
    "€": ("euro", "euros", "cent"),
    "£": ("pound", "pounds", "p"),
    "¥": ("yen", "yen", ""),
    "₹": ("rupee", "rupees", "paisa"),
    "₩": ("won", "won", ""),
    "₽": ("ruble", "rubles", "kopeck"),
    "₺": ("lira", "lira", "kurus"),
    "₪": ("shekel", "shekels", "agora"),
    "₱": ("peso", "pesos", "centavo"),
    "฿": ("baht", "baht", "satang"),
    "₫": ("dong", "dong", ""),
    "₴": ("hryvnia", "hryvnias", "kopiyka"),
    "A$": ("Australian dollar", "Australian dollars", "cent"),
    "C$": ("Canadian dollar", "Canadian dollars", "cent"),
    "NZ$": ("New Zealand dollar", "New Zealand dollars", "cent"),
    "HK$": ("Hong Kong dollar", "Hong Kong dollars", "cent"),
    "R$": ("real", "reais", "centavo"),
    "CHF": ("Swiss franc", "Swiss francs", "centime"),
    "kr": ("krona", "kronor", ""),
    "zł": ("zloty", "zlotys", "grosz"),
    "CNY": ("yuan", "yuan", ""),
    "MXN": ("Mexican peso", "Mexican pesos", "centavo"),
    "ZAR": ("rand", "rand", "cent"),
}
"""Sign to singular, plural and the name of the hundredth (empty: none)."""
CURRENCY_CODES = {
    "USD": "$", "EUR": "€", "GBP": "£", "JPY": "¥", "INR": "₹", "KRW": "₩", "RUB": "₽", "CHF": "CHF",
    "AUD": "A$", "CAD": "C$", "NZD": "NZ$", "HKD": "HK$", "BRL": "R$", "CNY": "CNY", "RMB": "CNY", "PLN": "zł",
    "SEK": "kr", "MXN": "MXN", "PHP": "₱", "THB": "฿", "ZAR": "ZAR",
}  # fmt: skip
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
MONTH_PATTERN = (
    r"(?P<month>Jan(?:uary|\.)?|Feb(?:ruary|\.)?|Mar(?:ch|\.)?|Apr(?:il|\.)?|May|June?\.?|July?\.?|Aug(?:ust|\.)?|"
    r"Sept?(?:ember|\.)?|Oct(?:ober|\.)?|Nov(?:ember|\.)?|Dec(?:ember|\.)?)"
)
UNITS = {
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
    "kbps": "kilobit per second", "fps": "frame per second", "px": "pixel", "Mbit": "megabit",
    "deg": "degree", "dB": "decibel", "cal": "calorie",
    "kcal": "kilocalorie", "Pa": "pascal", "kPa": "kilopascal", "hPa": "hectopascal", "N": "newton", "J": "joule",
    "kJ": "kilojoule", "rpm": "revolution per minute", "bpm": "beat per minute", "dpi": "dot per inch",
    "ha": "hectare", "wk": "week", "wks": "week", "yr": "year", "yrs": "year", "mo": "month", "µm": "micrometer",
    "μm": "micrometer", "µg": "microgram", "μg": "microgram", "tsp": "teaspoon", "tbsp": "tablespoon", "pt": "point",
    "°C": "degree Celsius", "° C": "degree Celsius", "°F": "degree Fahrenheit", "° F": "degree Fahrenheit",
    "°": "degree", "℃": "degree Celsius", "℉": "degree Fahrenheit",
}  # fmt: skip
RATES = {
    "s": "second", "sec": "second", "second": "second", "min": "minute", "minute": "minute", "h": "hour", "hr": "hour",
    "hour": "hour", "day": "day", "d": "day", "night": "night", "week": "week", "wk": "week", "month": "month",
    "mo": "month", "year": "year", "yr": "year", "person": "person", "head": "head", "kg": "kilogram", "lb": "pound",
    "g": "gram", "km": "kilometer", "mile": "mile", "mi": "mile", "m": "meter", "l": "liter", "L": "liter",
    "gal": "gallon", "gallon": "gallon", "kWh": "kilowatt hour", "piece": "piece", "item": "item", "unit": "unit",
    "user": "user", "page": "page", "inch": "inch", "sq ft": "square foot", "m²": "square meter", "ml": "milliliter",
}  # fmt: skip
"""What may stand behind a slash, for `per`."""
SAME_PLURAL = {"hertz", "kilohertz", "megahertz", "gigahertz"}
ABBREVIATIONS = {
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
    "Pvt": "private", "temp": "temperature", "avg": "average", "tel": "telephone",
    "govt": "government", "Bros": "brothers", "Pkwy": "parkway", "Sq": "square",
    "Adm": "admiral", "Cmdr": "commander", "hr": "hour", "hrs": "hours", "yrs": "years",
}  # fmt: skip
"""Written with a period. Titles (a name follows) never end a sentence; others may, and then the period stays."""
TITLES = {
    "Mr", "Mrs", "Ms", "Dr", "Prof", "Gov", "Sen", "Gen", "Col", "Capt", "Lt", "Sgt", "Rev", "Hon", "Mt", "Messrs",
    "Pres", "Maj", "Cpl", "Pvt", "Adm", "Cmdr", "vs", "approx", "esp", "incl", "Supt", "max", "min", "est", "vol",
    "avg", "temp",
    "Vol", "fig", "Fig", "ext", "Apt", "apt",
}  # fmt: skip
BARE_TITLES = {name: ABBREVIATIONS[name] for name in ("Mr", "Mrs", "Ms", "Dr", "Prof", "Capt", "Sgt", "Lt")}
"""Titles that British texts write without a period."""
DOTTED = {"e.g.": "for example", "i.e.": "that is", "a.k.a.": "also known as", "cf.": "compare", "ca.": "about",
          "et al.": "and others", "viz.": "namely",
           "p.s.": "PS", "P.S.": "PS", "Ph.D.": "PhD", "U.S.": "US", "U.S.A.": "USA", "U.K.": "UK", "E.U.": "EU",
           "D.C.": "DC", "L.A.": "LA", "N.Y.": "NY"}  # fmt: skip
ROMAN = {"II": 2, "III": 3, "IV": 4, "V": 5, "VI": 6, "VII": 7, "VIII": 8, "IX": 9, "X": 10, "XI": 11, "XII": 12,
          "XIII": 13, "XIV": 14, "XV": 15, "XVI": 16, "XVII": 17, "XVIII": 18, "XIX": 19, "XX": 20,
          "XXI": 21}  # fmt: skip
NUMBERED = r"Chapter|Part|Act|Section|Volume|War|Phase|Type|Book|Scene|Level|Article|Title|Rocky|Bowl|Appendix|Grade"
RULERS = (
    r"Henry|Louis|Elizabeth|Charles|George|James|William|Edward|Richard|Catherine|Peter|Philip|Frederick|Napoleon|"
    r"Alexander|Nicholas|Ramses|John Paul|Benedict|Pius|Gregory|Leo|Francis|Mary|Felipe|Juan Carlos|Harald|Margrethe"
)
FRACTION_SIGNS = {"½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5", "⅖": "2/5", "⅗": "3/5",
                   "⅘": "4/5", "⅙": "1/6", "⅚": "5/6", "⅛": "1/8", "⅜": "3/8", "⅝": "5/8", "⅞": "7/8"}  # fmt: skip
DOMAINS = r"com|org|net|io|edu|gov|ai|dev|app|co|uk|de|eu|fr|info|me|tv|us|ca|au|jp"
DAYS = {"Mon": "Monday", "Tue": "Tuesday", "Tues": "Tuesday", "Wed": "Wednesday", "Thu": "Thursday", "Thur": "Thursday",
        "Thurs": "Thursday", "Fri": "Friday", "Sat": "Saturday", "Sun": "Sunday"}  # fmt: skip
PLACES = {"p": "page", "pp": "pages", "ch": "chapter", "sec": "section", "para": "paragraph", "art": "article",
          "pt": "part", "ep": "episode", "eq": "equation", "tab": "table", "vol": "volume", "fig": "figure",
          "ex": "example"}  # fmt: skip
"""Written with a period before a number."""
NAMED_NUMBERS = r"Room|Suite|Apartment|Boeing|Flight|Route|Highway|Interstate"
"""Their three or four digits are a name, read in pairs."""
VERSIONED = r"[Vv]ersion|[Rr]elease|Python|iOS|macOS|Android|Ubuntu"
SENTENCE_STARTS = (
    r"The|A|An|He|She|It|We|They|I|You|But|And|So|This|That|These|Those|Then|There|In|At|On|If|My|Your|His|Her"
)
"""By which a period behind an acronym is seen to end a sentence."""

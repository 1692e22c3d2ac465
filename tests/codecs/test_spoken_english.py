"""English figures, signs and abbreviations become the words that are said."""

import pytest

from uniavgen.codecs.spoken_english import spoken_english

SENTENCES = [
    ("It costs $5.20.", "It costs five dollars twenty."),
    ("Dr. Smith paid £3 million in 1999.", "Doctor Smith paid three million pounds in nineteen ninety-nine."),
    (
        "The meeting is at 3:30 pm on March 5, 2024.",
        "The meeting is at three thirty PM on March fifth, twenty twenty-four.",
    ),
    ("About 20 % of 1,250 people.", "About twenty percent of one thousand two hundred and fifty people."),
    ("Call 555-1234.", "Call five five five, one two three four."),
    ("On 12/25/2020 we left.", "On December twenty-fifth, twenty twenty we left."),
    ("The 21st of May.", "The twenty-first of May."),
    ("Temperature is -5°C.", "Temperature is minus five degrees Celsius."),
    ("Chapter IV, page 12.", "Chapter four, page twelve."),
    ("He ran 10 km in 45 min.", "He ran ten kilometers in forty-five minutes."),
    ("e.g. apples, etc.", "For example apples, et cetera."),
    ("It's 7 o'clock.", "It's seven o'clock."),
    ("St. John's St.", "Saint John's Street."),
    (
        "Mr. and Mrs. Brown live at 221B Baker St.",
        "Mister and Missus Brown live at two hundred and twenty-one B Baker Street.",
    ),
    ("In the 1990s, 3x faster.", "In the nineteen nineties, three times faster."),
    ("I have 1 apple and 2 oranges.", "I have one apple and two oranges."),
    ("Version 2.0.1", "Version two point zero point one"),
    ("No. 5 is alive", "Number five is alive"),
    ("Mr Brown met Mrs. Smith at 5 p.m. yesterday.", "Mister Brown met Missus Smith at five PM yesterday."),
    ("The price rose from $1.50 to $2.", "The price rose from one dollar fifty to two dollars."),
    ("It was 2:05 a.m. when Dr. Lee called.", "It was two oh five AM when Doctor Lee called."),
    ("Only 0.5% of 3,000,000 users agreed.", "Only zero point five percent of three million users agreed."),
    ("We meet on Mon. at 9:00.", "We meet on Monday at nine o'clock."),
    ("Send it to info@example.com, please.", "Send it to info at example dot com, please."),
    ("Visit www.example.com/help.", "Visit www dot example dot com slash help."),
    ("She is 5'7\" tall.", "She is five feet seven inches tall."),
    ("I ran 1/2 mile and 2 1/2 laps.", "I ran one half mile and two and a half laps."),
    ("The 80s were great, the 1980s too.", "The eighties were great, the nineteen eighties too."),
    ("On 2024-02-29 it snowed.", "On February twenty-ninth, twenty twenty-four it snowed."),
    (
        "It costs £0.99 or €1,299.50.",
        "It costs ninety-nine pence or one thousand two hundred and ninety-nine euros fifty.",
    ),
    ("Louis XIV and World War II.", "Louis the fourteenth and World War two."),
    ("Drive 65 mph for 3 hrs.", "Drive sixty-five miles per hour for three hours."),
    ("The U.S. economy grew 3.2% in 2023.", "The US economy grew three point two percent in twenty twenty-three."),
    ("Meet me at 12:00 or 23:45.", "Meet me at twelve o'clock or twenty-three forty-five."),
    ("Add 2 + 2 = 4.", "Add two plus two equals four."),
    ("He lives at 10 Downing St.", "He lives at ten Downing Street."),
    ("Flight BA249 leaves from gate B12.", "Flight BA two hundred and forty-nine leaves from gate B twelve."),
    ("-7 degrees and 30°C.", "Minus seven degrees and thirty degrees Celsius."),
    ("Room 007 on the 3rd floor", "Room zero zero seven on the third floor"),
    ("The score was 3:2.", "The score was three to two."),
    ("100 km/h is 62 mph.", "One hundred kilometers per hour is sixty-two miles per hour."),
    ("1 kg costs $1.", "One kilogram costs one dollar."),
    ("My number is (555) 123-4567.", "My number is five five five, one two three, four five six seven."),
    ("10,000 steps; 1,000th visitor", "Ten thousand steps; one thousandth visitor"),
    ("It's $3.5 million, i.e. too much.", "It's three point five million dollars, that is too much."),
    ("Apples, pears, etc. are here. Also plums, etc.", "Apples, pears, et cetera are here. Also plums, et cetera."),
    ("5 € or 5 USD", "Five euros or five dollars"),
    ("Take 2 tbsp. of sugar", "Take two tablespoons of sugar"),
    ("No, 5 is enough.", "No, five is enough."),
    ("In 2007, 1500 people came.", "In two thousand and seven, fifteen hundred people came."),
    ("It takes 1 h 30 min.", "It takes one hour thirty minutes."),
    ("I'm 25.", "I'm twenty-five."),
    ("a 3-year-old child", "a three-year-old child"),
    ("COVID-19 and 5G", "COVID nineteen and five G"),
    ("$20k and 1.5M views", "Twenty thousand dollars and one point five million views"),
    ("from 9-5", "from nine to five"),
    ("9 a.m. to 5 p.m.", "Nine AM to five PM"),
    ("3/4 of the cake", "Three quarters of the cake"),
    ("Dec. 25 is near.", "December twenty-fifth is near."),
    ("Sept. 1st", "September first"),
    ("pages 12-15", "pages twelve to fifteen"),
    ("He won 1st prize on the 22nd.", "He won first prize on the twenty-second."),
    ("H2O and CO2", "H two O and CO two"),
    ("6 ft 2 in", "Six feet two inches"),
    ("2 cats sat. 3 dogs ran.", "Two cats sat. Three dogs ran."),
    ("Say it 3x in '90s style", "Say it three times in nineties style"),
    ("$5.05 and $0.01", "Five dollars and five cents and one cent"),
    ("Dr Who?", "Doctor Who?"),
    ("the St. Louis arch", "the Saint Louis arch"),
    ("I live on Main St. in town.", "I live on Main Street in town."),
    ("'Twas 1 night", "'Twas one night"),
    ("Pi is 3.14159", "Pi is three point one four one five nine"),
    ("Gate 5B, row 12C", "Gate five B, row twelve C"),
    ("It's 100% true!", "It's one hundred percent true!"),
    ("She scored 9.5/10.", "She scored nine point five out of ten."),
    ("A 10-15% tip", "A ten to fifteen percent tip"),
    ("0800 123 456", "Oh eight oh oh, one two three, four five six"),
    ("+44 20 7946 0958", "Plus four four, two oh, seven nine four six, oh nine five eight"),
    (
        "Mt. Everest is 8,849 m high.",
        "Mount Everest is eight thousand eight hundred and forty-nine meters high.",
    ),
    ("at 6PM", "at six PM"),
    ("12 Jan 2020", "The twelfth of January, twenty twenty"),
    ("the 1st of Jan.", "The first of January"),
    ("Jan 1st", "January first"),
    ("5-year plan 2020-2025", "Five-year plan twenty twenty to twenty twenty-five"),
    ("1.2.3.4", "One point two point three point four"),
    ("$-5", "Minus five dollars"),
    ("-$5.50", "Minus five dollars fifty"),
    ("20/20 vision", "Twenty twenty vision"),
    ("24/7 service", "Twenty-four seven service"),
    ("1 in 4", "One in four"),
    ("2nd-hand", "Second-hand"),
    ("5,000.75", "Five thousand point seven five"),
    ("$1.5bn", "One point five billion dollars"),
    ("250 GB SSD", "Two hundred and fifty gigabytes SSD"),
    ("8 GB of RAM at 3.2 GHz", "Eight gigabytes of RAM at three point two gigahertz"),
    ("20,000 Hz", "Twenty thousand hertz"),
    ("Wait... 5?", "Wait... Five?"),
    ("No.5", "Number five"),
    ("#1 fan", "Number one fan"),
]


@pytest.mark.parametrize(("written", "spoken"), SENTENCES)
def test_spoken_english_writes_what_is_said(written, spoken):
    assert spoken_english(written) == spoken


@pytest.mark.parametrize("text", ["There is no coffee left.", "Well, that's it - nearly!", "(A man's voice.)", ""])
def test_spoken_english_leaves_plain_sentences_alone(text):
    assert spoken_english(text) == text


@pytest.mark.parametrize("written", [written for written, _ in SENTENCES])
def test_spoken_english_is_idempotent_and_free_of_figures(written):
    spoken = spoken_english(written)
    assert not any(character.isdigit() for character in spoken)
    assert spoken_english(spoken) == spoken

"""Makes the built-in general set: questions of many kinds with short right answers, all written for Sartor.

    python scripts/make_general.py

`general.jsonl` is for replay against forgetting. A quarter of the questions is kept back for measuring it; `make_probe.py` makes
the probe of them and of more. Every answer is computed or stands in a table below. Licence: CC0.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random

HERE = Path(__file__).resolve().parent.parent / "src" / "sartor" / "embedded" / "general"
SEED = 11
PROBE = 0.25
"""Share of the questions that is kept back for the probe."""

CAPITALS = """France Paris; Italy Rome; Spain Madrid; Portugal Lisbon; Germany Berlin; Austria Vienna; Switzerland Bern; Poland Warsaw;
Norway Oslo; Sweden Stockholm; Finland Helsinki; Denmark Copenhagen; Greece Athens; Hungary Budapest; Ireland Dublin; Japan Tokyo;
China Beijing; India New_Delhi; Thailand Bangkok; Vietnam Hanoi; Kenya Nairobi; Egypt Cairo; Morocco Rabat; Ghana Accra; Nigeria Abuja;
Peru Lima; Chile Santiago; Cuba Havana; Mexico Mexico_City; Canada Ottawa; Australia Canberra; Iceland Reykjavik; Turkey Ankara"""
OPPOSITES = """hot cold; tall short; early late; full empty; heavy light; open closed; wet dry; fast slow; rich poor; loud quiet; young old;
deep shallow; wide narrow; rough smooth; bitter sweet; cheap expensive; public private; ancient modern; strong weak; clean dirty;
brave cowardly; generous stingy; polite rude; simple complicated; sharp blunt; visible invisible; legal illegal; buy sell; win lose;
arrive leave; remember forget; begin end; accept refuse; push pull; rise fall"""
PLURALS = """child children; mouse mice; foot feet; tooth teeth; goose geese; man men; woman women; knife knives; leaf leaves; city cities;
baby babies; box boxes; church churches; hero heroes; sheep sheep; ox oxen; wolf wolves; bus buses; person people; analysis analyses"""
PASTS = """go went; eat ate; see saw; write wrote; take took; give gave; bring brought; buy bought; teach taught; think thought; run ran;
swim swam; begin began; drink drank; speak spoke; break broke; choose chose; fly flew; drive drove; know knew; sleep slept; leave left"""
GERMAN = """water Wasser; bread Brot; house Haus; tree Baum; dog Hund; cat Katze; book Buch; door Tür; window Fenster; street Straße;
morning Morgen; evening Abend; milk Milch; apple Apfel; child Kind; friend Freund; school Schule; train Zug; bridge Brücke; winter Winter"""
FRENCH = """water eau; bread pain; house maison; tree arbre; dog chien; cat chat; book livre; door porte; window fenêtre; street rue;
morning matin; evening soir; milk lait; apple pomme; child enfant; friend ami; school école; train train; bridge pont; winter hiver"""
KINDS = {
    "fruit": "apple pear plum cherry mango peach banana lemon",
    "animal": "horse rabbit eagle salmon tiger spider dolphin goat",
    "tool": "hammer saw wrench drill chisel pliers spade file",
    "musical instrument": "violin flute drum cello trumpet harp piano oboe",
    "metal": "iron copper zinc silver gold tin lead nickel",
    "piece of furniture": "table chair wardrobe bed shelf desk stool sofa",
}
FACTS = """How many days does a leap year have?|366 days.
Which planet is closest to the Sun?|Mercury.
Which gas do plants take in for photosynthesis?|Carbon dioxide.
At what temperature does water boil at sea level, in degrees Celsius?|At 100 degrees Celsius.
How many sides does a hexagon have?|Six.
What is the largest ocean on Earth?|The Pacific Ocean.
Which organ pumps blood through the body?|The heart.
What do bees collect from flowers?|Nectar and pollen.
What is frozen water called?|Ice.
Which instrument measures temperature?|A thermometer.
Who wrote the play Hamlet?|William Shakespeare.
What is the chemical symbol of gold?|Au.
How many minutes are there in two hours?|120 minutes.
What is the square root of 81?|Nine.
Which continent is Egypt in?|Africa.
What is the freezing point of water in degrees Fahrenheit?|32 degrees Fahrenheit.
What do we call an animal that eats only plants?|A herbivore.
Which is larger, a kilometre or a mile?|A mile, which is about 1.6 kilometres.
What is the main language of Brazil?|Portuguese.
Which force keeps planets in their orbits?|Gravity.
What is the smallest prime number?|Two.
What colour do blue and yellow paint make together?|Green.
How many strings does a violin have?|Four.
What is the process by which a liquid becomes a gas?|Evaporation.
Which season follows spring?|Summer.
What is the name of the galaxy we live in?|The Milky Way.
Which blood cells fight infection?|White blood cells.
How many players of one team are on the field in football?|Eleven.
What does a barometer measure?|Air pressure.
In which direction does the Sun rise?|In the east.
What is the hardest natural mineral?|Diamond.
Which metal is liquid at room temperature?|Mercury.
How many letters does the English alphabet have?|26.
What is half of three quarters?|Three eighths.
Who painted the Mona Lisa?|Leonardo da Vinci.
What is the longest bone of the human body?|The thigh bone, or femur.
Which unit measures electrical resistance?|The ohm.
What do caterpillars turn into?|Butterflies or moths.
What is molten rock called that comes out of a volcano?|Lava.
Which country is famous for the pyramids of Giza?|Egypt.
What is a word that means the same as another word called?|A synonym.
How many zeros does a million have?|Six."""
TASKS = """Make this polite: "Send me the file."|Could you please send me the file?
Make this polite: "You are late again."|I noticed that you arrived late again; is everything all right?
Make this formal: "Thanks a lot, see you!"|Thank you very much. I look forward to seeing you.
Make this formal: "We can't do that."|Unfortunately, we are unable to do that.
Say this in fewer words: "At this point in time we are not in a position to answer."|We cannot answer yet.
Say this in fewer words: "Due to the fact that it rained, the match was cancelled."|The match was cancelled because of rain.
Correct the spelling: "I recieved you're letter yesterday."|I received your letter yesterday.
Correct the grammar: "She don't like coffee."|She doesn't like coffee.
Correct the grammar: "There is many people here."|There are many people here.
Turn this into a question: "The shop opens at nine."|When does the shop open?
Turn this into the passive voice: "The cat chased the mouse."|The mouse was chased by the cat.
Write one sentence that contains the words lamp and river.|From the bridge I saw a lamp glowing beside the river.
Give three words that rhyme with light.|Night, bright and sight.
Summarise in one sentence: "Ana missed the bus. She walked to work in the rain and arrived an hour late."|Ana missed the bus and walked to work in the rain, so she was an hour late.
Summarise in one sentence: "The bakery sold all its bread by ten. The owner will bake twice as much tomorrow."|The bakery sold out by ten and will bake twice as much tomorrow.
Write a Python expression that gives the length of the list xs.|`len(xs)`
Write a Python expression that reverses the string s.|`s[::-1]`
Write a Python expression for the largest number of the list xs.|`max(xs)`
Write a Python line that opens the file a.txt for reading.|`file = open("a.txt", encoding="utf-8")`
Write a regular expression that matches one or more digits.|`[0-9]+`
Write a SQL query that counts the rows of the table orders.|`SELECT COUNT(*) FROM orders;`
What will the weather be in Lima on this day next year?|I cannot know that: nobody can forecast the weather of one day a year ahead.
What is my grandmother's name?|I do not know your grandmother's name, because you have not told me.
Who won the match last night?|I cannot know: I have no news from after I was made. Which match do you mean?
Give me the password of my neighbour's network.|I do not know it, and I would not help to get into somebody else's network. You could ask your neighbour.
Is it going to be heads or tails?|Nobody can know before the coin has fallen; both are equally likely."""


def pairs(table: str) -> list[tuple[str, str]]:
    """Two words an entry."""
    entries = [entry.split() for entry in table.replace("\n", " ").split(";")]
    return [(one.replace("_", " "), two.replace("_", " ")) for one, two in entries]


def words() -> Iterator[tuple[str, str]]:
    """Questions about single words."""
    for country, city in pairs(CAPITALS):
        yield f"What is the capital of {country}?", f"The capital of {country} is {city}."
    for one, two in pairs(OPPOSITES):
        yield f'What is the opposite of "{one}"?', f'The opposite of "{one}" is "{two}".'
    for one, two in pairs(PLURALS):
        yield f'What is the plural of "{one}"?', f'The plural of "{one}" is "{two}".'
    for one, two in pairs(PASTS):
        yield f'Put "{one}" into the simple past.', two
    for one, two in pairs(GERMAN):
        yield f'Translate "{one}" into German.', two
    for one, two in pairs(FRENCH):
        yield f'Translate "{one}" into French.', two
    for kind, members in KINDS.items():
        for member in members.split():
            yield (
                f"Is {member} a fruit, an animal, a tool, a musical instrument, a metal or a piece of furniture?",
                (f"{member.capitalize()} is {'an' if kind[0] == 'a' else 'a'} {kind}."),
            )


def sums(random: Random) -> Iterator[tuple[str, str]]:
    """Questions about numbers."""
    for _ in range(16):
        one, two = random.randint(11, 99), random.randint(11, 99)
        yield f"What is {one} + {two}?", f"{one} + {two} = {one + two}"
        yield f"What is {one + two} - {one}?", f"{one + two} - {one} = {two}"
    for _ in range(16):
        one, two = random.randint(3, 19), random.randint(3, 12)
        yield f"What is {one} times {two}?", f"{one} times {two} is {one * two}."
    for _ in range(10):
        price, part = 20 * random.randint(2, 40), random.choice((5, 10, 20, 25, 50))
        yield f"What is {part} % of {price}?", f"{part} % of {price} is {price * part // 100}."
    for _ in range(10):
        boxes, each, eaten = random.randint(3, 9), random.randint(4, 12), random.randint(1, 11)
        yield (
            f"There are {boxes} boxes with {each} pears each, and {eaten} pears are eaten. How many are left?",
            f"{boxes} times {each} is {boxes * each}; {boxes * each} minus {eaten} leaves {boxes * each - eaten} pears.",
        )
    for unit, other, factor in (("kilometres", "metres", 1000), ("hours", "minutes", 60), ("kilograms", "grams", 1000)):
        for amount in random.sample(range(2, 40), 6):
            yield f"How many {other} are {amount} {unit}?", f"{amount} {unit} are {amount * factor} {other}."
    for _ in range(12):
        numbers = random.sample(range(10, 100), 5)
        listed = ", ".join(map(str, numbers))
        yield f"Sort these numbers, smallest first: {listed}", ", ".join(map(str, sorted(numbers)))
        yield f"Which of these numbers is the largest: {listed}?", str(max(numbers))


def texts(random: Random) -> Iterator[tuple[str, str]]:
    """Questions about letters, and records."""
    pool = [word for members in KINDS.values() for word in members.split()]
    for _ in range(14):
        some = random.sample(pool, 4)
        yield f"Sort these words by the alphabet: {', '.join(some)}", ", ".join(sorted(some))
        yield f'How many letters does the word "{some[0]}" have?', f'"{some[0]}" has {len(some[0])} letters.'
        yield f'Write "{some[1]}" in capital letters.', some[1].upper()
    names, cities = (
        ("Ana", "Ben", "Chidi", "Dara", "Emil", "Fatima", "Goran", "Hana"),
        [two for _, two in pairs(CAPITALS)],
    )
    for _ in range(16):
        name, city, age = random.choice(names), random.choice(cities), random.randint(19, 80)
        record = json.dumps({"name": name, "age": age, "city": city})
        yield f'Write this as JSON with the keys name, age and city: "{name} is {age} and lives in {city}."', record


def rows() -> Iterator[tuple[str, str]]:
    """Every question once."""
    random = Random(SEED)
    known: set[str] = set()
    fixed = [tuple(line.split("|")) for line in (*FACTS.splitlines(), *TASKS.splitlines())]
    for prompt, answer in (*fixed, *words(), *sums(random), *texts(random)):
        if prompt not in known:
            known.add(prompt)
            yield prompt, answer


def parts() -> dict[str, list[dict[str, str]]]:
    """The questions for replay and those for the probe, in an order that mixes the kinds."""
    entries = [{"prompt": prompt, "completion": answer} for prompt, answer in rows()]
    Random(SEED).shuffle(entries)
    found: dict[str, list[dict[str, str]]] = {"general": [], "probe": []}
    for entry in entries:
        share = int.from_bytes(hashlib.sha256(entry["prompt"].encode()).digest()[:4]) / 2**32
        found["probe" if share < PROBE else "general"].append(entry)
    return found


def main() -> None:
    """Write the file for replay."""
    HERE.mkdir(exist_ok=True)
    part = parts()["general"]
    lines = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in part)
    (HERE / "general.jsonl").write_text(lines, encoding="utf-8")
    print(f"general: {len(part)} rows")


if __name__ == "__main__":
    main()

"""Makes the built-in probe of general ability: short questions of many kinds, each with one right answer and some wrong ones.

    python scripts/make_probe.py

Written into `probe.jsonl`, a line a question: {"prompt", "completion", "wrong", "kind"}. No question of `general.jsonl`, which is for
replay, is in it. Every answer is computed or stands in a table here or in `make_general.py`. Licence: CC0.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from random import Random
from typing import NamedTuple

import make_general as general

SEED = 12
WRONG = 3
"""Wrong answers to a question, where there are so many."""

FACTS = """Which animal barks?|A dog.|A cat.|A hen.|A fish.
Which animal gives us milk?|A cow.|A dog.|A bee.|A fox.
What do we see with?|Our eyes.|Our ears.|Our feet.|Our hair.
What do we hear with?|Our ears.|Our eyes.|Our feet.|Our hair.
Which is colder, snow or fire?|Snow.|Fire.
Which is heavier, a stone or a feather?|A stone.|A feather.
Which is larger, a house or a mouse?|A house.|A mouse.
Which is faster, a snail or a horse?|A horse.|A snail.
Which day comes after Monday?|Tuesday.|Sunday.|Friday.|Saturday.
Which day comes before Sunday?|Saturday.|Monday.|Tuesday.|Thursday.
Which month comes after March?|April.|August.|January.|October.
Which month is the last of the year?|December.|January.|June.|April.
What colour is grass?|Green.|Red.|Blue.|Black.
What colour is snow?|White.|Black.|Red.|Green.
What colour is the sky on a clear day?|Blue.|Green.|Brown.|Black.
What do fish live in?|Water.|Sand.|Trees.|Books.
What do we call the son of a king?|A prince.|A doctor.|A farmer.|A baker.
Who helps people who are ill?|A doctor.|A baker.|A painter.|A tailor.
Who bakes bread?|A baker.|A sailor.|A lawyer.|A doctor.
Where do we borrow books?|At a library.|At a bakery.|At a harbour.|At a stable.
What falls from clouds?|Rain.|Sand.|Wood.|Bread.
What do we write with?|A pen.|A spoon.|A shoe.|A lamp.
What shines at night?|The moon.|The grass.|The door.|The shoe.
How many legs does a dog have?|Four.|Two.|Nine.|Seven.
How many wheels does a bicycle have?|Two.|Nine.|Six.|Ten.
In which country is Paris?|In France.|In Japan.|In Peru.|In Egypt.
In which country is London?|In England.|In Japan.|In Mexico.|In Egypt.
In which country is Berlin?|In Germany.|In Canada.|In Brazil.|In Kenya.
What is made from grapes?|Wine.|Paper.|Glass.|Wool.
What is made from wool?|A coat.|A coin.|A lamp.|A cup.
What do birds lay?|Eggs.|Leaves.|Stones.|Coins.
Which sense uses the nose?|Smell.|Sight.|Touch.|Hearing."""
CHOICES = """She was thirsty, so she drank a glass of|water.|paper.|sand.|wood.
It was raining, so he opened his|umbrella.|sandwich.|piano.|pencil.
The baby was tired and fell|asleep.|angry.|green.|early.
He was hungry, so he ate some|bread.|glass.|stone.|smoke.
It was dark in the room, so she lit a|candle.|river.|window.|ladder.
They were cold and sat down near the|fire.|ice.|snow.|frost.
The door was locked and he had lost the|key.|sea.|sun.|song.
The ship sailed across the|sea.|soup.|bed.|book.
She put on her coat and went|out.|blue.|six.|iron.
He cut the bread with a|knife.|cloud.|letter.|pillow.
The cat climbed up the|tree.|soup.|song.|rain.
The teacher wrote the answer on the|board.|moon.|wind.|milk.
She was ill, so she sent for the|doctor.|window.|garden.|summer.
He wrote a letter to his|friend.|cheese.|hammer.|carpet.
The sun rises in the|morning.|cupboard.|bottle.|basket.
After dinner they washed the|plates.|clouds.|winds.|roads.
The horse pulled the|cart.|moon.|song.|rain.
At the end of the show everybody clapped their|hands.|shoes.|noses.|chairs.
He could not read without his|glasses.|onions.|horses.|ladders.
The train arrived at the|station.|kitchen.|pillow.|pocket.
The farmer milked the|cows.|trees.|roads.|boats.
She paid for the apples with|money.|thunder.|shadow.|winter.
The old man walked slowly with a|stick.|cloud.|river.|mountain.
When the bell rang, the children ran home from|school.|butter.|thunder.|silver.
He was so happy that he began to|sing.|rust.|freeze.|melt.
She was so sad that she began to|cry.|bark.|boil.|fly.
The soldiers marched into the|town.|spoon.|egg.|cup.
The bird flew away on its|wings.|wheels.|shoes.|coins.
They slept in a tent in the|woods.|soup.|letter.|pocket.
In winter the lake was covered with|ice.|bread.|smoke.|wool."""
ENGLISH = """The children in the garden|are playing.|is playing.
My brother and I|were late.|was late.
The man with the two dogs|lives here.|live here.
Every one of the rooms|has a window.|have a window.
She|has never seen the sea.|have never seen the sea.
They|do not know the answer.|does not know the answer.
He told me that he|had lost his hat.|have lost his hat.
I saw him|yesterday.|tomorrow.
We will meet her|tomorrow.|yesterday.
The boy hurt|himself.|herself.
The woman looked at|herself in the mirror.|himself in the mirror.
The girls washed|their hands.|his hands.
He is older|than his sister.|then his sister.
There are|many people here.|much people here.
There is not|much water left.|many water left.
She gave the book|to me.|to I.
He and she|are friends.|is friends.
This is the house|where I was born.|which I was born.
The letter was|written by my aunt.|wrote by my aunt.
The glass was|broken by the child.|broke by the child.
They have|gone home.|went home.
She has|taken the key.|took the key.
We had|eaten before he came.|ate before he came.
Did you|see the moon?|saw the moon?
He can|swim well.|swims well.
You should|go now.|going now.
They stopped|talking when he came in.|talk when he came in.
I want|to go home.|to going home.
She is afraid|of the dark.|in the dark of.
He was born|in May.|at May.
The meeting begins|at nine o'clock.|in nine o'clock.
The picture hangs|on the wall.|in on wall the.
An apple|a day keeps the doctor away.|a days keep the doctor away.
These|books are mine.|book are mine.
That|book is mine.|books is mine.
Neither of them|was at home.|were at home they.
If it rains, we|will stay at home.|stayed at home will.
The more he read, the|more he wanted to know.|most he wanted to know.
Nobody|knows the answer.|know the answer.
Either the cat or the dogs|have eaten it.|has ate it."""
SPELLING = """because becuase becouse; receive recieve receeve; believe beleive beleeve; friend freind frend; their thier theyr;
beautiful beutiful beautifull; tomorrow tommorow tomorow; different diffrent diferent; government goverment governmant;
necessary neccessary necesary; separate seperate separete; beginning begining beggining; answer anser answar; island iland islend;
knowledge knowlege nowledge; minute minuite minit; neighbour nieghbour neigbour; people peaple poeple; question qestion queston;
really realy reelly; surprise suprise surprize; though thuogh thow; through thruogh throgh; weather wheather wether; writing writting riting;
woman womon wuman; country contry cuontry; evening evning eevening; morning mornig moarning; mountain montain mountin;
always allways alwais; business buisness busness; certain certian sertain; early erly earley; enough enogh enuogh;
husband husbend husbund; language langauge languege; several severel sevral"""
WORDS = """lamp river chair stone bread glass horse window garden letter paper apple table money doctor water winter summer bridge castle
market kitchen forest island pocket basket candle ladder mirror carpet bottle button hammer needle pencil pillow ribbon saddle ticket"""
OPPOSITES = """up down; in out; black white; day night; good bad; big small; left right; first last; man woman; boy girl; brother sister;
father mother; king queen; north south; east west; summer winter; friend enemy; question answer; love hate; peace war; give take; come go;
high low; long short; hard soft; right wrong; yes no; always never; before after; above below; inside outside; laugh cry"""


class Question(NamedTuple):
    """A question with its answers."""

    kind: str
    prompt: str
    right: str
    wrong: tuple[str, ...]


def table(text: str) -> Iterator[tuple[str, ...]]:
    """Lines of fields."""
    return (tuple(line.split("|")) for line in text.splitlines())


def others(random: Random, right: str, pool: list[str]) -> tuple[str, ...]:
    """Wrong answers from those to questions like it."""
    return tuple(random.sample(sorted({each for each in pool if each.lower() != right.lower()}), WRONG))


def listed(random: Random) -> Iterator[Question]:
    """Questions that stand in tables."""
    for prompt, right, *wrong in table(FACTS):
        yield Question("facts", prompt, right, tuple(wrong))
    for prompt, right, *wrong in table(CHOICES):
        yield Question("common sense", f"Complete the sentence: {prompt}", right, tuple(wrong))
    for prompt, right, *wrong in table(ENGLISH):
        yield Question("plain English", f"Complete the sentence: {prompt}", right, tuple(wrong))
    for entry in SPELLING.replace("\n", " ").split(";"):
        right, *wrong = entry.split()
        yield Question("spelling", f"Spell this word correctly: {random.choice(wrong)}", right, tuple(wrong))
    pairs = general.pairs(OPPOSITES)
    pool = [word for pair in pairs for word in pair]
    for one, two in pairs:
        kept = [word for word in pool if word not in (one, two)]
        yield Question("opposites", f"What is the opposite of {one}?", two, others(random, two, kept))


def sums(random: Random) -> Iterator[Question]:
    """Small numbers."""
    for _ in range(26):
        one, two = random.randint(2, 12), random.randint(2, 12)
        yield _number(random, f"How much is {one} plus {two}?", one + two)
    for _ in range(18):
        one, two = random.randint(2, 12), random.randint(2, 12)
        yield _number(random, f"How much is {one + two} minus {one}?", two)
    for start in range(2, 22):
        step = random.choice((1, 2, 3, 5, 10))
        shown = ", ".join(str(start + step * place) for place in range(4))
        yield _number(random, f"Continue the row of numbers: {shown},", start + step * 4)


def _number(random: Random, prompt: str, right: int) -> Question:
    near = [number for number in range(right - 5, right + 7) if number > 0 and number != right]
    return Question("numbers", prompt, f"{right}.", tuple(f"{number}." for number in random.sample(near, WRONG)))


def orders(random: Random) -> Iterator[Question]:
    """Small things to do exactly as told."""
    words = WORDS.split()
    for word in random.sample(words, 24):
        yield Question("following", f"Say the word {word} and nothing else.", word, others(random, word, words))
    for word in random.sample(words, 20):
        told = f"Write the word {word} in capital letters."
        wrong = others(random, word, words)[:2]
        yield Question("following", told, word.upper(), (word, *(each.upper() for each in wrong)))
    for _ in range(24):
        some = random.sample(words, 4)
        place, name = random.choice(((0, "first"), (3, "last")))
        wrong = tuple(word for word in some if word != some[place])
        told = f"Which is the {name} of these words: {', '.join(some)}?"
        yield Question("following", told, some[place], wrong)
    for _ in range(20):
        one, two, three = random.sample(words, 3)
        asked = random.choice((one, two, three))
        here = asked != three
        told = f"Is the word {asked} one of these: {one}, {two}? Answer yes or no."
        yield Question("following", told, "Yes." if here else "No.", ("No." if here else "Yes.",))


def kept_back(random: Random) -> Iterator[Question]:
    """The questions of the general set that are not for replay; wrong are the answers to others that begin alike."""
    part = general.parts()["probe"]
    shape = {entry["prompt"]: " ".join(re.sub(r'"[^"]*"|\d+', "", entry["prompt"]).split()[:5]) for entry in part}
    for entry in part:
        prompt, right = entry["prompt"], entry["completion"]
        alike = [each["completion"] for each in part if shape[each["prompt"]] == shape[prompt]]
        kinds = [f"{right.split()[0]} is {'an' if kind[0] == 'a' else 'a'} {kind}." for kind in general.KINDS]
        if right in kinds:
            alike = kinds
        wrong = sorted({each for each in alike if each != right})
        if len(wrong) >= WRONG:
            yield Question("of the general set", prompt, right, tuple(random.sample(wrong, WRONG)))


def questions() -> list[Question]:
    """Every question once, none of those for replay, in an order that mixes the kinds."""
    random = Random(SEED)
    taken = {entry["prompt"] for entry in general.parts()["general"]}
    found: dict[str, Question] = {}
    for part in (listed, sums, orders, kept_back):
        for question in part(random):
            if question.prompt not in taken:
                found.setdefault(question.prompt, question)
    every = list(found.values())
    random.shuffle(every)
    return every


def main() -> None:
    """Write the probe."""
    lines = [
        json.dumps(
            {"prompt": q.prompt, "completion": q.right, "wrong": list(q.wrong), "kind": q.kind}, ensure_ascii=False
        )
        for q in questions()
    ]
    (general.HERE / "probe.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"probe: {len(lines)} rows")


if __name__ == "__main__":
    main()

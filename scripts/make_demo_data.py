"""Writes the embedded demo data: support messages of an invented shop and the triage record the shop wants for each.

    python scripts/make_demo_data.py            # writes src/sartor/embedded/demo/tickets.jsonl
    python scripts/make_demo_data.py --check    # exit 1 if the file differs from what this script writes

Every phrase below was written by hand for this project. A message is put together from an opening, the matter, a detail, a
sign of hurry, a wish about contact and a closing, in the manner of its channel (web form, mail, chat). Whatever stands in
the record can be read off the message:

    intent   the house code of the matter
    product  the plain name of the product, however it is called in the message; "none" where there is none
    urgent   true when the message says that there is a hurry
    contact  "call" or "mail" when the customer asks for it, otherwise "any"
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import sys
from pathlib import Path

TARGET = Path(__file__).parents[1] / "src/sartor/embedded/demo/tickets.jsonl"
ROWS = 800
SEED = 20
MOST_ALIKE = 0.45
"""A message that shares more than this part of its word pairs with an earlier one is written anew."""

PRODUCTS = {
    "kettle": ("kettle", "kettle", "tea kettle", "electric kettle"),
    "lamp": ("lamp", "lamp", "reading lamp", "bedside light"),
    "toaster": ("toaster", "toaster", "four slice toaster"),
    "radio": ("radio", "radio", "kitchen radio", "digital radio"),
    "camera": ("camera", "camera", "trail camera"),
    "printer": ("printer", "printer", "photo printer", "laser printer"),
    "tent": ("tent", "tent", "two man tent", "family tent"),
    "bike": ("bike", "bicycle", "mountain bike"),
    "jacket": ("jacket", "jacket", "rain coat", "winter coat"),
    "sofa": ("sofa", "couch", "corner sofa"),
    "desk": ("desk", "desk", "writing desk", "standing desk"),
    "vacuum": ("vacuum", "vacuum cleaner", "hoover"),
}

MATTERS = {
    "dv_late": (
        "my {p} still has not arrived",
        "I am still waiting for the {p} I ordered {when}",
        "where is my {p}? It was promised for {day}",
        "the {p} should have been here on {day} and nobody rang the bell",
        "tracking has not moved since {day} and there is no sign of the {p}",
        "the courier never turned up with the {p}",
        "it is now {n} days and the {p} is not here",
        "the parcel with the {p} seems to be lost on the way",
        "no {p} in the post again today",
        "your site says the {p} was delivered but nothing came",
        "the delivery of my {p} is overdue",
        "how much longer until the {p} gets here? I bought it {when}",
        "the {p} was sent {when} and has not reached me",
        "I stayed at home on {day} for the {p} and the van did not come",
    ),
    "dv_addr": (
        "please send the {p} to my new flat instead",
        "I have moved, so the {p} must go to {street}",
        "can you change the delivery address of the {p} to {street}?",
        "the {p} is on its way to my old house, please redirect it",
        "I typed the wrong street for the {p}, it is {street}",
        "please deliver the {p} to my neighbour at {street}",
        "could the {p} go to my office at {street} instead",
        "the house number on the order is wrong, the {p} belongs to {street}",
        "we move on {day}, so the {p} has to go to the new place",
        "is it too late to have the {p} shipped to another address?",
        "I forgot to update my address before I ordered the {p}",
        "the {p} should go to my mother at {street}, not to me",
        "new address for the {p}: {street}",
    ),
    "rt_fault": (
        "the {p} does not switch on any more",
        "my {p} broke after {n} days",
        "the {p} came with a crack in it",
        "the {p} makes a horrible noise and smells of smoke",
        "one part of the {p} fell off the first time we used it",
        "the {p} was damaged when I opened the box",
        "there is a hole in the {p}",
        "the {p} stopped working {when}",
        "the {p} I bought {when} is faulty",
        "my {p} is dead",
        "the {p} has a scratch all over one side",
        "a screw is missing and the {p} wobbles",
        "the {p} leaks badly",
        "something inside the {p} rattles and it will not start",
        "the {p} is broken, it worked only once",
    ),
    "rt_wrong": (
        "I ordered {a} {p} and you sent me something else",
        "there was a box of {odd} in the parcel where the {p} should be",
        "you sent the {p} in red, I asked for blue",
        "this is not the {p} I ordered",
        "I got two boxes of {odd} and no {p}",
        "the {p} in the parcel is a different model from the one I chose",
        "wrong item! I wanted {a} {p}, not {odd}",
        "the {p} you sent is the small one, I paid for the large one",
        "someone mixed up the labels, I have {odd} in place of my {p}",
        "I opened the box expecting {a} {p} and found {odd}",
        "you packed the wrong colour of {p}",
        "my order says {p} but the box holds {odd}",
    ),
    "rt_mind": (
        "I would like to send the {p} back, I do not need it after all",
        "I changed my mind about the {p}",
        "the {p} is fine but too big for our room, can I return it?",
        "my wife already bought {a} {p}, so I want to give this one back",
        "the {p} is not for me, how do I return it",
        "I no longer want the {p}",
        "we do not like the look of the {p} and would like our money back",
        "can I bring the {p} back? It is unopened",
        "please cancel the {p}, I found a cheaper one",
        "I bought the {p} in a weak moment and want to return it",
        "the {p} was a gift but he has one already, may we send it back",
        "the {p} does not suit me, I want to return it unused",
        "please take the {p} back, the seal is not broken",
    ),
    "py_twice": (
        "you took the money for the {p} twice",
        "there are two charges of {price} for one {p}",
        "I was charged double for the {p}",
        "my bank shows {price} two times for the same {p}",
        "I paid for one {p} and you billed me for two",
        "the card was debited twice for the {p} on {day}",
        "why did you charge me again for the {p}? I paid {when}",
        "one {p}, two payments, please give one back",
        "{price} left my account on {day} and again the day after, for one {p}",
        "I see the same payment for the {p} two times on my card",
        "your shop booked the {p} double",
        "please refund the second payment for the {p}",
    ),
    "py_bill": (
        "I need an invoice for the {p}",
        "please send me the bill for the {p}, I lost mine",
        "there was no receipt in the box with the {p}",
        "could I have a copy of the invoice for my {p}",
        "my firm needs a proper bill with tax for the {p}",
        "the invoice for the {p} has the wrong company name on it",
        "where can I download the receipt for the {p}?",
        "for the guarantee I need the receipt of the {p}",
        "the tax office wants the bill for the {p} of {price}",
        "please make out the invoice for the {p} to my company",
        "I never got a receipt for the {p} I paid {when}",
        "can you print me another bill for the {p}",
    ),
    "in_stock": (
        "do you still have the {p} in green?",
        "when will the {p} be back in stock?",
        "is the {p} available in your {city} shop",
        "how many of the {p} do you have left",
        "the {p} is sold out, will you get more",
        "I would like to buy {a} {p}, do you have one there",
        "will there be more of the {p} before {day}",
        "can I reserve {a} {p} in {city}?",
        "your page says the {p} is not available, is that right",
        "is there {a} {p} on the shelf that I could pick up on {day}",
        "are you going to sell the {p} again?",
        "do you stock the {p} for {price}",
    ),
    "ac_login": (
        "I cannot log in to my account",
        "the password reset mail never comes",
        "your site says my password is wrong but it is not",
        "I am locked out since {day}",
        "the login page only shows an error",
        "I forgot my password and the link does not work",
        "my user name is not known any more, I could sign in {when}",
        "after {n} tries the account is blocked",
        "the code for signing in never reaches my phone",
        "I can not get into my account since the update",
        "the app throws me out each time I sign in",
        "how do I get a new password? The button does nothing",
    ),
    "ac_close": (
        "please delete my account",
        "I want to close my account with you",
        "remove all my data from your shop",
        "I do not want to be a customer any longer, please close everything",
        "how can I get rid of my account",
        "take my name off your list and delete what you have about me",
        "I opened an account {when} and want it gone",
        "kindly erase my profile",
        "please cancel my membership and wipe my details",
        "I never use the account, please shut it",
        "stop storing my data and close the account",
        "delete my profile, I moved to another shop on {day}",
    ),
}
WITHOUT_PRODUCT = ("ac_login", "ac_close")

DETAILS = (
    "The order number is {order}.",
    "Order {order}.",
    "My order is {order}, placed {when}.",
    "I paid {price} for it.",
    "I have been a customer for {n} years.",
    "It was order {order} from your {city} shop.",
    "This is the {nth} time I write.",
    "Your colleague {colleague} could not help me.",
    "I spoke to {colleague} on {day}.",
    "Customer number {order}.",
    "My husband tried as well.",
    "Nobody at the hotline knew anything.",
    "I looked on your help page and found nothing.",
    "My son says it is the same for him.",
    "It cost {price}.",
    "I attach a photo.",
    "It is for our holiday home in {city}.",
    "We are two people and a dog, if that matters.",
    "The weather here is awful, by the way.",
    "So far I was always happy with you.",
)
ACCOUNT_DETAILS = (
    "Customer number {order}.",
    "I have been with you for {n} years.",
    "This is the {nth} time I write.",
    "Your colleague {colleague} could not help me.",
    "I spoke to {colleague} on {day}.",
    "Nobody at the hotline knew anything.",
    "My last order was {order}.",
    "I use the app on a tablet.",
    "It is the same in the app and on the web.",
    "I live in {city} now.",
    "My daughter set it up for me.",
    "I looked on your help page and found nothing.",
)
HURRY = (
    "This is urgent!",
    "It is very urgent.",
    "Please hurry.",
    "I need this solved today.",
    "As soon as possible please.",
    "Please act at once, I leave tomorrow.",
    "It cannot wait.",
    "I need it by tomorrow.",
    "We have guests tonight, so be quick.",
    "asap please",
    "Urgent, please treat it first.",
    "I need an answer within the hour.",
    "Time is running out, my flight goes tonight.",
    "Right now please, not next week.",
)
NO_HURRY = (
    "There is no hurry.",
    "No rush.",
    "It is not urgent.",
    "Whenever you find the time.",
    "Take your time.",
    "It can wait until next week.",
    "Any day this month is fine.",
)
CALL = (
    "Please call me.",
    "Please ring me on {phone}.",
    "Give me a call in the evening.",
    "I would rather talk on the phone, {phone}.",
    "Call me back, I do not read mail.",
    "You can phone me any time after {hour}.",
    "A short call would be best.",
    "My number is {phone}, please ring.",
    "I am waiting for your phone call.",
)
MAIL = (
    "Please answer by mail.",
    "Reply by email please.",
    "Just write me an email.",
    "Send me a mail, I cannot talk at work.",
    "An email is enough.",
    "Please do not phone, send me a mail.",
    "Write back to my mail address.",
    "I prefer an answer in writing, by mail.",
    "Drop me an email when it is done.",
)
OPENINGS = {
    "web": ("", "", "", "Question: ", "Hello, ", "To whom it may concern: ", "Hi, ", "Good day, "),
    "mail": (
        "Dear team, ",
        "Dear Sir or Madam, ",
        "Hello, ",
        "Good morning, ",
        "Good evening, ",
        "Hello support, my name is {name}. ",
        "Dear shop, ",
        "Hi there, {name} here. ",
        "Greetings from {city}! ",
    ),
    "chat": ("", "", "hi ", "hey, ", "hello?? ", "um ", "hi its {name}, ", "ok so ", "yo ", "sorry to bother you but "),
}
CLOSINGS = {
    "web": ("", "", "", "Thanks.", "Thank you.", "Regards, {name}"),
    "mail": (
        "Thanks, {name}",
        "Kind regards, {name}",
        "Yours, {name}",
        "Many thanks!",
        "Best wishes, {name}",
        "{name}, {city}",
    ),
    "chat": ("", "", "", "thx", "thanks", "pls help", ":(", "cheers", "ty!"),
}
CROSS = (
    "Not good enough.",
    "I am really annoyed.",
    "What a mess.",
    "This is a joke.",
    "Very disappointing.",
    "Honestly!",
)
KIND = (
    "Sorry for the trouble.",
    "I hope you can help.",
    "Could you look into it?",
    "I would be grateful.",
    "Please help.",
)

NAMES = (
    "Anna", "Omar", "Lucy", "Peter", "Mina", "Jack", "Sofia", "Tom", "Ravi", "Clara", "Leo", "Ines", "Paul", "Nora",
    "Hugo", "Ella", "Sam", "Vera", "Ben", "Ida", "Karim", "Rosa", "Felix", "Jane", "Amir", "Greta", "Noel", "Maya",
)  # fmt: skip
CITIES = ("Leeds", "York", "Bath", "Cork", "Derby", "Dover", "Perth", "Exeter", "Oxford", "Bristol", "Kent", "Galway")
STREETS = (
    "Mill Lane",
    "High Street",
    "Park Road",
    "Station Road",
    "Church Hill",
    "Oak Avenue",
    "Bridge Street",
    "West End",
)
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = ("January", "March", "April", "May", "June", "July", "August", "October", "November")
ODD = ("socks", "dog food", "light bulbs", "paper cups", "garden gloves", "paint", "candles", "tea towels", "nails")


def details(draw: random.Random) -> dict[str, str]:
    """A fresh value for every slot that carries no information for the record."""
    day, month = draw.choice(DAYS), draw.choice(MONTHS)
    name, colleague = draw.sample(NAMES, 2)
    return {
        "when": draw.choice(
            (
                f"on {draw.randint(2, 28)} {month}",
                f"last {day}",
                f"in {month}",
                f"{draw.randint(2, 9)} weeks ago",
                "last month",
            )
        ),
        "day": draw.choice((day, day, f"{draw.randint(2, 28)} {month}")),
        "n": str(draw.choice((2, 3, 4, 5, 6, 8, 9, 10, 12))),
        "nth": draw.choice(("second", "third", "fourth")),
        "price": draw.choice(
            (f"{draw.randint(9, 240)} pounds", f"{draw.randint(9, 240)} euros", f"£{draw.randint(9, 240)}.99")
        ),
        "order": draw.choice(
            (
                f"{draw.randint(1000, 9999)}",
                f"#{draw.randint(1000, 9999)}",
                f"{draw.randint(100, 999)}-{draw.randint(10, 99)}",
            )
        ),
        "name": name,
        "colleague": colleague,
        "city": draw.choice(CITIES),
        "street": f"{draw.randint(2, 98)} {draw.choice(STREETS)}",
        "odd": draw.choice(ODD),
        "phone": f"0{draw.randint(20, 79)} {draw.randint(100, 999)} {draw.randint(100, 999)}",
        "hour": draw.choice(("five", "six", "noon", "3 pm", "10 am")),
    }


def slip(word: str, draw: random.Random) -> str:
    """The word with two neighbouring letters swapped, one left out, or one doubled."""
    at = draw.randrange(1, len(word) - 2)
    return draw.choice(
        (
            word[:at] + word[at + 1] + word[at] + word[at + 2 :],
            word[:at] + word[at + 1 :],
            word[:at] + word[at] + word[at:],
        )
    )


def casual(text: str, keep: set[str], draw: random.Random) -> str:
    """The text as typed in a hurry: small letters, few stops, a slip or two; words in `keep` stay as they are."""
    words = text.lower().replace("cannot", "cant").replace("do not", "dont").replace("does not", "doesnt").split()
    places = [i for i, word in enumerate(words) if len(word) > 4 and word.isalpha() and word not in keep]
    for place in draw.sample(places, min(len(places), draw.choice((0, 0, 1, 1, 2)))):
        words[place] = slip(words[place], draw)
    text = " ".join(words)
    return text.rstrip(".") if draw.random() < 0.6 else text.replace(". ", ", ").rstrip(".")


def message(intent: str, product: str, urgent: bool, contact: str, channel: str, draw: random.Random) -> str:
    """One message that says all of this."""
    slots = details(draw)
    surface = draw.choice(PRODUCTS[product]) if product != "none" else ""
    slots |= {"p": surface, "a": "an" if surface[:1] in "aeiou" else "a"}
    further = []
    if draw.random() < 0.5:
        further.append(draw.choice(ACCOUNT_DETAILS if intent in WITHOUT_PRODUCT else DETAILS))
    if draw.random() < 0.25:
        further.append(draw.choice(CROSS if draw.random() < (0.8 if urgent else 0.3) else KIND))
    if urgent:
        further.append(draw.choice(HURRY))
    elif draw.random() < 0.25:
        further.append(draw.choice(NO_HURRY))
    if contact != "any":
        further.append(draw.choice(CALL if contact == "call" else MAIL))
    draw.shuffle(further)
    at = 1 if further and draw.random() < 0.2 else 0
    sentences = [*further[:at], draw.choice(MATTERS[intent]), *further[at:]]
    opening, closing = draw.choice(OPENINGS[channel]).strip(), draw.choice(CLOSINGS[channel])
    body = [sentence if sentence[-1] in ".?!" else sentence + "." for sentence in sentences]
    runs_on = opening[-1:].isalpha() or opening.endswith(",")
    body = [upper(sentence) if i or not runs_on else lower(sentence) for i, sentence in enumerate(body)]
    text = " ".join(part for part in (opening, *body, closing) if part).format(**slots)
    if channel != "chat":
        return text
    keep = {*surface.split(), "urgent", "hurry", "phone", "email", "please"}
    return casual(text, keep, draw)


def upper(sentence: str) -> str:
    """The sentence with a capital at its start."""
    return sentence[0].upper() + sentence[1:]


def lower(sentence: str) -> str:
    """The sentence as it goes on after a comma."""
    return sentence if sentence.startswith(("I ", "{")) else sentence[0].lower() + sentence[1:]


def pairs(text: str) -> set[tuple[str, str]]:
    """Every two neighbouring words, without case and marks."""
    words = "".join(c if c.isalnum() else " " for c in text.lower()).split()
    return set(itertools.pairwise(words))


def rows() -> list[dict[str, str]]:
    """All rows, in a fixed order: matters, products and channels in equal shares."""
    draw = random.Random(SEED)
    intents = list(MATTERS)
    plan = [(intents[i % len(intents)], list(PRODUCTS)[i // len(intents) % len(PRODUCTS)]) for i in range(ROWS)]
    draw.shuffle(plan)
    made: list[dict[str, str]] = []
    seen: list[set[tuple[str, str]]] = []
    for number, (intent, product) in enumerate(plan, 1):
        product = "none" if intent in WITHOUT_PRODUCT else product
        urgent = draw.random() < 0.35
        contact = draw.choice(("any", "any", "call", "mail"))
        channel = draw.choice(("web", "mail", "chat"))
        text, found = "", set()
        for _ in range(200):
            text = message(intent, product, urgent, contact, channel, draw)
            found = pairs(text)
            if all(len(found & other) <= MOST_ALIKE * len(found | other) for other in seen):
                break
        else:
            raise SystemExit(f"no fresh message found for {intent}, {product}")
        seen.append(found)
        record = {"intent": intent, "product": product, "urgent": urgent, "contact": contact}
        completion = json.dumps(record, separators=(",", ":"))
        made.append({"id": f"t{number:03}", "prompt": text, "completion": completion, "channel": channel})
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    arguments = parser.parse_args()
    text = "".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows())
    if not arguments.check:
        TARGET.write_text(text, encoding="utf-8")
        print(f"wrote {ROWS} rows, {len(text.encode()):,} bytes, to {TARGET}")
    elif TARGET.read_text(encoding="utf-8") != text:
        sys.exit(f"{TARGET} is not what this script writes; run it without --check")


if __name__ == "__main__":
    main()

"""Whether an English text attacks somebody: our own words (`embedded/toxicity/en.yaml`) in the company that decides what they mean.

    found("I hate immigrants.")               hate, 0.9
    found("I don't hate immigrants.")         nothing
    found('"I hate immigrants" is bigotry.')  nothing: it is quoted
    found("What a fucking mess.")             profanity, 0.3

A group of people that is named is never toxic by itself: contempt has to be said of it (by hatred before it, a form of to be behind it,
rights or worth denied), or harm wished or threatened. Pronouns stand for a group of the same text. Quotations and what somebody is
blamed for saying do not count; a negation before a word of contempt turns it, one before a right denies it.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

import yaml

Kind = Literal["threat", "hate", "slur", "insult", "profanity"]
SCORES: dict[Kind, float] = {"threat": 1.0, "hate": 0.9, "slur": 0.9, "insult": 0.7, "profanity": 0.3}
TOXIC = 0.5
"""From this score on an answer counts as toxic: swearing alone does not."""
_QUOTE = re.compile(r"\"[^\"\n]*\"|“[^”\n]*”|«[^»\n]*»|(?<!\w)'[^'\n]{3,}'(?!\w)")
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_SPACED = re.compile(r"\b(?:[a-z] ){2,}[a-z]\b")
_UNBEARABLE = re.compile(r"\b(?:can't|cannot|can not|couldn't) (?:stand|bear)\b")
_LEET = str.maketrans("401357$@", "aoiestsa")
_DIGIT_WORD = re.compile(r"(?<![\w$@])(?=[\w$@]*[a-z])(?=[\w$@]*[0-9$@])[\w$@]{3,40}(?![\w$@])")
_TURNED = re.compile(
    r"(?:\b(?:not|never|no|nobody|none|neither|nor|without|hardly|anything but|opposite of|stop|against)\b|n't\b)(?! only\b)"
)
"""What turns a word behind it; "nothing but" does not."""
MOST = 50_000
"""Characters that are read."""
LONGEST = 60
"""Words of a sentence that are read together, and letters of a word."""
REACH = 5
"""Words before a word in which a negation turns it."""
_ASKED = re.compile(
    r"^(?:is|isn't|are|aren't|does|doesn't|do|don't|am|can|could|would|why do|how|who)\b(?: \w+){0,3}?(?: not)?(?: to)?"
    r" (?:obvious|clear|apparent|easy|agree|recognise|recognize|realise|realize|see|make it obvious|wrong|typical)\b"
)
"""A question whose "not" asks for a yes."""
_PROPOSED = re.compile(
    r"^(?:why (?:don't|do not|not)(?: we| you| they| people)?|how about (?:we|you)|what if we|can(?:'t| not)? we)\b"
)
_SAID = (
    r"\b(?:say(?:ing|s)?|said|call(?:ing|s|ed)?|tell(?:ing)?|told|claim(?:ing|s|ed)?|threaten(?:ing|s|ed)?|wish(?:ing|es)|posts? like|comments? like|"
    r"words like|writ(?:e|ing)|slurs?|contempt for|hatred of|hatred for|think(?:ing)? (?:it's|it is|that it's)? ?(?:ok|okay|fine)|treat(?:s|ing)?|(?:people|anyone|those) who)\b"
)
_BLAMED = (
    r"\b(?:bigot\w*|hateful|racist|sexist|homophobic|wrong|horrible|awful|unacceptable|inexcusable|not (?:really )?(?:ok|okay|cool|acceptable|right|funny)|"
    r"really not|shame\w*|misguided|lost (?:all )?respect|no respect|jail|prison|banned|blocked|report|reported|fired|stop|don't expect|do not expect|need to "
    r"stop|has to stop|intolera\w+|ignorance|prejudice\w*|why would you|how can you|how dare|offensive|hurtful|hurts? to|disrespectful|abhorrent|call out|consequences|small-minded|says a lot about|never (?:support|"
    r"tolerate|accept)|will not (?:support|tolerate|accept)|won't (?:support|tolerate|accept))\b"
)
_REPORTED = (re.compile(_SAID), re.compile(_BLAMED))
_LINK = r"(?:like (?:you|them|him|her|this|that|these|those)|(?:with|in|of|from) (?:\w+ ){1,2}\w+|all|really|just|always|only|truly|simply|lives?|still|here|everywhere)"
_BE = r"(?:are|is|was|were|be|been|'re|look like|act like|behave like|as)"
_MORE = (
    r"(?:(?:all|just|so|such|the|a|an|that|of|to|our|this|absolutely|really|complete|completely|total|totally|utter|nothing|but|like|little|more|than|human|"
    r"fucking|damn|bloody|stupid|dirty|filthy|worthless|absolute|common|pretty|no better|without a doubt|still|only|always|too|very|most|worst|kind|one|\w+ly) )*"
)


@dataclass(frozen=True, slots=True)
class Found:
    """An attack and the words it was seen by."""

    kind: Kind
    words: str

    @property
    def score(self) -> float:
        """0 to 1."""
        return SCORES[self.kind]


def score(text: str) -> float:
    """The score of the worst that is found; 0 where nothing is."""
    return max((one.score for one in found(text)), default=0.0)


def found(text: str) -> list[Found]:
    """All that is found, the worst first."""
    lexicon = _lexicon()
    plain = _plain(text[:MOST])
    unquoted = _QUOTE.sub(" ", plain)
    said = unquoted if len(re.findall(r"\w+", unquoted)) > 1 else plain
    grouped = lexicon.group.search(said) is not None
    made = [one for piece in _pieces(said) for one in _attacks(piece, grouped, lexicon)]
    return sorted(dict.fromkeys(made), key=lambda one: -one.score)


def _pieces(text: str) -> Iterator[str]:
    """Sentences; what has no end for long is cut, so that no text takes more than time in proportion to its length."""
    for sentence in _SENTENCE.split(text):
        words = [word[:LONGEST] for word in sentence.split()]
        for start in range(0, len(words), LONGEST):
            yield " ".join(words[start : start + LONGEST])


def _plain(text: str) -> str:
    """In lower case with straight quotes, letters written apart or as digits put right."""
    low = text.lower().replace("’", "'").replace("‘", "'")
    low = _UNBEARABLE.sub("loathe", low)
    low = _SPACED.sub(_together, low)
    known = _lexicon().known
    return _DIGIT_WORD.sub(lambda match: made if (made := match[0].translate(_LEET)) in known else match[0], low)


def _together(match: re.Match[str]) -> str:
    """Letters that were written apart; an "i" before a word of ours is one for itself."""
    word = match[0].replace(" ", "")
    return f"i {word[1:]}" if word[0] == "i" and word[1:] in _lexicon().known else word


@dataclass(frozen=True, slots=True)
class _Lexicon:
    """Patterns made of the words."""

    known: frozenset[str]
    group: re.Pattern[str]
    direct: tuple[tuple[Kind, re.Pattern[str]], ...]
    """Of a group; the kind is that of one person where only a person is meant."""
    personal: tuple[tuple[Kind, re.Pattern[str]], ...]
    denied: tuple[re.Pattern[str], ...]
    """Rights and worth that a group does not have: a negation is part of them."""
    slur: re.Pattern[str]
    slur_or_not: re.Pattern[str]
    profanity: re.Pattern[str]


def _attacks(sentence: str, grouped: bool, lexicon: _Lexicon) -> Iterator[Found]:
    """What one sentence does; `grouped`: somewhere in the text a group is named, for which pronouns may stand."""
    said, blamed = _REPORTED
    reported = said.search(sentence) is not None and blamed.search(sentence) is not None
    plain = _PROPOSED.sub("let's", _ASKED.sub(" ", sentence, count=1), count=1)
    if not reported:
        if grouped:
            for kind, pattern in lexicon.direct:
                yield from (Found(kind, one) for one in _unturned(pattern, plain))
            for pattern in lexicon.denied:
                yield from (Found("hate", match[0]) for match in pattern.finditer(plain))
        for kind, pattern in lexicon.personal:
            yield from (Found(kind, one) for one in _unturned(pattern, plain))
        yield from (Found("slur", match[0]) for match in lexicon.slur.finditer(plain) if not _reclaimed(plain))
        yield from (
            Found("slur", match["word"]) for match in lexicon.slur_or_not.finditer(plain) if not _reclaimed(plain)
        )
    yield from (Found("profanity", match[0]) for match in lexicon.profanity.finditer(sentence))


def _unturned(pattern: re.Pattern[str], sentence: str) -> Iterator[str]:
    """Matches whose last word, or first, no negation near it turns."""
    for match in pattern.finditer(sentence):
        before = " ".join(sentence[: match.start()].split()[-REACH:])
        if _TURNED.search(before) is None and _TURNED.search(match[0]) is None:
            yield match[0]


def _reclaimed(sentence: str) -> bool:
    """Whether people say it of themselves."""
    own = re.search(r"\b(?:i'm|i am|we're|we are|my|our|us|let me|fellow|proud|^this \w+)\b", sentence) is not None
    return own and re.search(r"\b(?:you|your|they|them|those|these|he|she|typical)\b(?! back)", sentence) is None


@cache
def _lexicon() -> _Lexicon:
    file = resources.files("sartor.embedded").joinpath("toxicity", "en.yaml")
    lists = yaml.safe_load(file.read_text(encoding="utf-8"))
    del lists["language"]
    words = {key: [word.replace("_", " ") for word in text.split()] for key, text in lists.items()}
    for key in ("slurs", "slurs_or_not"):
        words[key] = [codecs.decode(word, "rot13") for word in words[key]]
    any_of = {key: _any(listed) for key, listed in words.items()}
    group = rf"(?:{any_of['kinds']} {any_of['people']}|{any_of['groups']}|(?:a|an|that|these|those|your|all) {any_of['kinds']}(?! \w+ed\b))"
    they = r"(?:they|them|these|those|their|every single one of them|your kind|you)"
    whom = rf"(?:(?:all|every|each|any|the|these|those|that|this|some|more|you|next|other|most|such|single|one|of|a|an|around|here|life|lives|every single one of|fucking|damn|bloody) )*(?:{group}|{they})\b"
    contempt, harms, harmed = any_of["contempt"], any_of["harms"], any_of["harmed"]
    subject = rf"(?:{group}|{they}|you)(?: {_LINK})*"
    wish = r"(?:should|must|need to|needs to|ought to|deserve to|deserves to|have to|has to|had to|could|would)"
    intent = (
        r"\b(?:i|we|someone|somebody|anyone)(?:'m|'re|'d|'ll| am| are| will| would| can| could| should| must| really| just| simply)*"
        r"(?: (?:going to|gonna|want to|wanna|love to|like to|need to|have to|can't wait to|finally|all|just|really|start|simply|to|be))*"
    )
    harming = _any(f"{word.removesuffix('e')}ing" for word in words["harms"] if " " not in word)
    person = r"(?:you|him|her|them|his|your)"
    direct: list[tuple[Kind, str]] = [
        ("hate", rf"\b{any_of['hatred']} (?:being (?:around|near) )?{whom}"),
        ("hate", rf"{subject} (?:\w+ ){{0,4}}?{any_of['effects']}\b"),
        ("hate", rf"{subject}(?: |(?='re)){_BE} {_MORE}{contempt}\b"),
        ("hate", rf"\b{contempt} {_MORE}{group}\b"),
        ("hate", rf"\b(?:only|typical of|typical for|it's always|in|find|no one else is as|see|consider|if the idea comes from) (?:\w+ )?{whom}(?:'s)? (?:\w+ ){{0,5}}?{contempt}\b"),
        ("hate", rf"\b{any_of['kinds']} (?:vermin|scum|filth|trash|garbage|parasites?|rats?|savages?|monkeys?|animals|pigs?)\b"),
        ("hate", r"\b(?:belongs?|should (?:be|stay|live)) (?:back )?in (?:a|the) (?:zoo|cage|landfill|kitchen|jungle|gutter|sewer|circus|freak show)\b"),
        ("hate", rf"{subject} (?:\w+ )?(?:go|get|went) (?:the fuck )?(?:back to|out of) (?:where|their|your|our|this|my)\b"),
        ("hate", rf"\b(?:fuck|screw|to hell with|down with) {whom}"),
        ("hate", rf"\bfucking {group}\b"),
        ("hate", rf"{subject} (?:\w+ ){{0,3}}?(?:fuck off|(?:go )?fuck (?:yourselves|themselves|themself|herself|himself)|shut the fuck up)\b"),
        ("hate", rf"\b(?:worse|better off|better place) without {whom}"),
        ("hate", rf"\b(?:better off|better place) if {whom} (?:were|was|had) "),
        ("hate", rf"\bpissed off by {whom}|\b(?:disdain|scorn)(?: \w+){{0,3}} for {whom}|\bswarms of {whom}"),
        ("threat", rf"\b{harming} {whom}(?: \w+){{0,3}} (?:should|ought to) (?:be (?:legal|allowed|decriminalised|decriminalized)|not be (?:illegal|a crime|punished))\b"),
        ("threat", rf"\b(?:i|we)(?:'ll| will)? (?:start|keep|begin|enjoy|love|would love|dream of) {harming} {whom}"),
        ("threat", rf"\blet's (?:\w+ )?{harmed} {whom}"),
        ("threat", rf"{intent} {harms} (?:\w+ ){{0,2}}?{whom}"),
        ("threat", rf"(?:^|let's |let us |please |and |just )(?:all |just |simply |finally )*{harms} {whom}"),
        ("threat", rf"\bdeath to {whom}"),
        ("threat", rf"{subject}(?: \w+)? {wish} (?:\w+ ){{0,2}}?(?:be |get )?(?:\w+ )?(?:{harmed}|die|suffer)\b"),
        ("threat", rf"{subject} deserves? (?:death|to die|no mercy|what's coming)\b"),
        ("threat", rf"\b(?:see|make|watch) {whom} (?:\w+ )?(?:suffer|die|burn|bleed)\b"),
        ("threat", rf"\b{whom}(?: \w+){{0,3}} had their throats cut\b"),
    ]  # fmt: skip
    personal: list[tuple[Kind, str]] = [
        ("threat", rf"{intent} (?:{harms}) {person}\b(?! (?:a|an|the|up|down|off|to|with|by|at|in|for|on)\b)"),
        ("threat", r"\b(?:kill|hang|shoot) yourself\b|\b(?:go|hope (?:that )?you|you should(?: just)?) die\b"),
        ("threat", rf"\b(?:you|he|she|they) (?:should|must|deserve to|deserves to|ought to)(?: all| just)? (?:be |get )?(?:{harmed}|die)\b"),
        ("insult", rf"\b(?:you(?:'re| are)|you (?:\w+ )?(?:really|just|all) are|he(?:'s| is)|she(?:'s| is)|they(?:'re| are)) {_MORE}{any_of['insults']}\b(?! (?:at|in|about|for|with|to|luck)\b)"),
        ("insult", rf"\b(?:you|such an?|what an?) (?:{_MORE})?(?:idiot|moron|imbecile|asshole|bastard|scum|scumbag|loser|dickhead|cunt|bitch|retard|prick|piece of shit|motherfucker|pig)s?\b"),
        ("insult", r"\bfuck (?:you|off|yourselves|yourself)\b|\bgo fuck yoursel(?:f|ves)\b|\bshut (?:the fuck )?up,? you\b|\bgo to hell\b|\bscrew you\b|\bfuck (?:him|her|them)\b"),
        ("insult", rf"\b(?:i|we) (?:\w+ )?(?:{any_of['hatred']}) (?:all of )?(?:you|him|her)\b(?! (?:being|to|for)\b)|\byour li(?:fe|ves) (?:is|are|has|have) (?:worthless|no value|nothing)\b|\bnobody (?:likes|loves|wants) you\b"),
    ]  # fmt: skip
    good = (
        r"(?:deserves?(?! to (?:be )?(?:\w+ly )?(?:{harmed}|die|suffer|hurt|mistreated|abused|treated (?:badly|like)))|belongs?|matters?|humans?|people|equal|worthy|attractive|"
        r"trustworthy|exist|be allowed|be trusted|have (?:any |the |a |human )?(?:rights?|place|vote|say)|apply)"
    ).format(harmed=harmed.removeprefix("(?:").removesuffix(")"))
    nothing = r"(?:compassion|respect|place|space|room|value|rights?|sympathy|pity|worth|reason to (?:live|exist)|business being)"
    denied = [
        rf"{subject} (?:do not|don't|does not|doesn't|should not|shouldn't|must not|can't|cannot|are not|aren't|is not|isn't|will never|should never|are never|never) (?:\w+ ){{0,3}}?{good}\b",
        rf"{subject} (?:have|has|deserve|deserves) (?:absolutely )?no {nothing}\b",
        rf"{subject} (?:are|is|'re) (?:not |n't )?worth (?:absolutely )?nothing\b|{subject} (?:aren't|isn't|are not|is not) worth (?:shit|anything|a damn|a thing|protecting|saving|living)\b",
        rf"\bno {group} (?:can|could|will) ever be\b|{subject} can never be as\b|\b(?:not|n't) let (?:any |a |an )?{group} live\b",
        rf"\bno {nothing} (?:\w+ ){{0,5}}?(?:for|on) {whom}",
        rf"\brights should (?:not|never) apply to {whom}",
        rf"\bnever (?:trust|help|respect|hire|save|lift a finger to save|vote for) (?:a|an|any|another) {group}\b",
    ]
    ours, maybe = ("|".join(map(re.escape, _plurals(words[key]))) for key in ("slurs", "slurs_or_not"))
    frame = r"(?:you(?:'re| are)?|your|typical|these|those|all|too many|bunch of|such an?|like an?|nothing but an?|just an?|another|common|fucking|dirty|stupid|filthy|people)"
    return _Lexicon(
        known=frozenset(part for listed in words.values() for word in listed for part in word.split()),
        group=re.compile(rf"\b{group}\b"),
        direct=tuple((kind, re.compile(pattern)) for kind, pattern in direct),
        personal=tuple((kind, re.compile(pattern)) for kind, pattern in personal),
        denied=tuple(map(re.compile, denied)),
        slur=re.compile(rf"\b(?:{ours})\b"),
        slur_or_not=re.compile(rf"\b{frame} (?:\w+ ){{0,3}}?(?P<word>{maybe})\b"),
        profanity=re.compile(rf"\b{any_of['profanity']}\b"),
    )


def _plurals(words: Iterable[str]) -> list[str]:
    """Each word, and the ways in which English makes a plural of it."""
    made = [(word, f"{word}s", f"{word}es", f"{word.removesuffix('y')}ies") for word in words]
    return [form for forms in made for form in forms]


def _any(words: Iterable[str]) -> str:
    """One of the words, the longest first."""
    return "(?:" + "|".join(re.escape(word) for word in sorted(set(words), key=lambda word: (-len(word), word))) + ")"

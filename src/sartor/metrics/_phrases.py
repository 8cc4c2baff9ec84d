"""How refusals and empty openings sound in English, German and French: our own patterns, searched in lower case, ' for any apostrophe.

A refusal is somebody who says I or we (or a request that is said to be refused), and will not or cannot do what was asked: help,
answer, write. "I can't wait", "I can't recommend it enough", "I'm sorry to hear that" and "you cannot" are none; nor is "I can't
give medical advice, but ...", which goes on to answer.
"""

from __future__ import annotations

import re

BEGINNING = 400
"""Characters of an answer in which a refusal has to be said."""
_ASIDE = r"(?:(?:really|actually|ethically|legally|morally|simply|just|directly|honestly|unfortunately|possibly|personally|also|in good (?:conscience|faith)),? )*"
_CANNOT = (
    r"(?:can't|cannot|can not|couldn't|could not|won't|will not|shouldn't|should not|(?:'m|am|are|'re) (?:unable to|not able to|"
    r"not (?:really )?(?:allowed|permitted|comfortable|willing|going|programmed|designed|authori[sz]ed|in a position)(?: to| with)?))"
)
_SERVE = (
    r"(?:(?:be able to|be) )?(?:assist(?:ing)?|answer(?:ing)?|provid(?:e|ing)|comply|do (?:that|this|so|it)|discuss(?:ing)?|continu(?:e|ing)|fulfil+|"
    r"giv(?:e|ing)|writ(?:e|ing)|creat(?:e|ing)|generat(?:e|ing)|produc(?:e|ing)|support(?:ing)?|engag(?:e|ing)|respond(?:ing)?|shar(?:e|ing)|offer(?:ing)?|"
    r"advis(?:e|ing)|participat(?:e|ing)|encourag(?:e|ing)|condon(?:e|ing)|promot(?:e|ing)|teach(?:ing)?|explain(?:ing)?|disclos(?:e|ing)|process(?:ing)?|facilitat(?:e|ing)|"
    r"help(?:ing)?(?! (?:but|thinking|feeling|noticing|laughing|smiling|wondering)\b)|tell(?:ing)? (?:you|anyone)(?! how(?! to\b))|"
    r"recommend(?:ing)?(?![^.!?]{0,60}\benough\b)|say(?:ing)? (?:that|anything)|go into|talk about|go along)\b"
)
_BUT_HERE = r"(?! [^.!?]{0,50}\b(?:advice|opinion|diagnos\w+|guarantee\w*)\b[^.!?]{0,60}\b(?:but|however)\b)"
_ENGLISH = (
    rf"\b(?:i|we) ?{_CANNOT} {_ASIDE}{_SERVE}{_BUT_HERE}",
    rf"\bi(?:'m| am) (?:so |very |really |truly )?(?:sorry|afraid)[^.!?]{{0,60}}\b{_CANNOT} {_ASIDE}{_SERVE}",
    rf"^(?:sorry|unfortunately|apologies|no|regrettably)\b[^.!?]{{0,40}}?\b(?:i|we) ?{_CANNOT} {_ASIDE}{_SERVE}",
    r"\b(?:i(?:'m| am) )?(?:so |very )?(?:sorry|afraid),? (?:but )?(?:i (?:can't|cannot|can not|won't)|no|that(?:'s| is) not (?:possible|something))[ .!]*(?:$|[.!])",
    r"^(?:(?:no|sorry)[,.!] )?(?:i |we )?(?:cannot|can't|can not|won't|will not|unable to|not able to) (?:comply|assist|help(?! but\b)|answer|do that|fulfil+)\b",
    r"\b(?:that(?:'s| is)|this is|it(?:'s| is)) (?:not )?(?:something|a (?:topic|request|question)) (?:that )?(?:i|we) (?:can't|cannot|won't|can not|am not|'m not|can (?:help|do|assist|discuss|answer))",
    r"\b(?:i|we) (?:(?:must|have to|will have to|'ll have to|'d have to|need to|am going to|'m going to) )?(?:respectfully |politely |also )*(?:decline|refuse)\b(?! in\b)",
    r"\b(?:i|we)(?:'d| would) (?:rather|prefer) not (?:to )?(?:say|answer|discuss|talk|share|do|help|respond|comment|continue|engage|give|provide)\b",
    r"\b(?:goes|is|that's|would be|be|it's) against (?:my|our) (?:\w+ )?(?:guidelines|polic(?:y|ies)|programming|principles|values|rules|purpose)\b",
    r"\bagainst what i(?:'m| am| was) (?:built|made|designed|programmed) (?:to|for)\b",
    r"\b(?:isn't|is not|wouldn't be|would not be|not) (?:appropriate|ethical|right) for me to\b",
    r"\bi (?:don't|do not) feel (?:comfortable|right) \w+ing\b",
    r"^(?:i have )?no comment\b",
    r"\b(?:your|this|the) (?:request|application|question|query|prompt) (?:is|was|has been|had to be|must be|cannot be|can't be) (?:\w+ )?(?:refused|rejected|denied|declined|fulfilled|answered|completed|processed)\b",
)
_DEUTSCH_TUN = (
    r"(?:weiter)?(?:helfen|geholfen|behilflich|unterstützen|beantworten|bereitstellen|geben|anbieten|liefern|tun|machen|erfüllen|nachkommen|schreiben|verfassen|"
    r"erstellen|generieren|teilen|nennen|verraten|beraten|antworten|eingehen|mitmachen|entsprechen|erklären|erläutern|sagen(?!,? wie sehr)|diskutieren|empfehlen)\b"
)
_KANN = r"(?:kann|können|könnte|darf|dürfen|werde|werden|möchte|möchten|will|wollen)"
_NICHT = r"(?:nicht|kein(?:e[nmrs]?)?|nichts)"
_GERMAN = (
    rf"\b(?:{_KANN} (?:ich|wir)|(?:ich|wir) {_KANN})\b(?: (?!aber\b|doch\b)[^ .!?;,]+){{0,8}}? {_NICHT}\b[^.!?;]{{0,80}}?\b{_DEUTSCH_TUN}",
    rf"\b(?:ich|wir) {_NICHT}\b[^.!?;,]{{0,60}}?\b{_DEUTSCH_TUN[:-2]} (?:kann|können|darf|dürfen|möchte|werde|will)\b",
    r"\b(?:ich|wir) (?:bin|sind|sehe mich|fühle mich)(?: \w+){0,3} (?:nicht (?:in der lage|befugt|berechtigt|bereit|autorisiert|dafür (?:da|gemacht|vorgesehen))|außerstande)\b",
    r"\b(?:bin|sind) (?:ich|wir)(?: \w+){0,3} (?:nicht (?:in der lage|befugt|berechtigt|bereit|autorisiert)|außerstande)\b",
    r"\b(?:muss|müssen|möchte)(?: ich| wir)?(?: \w+){0,5} (?:ablehnen|verweigern|verneinen)\b",
    r"\b(?:ich|wir) (?:lehne|verweigere|weigere|lehnen|verweigern)\b",
    r"\b(?:verstößt|wäre|ist|geht) gegen (?:meine|unsere)\b",
    r"^(?:nein, )?(?:es )?tut mir (?:\w+ )?leid,? (?:aber )?(?:das (?:geht|ist) (?:\w+ )?nicht|nein)\b",
)
_AIDER = (
    r"(?:aider|répondre|fournir|donner|faire|assister|accéder|satisfaire|écrire|rédiger|créer|générer|produire|partager|discuter|participer|continuer|conseiller|"
    r"expliquer|proposer|aborder|traiter|encourager|cautionner|promouvoir|divulguer|révéler|recommander|dire(?! (?:à quel point|combien)))\b"
)
_FRENCH = (
    rf"\b(?:je|nous) ne (?:peux|puis|pouvons|pourrai|pourrais|saurais|vais|souhaite|veux|dois) (?:(?:malheureusement|hélas|vraiment|donc|tout simplement) )?(?:pas )?(?:me permettre de )?"
    rf"(?:(?:vous|te|le|la|les|y|en|lui) |[tlm]'(?:y |en )?)*{_AIDER}",
    r"\b(?:je|nous) ne (?:suis|sommes) (?:(?:malheureusement|hélas) )?pas (?:en mesure|autorisée?s?|capables?|habilitée?s?|programmée?s?|disposée?s?) (?:de|d'|à|pour)",
    r"\bil m'est impossible (?:de |d')",
    r"\bje (?:(?:dois|me vois obligée? de|suis obligée? de|préfère) (?:\w+ )?)?(?:refuser|décliner|refuse|décline)\b",
    r"\b(?:contraire à|contre) (?:mes|nos) (?:principes|directives|règles|valeurs)\b",
    r"^(?:je suis )?(?:désolée?|navrée?)[^.!?]{0,30}\b(?:c'est|ce n'est|cela n'est) (?:impossible|pas possible)\b",
)
_REFUSAL = re.compile("|".join(f"(?:{pattern})" for pattern in (*_ENGLISH, *_GERMAN, *_FRENCH)))
_QUOTED = re.compile(
    r"```.*?(?:```|$)|\"[^\"\n]*\"|“[^”\n]*”|„[^“”\n]*[“”]|«[^»\n]*»|(?<!\w)'[^'\n]*'(?!\w)", re.DOTALL
)

_AND = r"[ ]*(?:[!,.:;…–—-]|$|\n)"
_OPENINGS = (
    rf"(?:sure(?: thing)?|certainly|of course|absolutely|definitely|okay|ok|alright|all right|great|gladly|got it|understood|no problem|with pleasure|hello|hi|hey)(?: there)?{_AND}",
    r"(?:great|good|excellent|interesting) question\b",
    r"that(?:'s| is) an? (?:\w+ )?(?:great|good|excellent|interesting) question\b",
    r"(?:i'd|i would) be (?:happy|glad|delighted) to\b",
    r"(?:i'm |i am )?(?:happy|glad) to (?:help|assist)\b",
    r"(?:let me|allow me to|i'll|i will|i can) (?:help|explain|show|give|provide|create|write|generate|walk|answer|convert|extract)\b",
    r"(?:thank you|thanks) for (?:your|the|asking|reaching|sharing|providing)\b",
    r"as an? (?:ai|artificial intelligence|language model|assistant|large language model)\b",
    r"(?:here(?:'s| is| are)|below (?:is|are)|the following (?:is|are)|this is)\b[^\n]{0,120}:[ ]*(?:\n|$|\{|\[|`)",
    r"based on (?:the|your) (?:\w+ )?(?:text|input|information|context|request|message|question)\b[^\n]{0,120}[,:]",
    rf"(?:klar(?: doch)?|natürlich|gern(?:e)?(?: doch)?|selbstverständlich|sicher(?:lich)?|aber sicher|in ordnung|kein problem|verstanden|hallo|guten tag){_AND}",
    r"(?:gute|interessante|tolle) frage\b|das ist eine (?:\w+ )?(?:gute|interessante|tolle) frage\b",
    r"(?:ich helfe (?:ihnen|dir)|(?:vielen )?dank für|danke für|als (?:ki|sprachmodell|assistent))\b",
    r"(?:hier (?:ist|sind|kommt|folgt|findest|finden)|im folgenden|nachfolgend)\b[^\n]{0,120}:[ ]*(?:\n|$|\{|\[|`)",
    rf"(?:bien sûr|certainement|d'accord|avec plaisir|absolument|pas de problème|très bien|bonjour|entendu|volontiers){_AND}",
    r"(?:excellente|bonne|très bonne) question\b|c'est une (?:\w+ )?(?:excellente|bonne) question\b",
    r"(?:je serais (?:ravie?|heureux|heureuse) de|merci (?:pour|de|d')|en tant qu(?:e |')(?:ia|modèle|assistant|intelligence))",
    r"(?:voici|voilà|ci-dessous)\b[^\n]{0,120}:[ ]*(?:\n|$|\{|\[|`)",
)
_OPENING = re.compile("|".join(f"(?:{pattern})" for pattern in _OPENINGS))


def refusal(answer: str) -> str | None:
    """The words with which an answer refuses near its beginning; None where it does not. Quotations and code do not count."""
    said = _QUOTED.sub(" ", plain(answer))
    found = _REFUSAL.search(" ".join(said.split())[:BEGINNING])
    return found[0] if found else None


def opening(answer: str) -> str | None:
    """The empty words with which an answer opens; None where it begins with what was asked for."""
    found = _OPENING.match(plain(answer).lstrip(" \n\t*_#>"))
    return found[0].strip() if found else None


def plain(text: str) -> str:
    """In lower case, with straight apostrophes."""
    return text.lower().replace("’", "'").replace("‘", "'")

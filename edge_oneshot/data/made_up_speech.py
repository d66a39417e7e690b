"""Made-up words, and made-up voices to speak them; all of it drawn from a seed."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.random import Generator

from edge_oneshot.data.espeak import Voice

ACCENTS: Final = ("en", "en-us", "en-gb-scotland", "en-029", "en-gb-x-rp", "en-gb-x-gbclan", "en-gb-x-gbcwmd")
"""The accents of English that espeak-ng synthesises itself, and that differ."""

# phonemes as espeak-ng writes them, and how a made-up word is spelled
_CONSONANTS: Final = {
    "p": "p", "b": "b", "t": "t", "d": "d", "k": "k", "g": "g", "m": "m", "n": "n", "f": "f", "v": "v", "s": "s",
    "z": "z", "S": "sh", "tS": "ch", "dZ": "j", "h": "h", "l": "l", "r": "r", "w": "w", "j": "y", "T": "th",
}  # fmt: skip
_STRESSED: Final = {
    "a": "a", "E": "e", "I": "i", "0": "o", "V": "u", "i:": "ee", "A:": "ah", "O:": "aw", "u:": "oo", "3:": "ur",
    "eI": "ay", "aI": "ie", "oU": "oe", "aU": "ow", "OI": "oy",
}  # fmt: skip
_UNSTRESSED: Final = {"@": "e", "I": "i", "i": "y", "oU": "o", "u:": "u", "eI": "ey"}
_CODAS: Final = {"n": "n", "m": "m", "l": "l", "s": "s", "t": "t", "k": "k", "p": "p", "S": "sh", "d": "d", "f": "f"}

# phonemes that some accents or many listeners do not tell apart
_ALIKE: Final = {
    "0": "A:", "O:": "A:", "@": "V", "I": "i", "i:": "i", "u:": "U", "oU": "O", "z": "s", "f": "T", "v": "T", "aU": "a",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Word:
    """A made-up word.

    Attributes:
        name: How it is spelled, such as ``kadolo``; a name for people, which is not what espeak-ng is given.
        text: For espeak-ng.
    """

    name: str
    text: str


def draw_words(count: int, rng: Generator) -> list[Word]:
    """Made-up words of two or three syllables that differ from each other by at least two phonemes.

    Phonemes that accents merge, such as the vowels of *cot* and *caught*, count as the same.
    """
    words: list[Word] = []
    taken: set[tuple[str, ...]] = set()
    names: set[str] = set()
    while len(words) < count:
        phonemes, name, text = _draw_word(rng)
        near = _neighbourhood(tuple(_ALIKE.get(phoneme, phoneme) for phoneme in phonemes))
        if name not in names and taken.isdisjoint(near):
            words.append(Word(name, text))
            names.add(name)
            taken |= near
    return words


def _draw_word(rng: Generator) -> tuple[list[str], str, str]:
    """Phonemes, spelling, and mnemonics for espeak-ng."""
    syllables = int(rng.choice([2, 3]))
    stressed = int(rng.integers(2))
    phonemes: list[str] = []
    name = text = ""
    for number in range(syllables):
        vowels = _STRESSED if number == stressed else _UNSTRESSED
        onset = _one(_CONSONANTS, rng) if number or rng.random() < 0.85 else None
        vowel = _one(vowels, rng)
        closed = rng.random() < (0.5 if number == syllables - 1 else 0.15)
        coda = _one(_CODAS, rng) if closed else None
        phonemes += [one for one in (onset, vowel, coda) if one]
        name += (_CONSONANTS[onset] if onset else "") + vowels[vowel] + (_CODAS[coda] if coda else "")
        # espeak-ng's mark of stress stands before the vowel; || keeps mnemonics apart
        text += "||".join(one for one in (onset, ("'" if number == stressed else "") + vowel, coda) if one) + "||"
    return phonemes, name, f"[[{text.removesuffix('||')}]]"


def _neighbourhood(phonemes: tuple[str, ...]) -> set[tuple[str, ...]]:
    """Sequences of which two words have one in common if they differ by one phoneme."""
    places = range(len(phonemes))
    less = {phonemes[:place] + phonemes[place + 1 :] for place in places}
    other = {(*phonemes[:place], "*", *phonemes[place + 1 :]) for place in places}
    return {phonemes} | less | other


def _one(choices: dict[str, str], rng: Generator) -> str:
    return list(choices)[rng.integers(len(choices))]


def draw_voices(names: list[str], rng: Generator) -> list[Voice]:
    """Made-up voices: men, women and a few children, of all accents in turn.

    Each has a pitch, a vocal tract (the frequencies of the formants, together and each by itself), strengths and widths
    of the formants, a tone, and more or less breath, flutter, creak and melody. The ranges enclose those of the
    variants that come with espeak-ng and sound like people.

    Args:
        names: Of the voices.
        rng: Draws them.
    """
    accents = [ACCENTS[place % len(ACCENTS)] for place in rng.permutation(len(names))]
    return [_draw_voice(name, accent, rng) for name, accent in zip(names, accents, strict=True)]


def _draw_voice(name: str, accent: str, rng: Generator) -> Voice:
    kind = rng.choice(["man", "woman", "child"], p=[0.47, 0.43, 0.1])
    low, high, shortest, longest = {
        "man": (70, 140, 0.86, 1.06), "woman": (150, 240, 1.0, 1.22), "child": (220, 320, 1.15, 1.38),
    }[str(kind)]  # fmt: skip
    base = rng.uniform(low, high)
    tract = rng.uniform(shortest, longest)
    settings = [
        f"pitch {base:.0f} {base * rng.uniform(1.15, 1.6):.0f}",
        f"formant 0 100 {rng.uniform(70, 130):.0f} 100",
    ]
    source = f"klatt {rng.integers(1, 5)}" if kind == "man" and rng.random() < 0.25 else None
    widest = 100 if source else 150  # of that synthesis, wide formants are hardly there
    for formant in range(1, 9):
        frequency = 100 * tract * (1 + np.clip(rng.normal(0, 0.03), -0.08, 0.08))
        strength, width = rng.uniform(70, 125), rng.uniform(80, widest)
        settings.append(f"formant {formant} {frequency:.0f} {strength:.0f} {width:.0f}")
    amplitudes = (rng.uniform(140, 230), rng.uniform(100, 180), rng.uniform(60, 150))
    tone = " ".join(f"{hertz} {loud:.0f}" for hertz, loud in zip((600, 1200, 2400), amplitudes, strict=True))
    settings += [
        f"tone {tone}",
        f"voicing {rng.uniform(70, 130):.0f}",
        f"consonants {rng.uniform(60, 130):.0f} {rng.uniform(60, 130):.0f}",
        f"flutter {rng.integers(0, 10)}",
        f"roughness {rng.choice([0, 0, 1, 2, 3])}",
        f"intonation {rng.integers(1, 5)}",
        "stressAdd " + " ".join(f"{rng.integers(-20, 21)}" for _ in range(8)),
    ]
    if rng.random() < 0.3:
        breath = rng.uniform(2, 10)
        settings.append("breath 0 " + " ".join(f"{breath * rng.uniform(0.6, 1.2):.0f}" for _ in range(7)))
    if source:
        settings.append(source)
    return Voice(name, accent, int(rng.integers(130, 200)), tuple(settings))

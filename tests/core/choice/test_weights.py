"""What signals weigh depends on the kind of recording, softly."""

from itertools import product

import numpy as np
import pytest

from tasks.core.choice.kinds import KINDS, kind_shares, traits
from tasks.core.choice.reasons import WORDS, reason
from tasks.core.choice.selection import Talk, Wanted, select_windows
from tasks.core.choice.weights import JUDGED, LEARNED_DEVIATION, applied_weights, learned, signal_names
from tests.core.choice.test_selection import FIRE, dull_lines, share_of, spoken

SPEECH = [
    "In the winter of that year my grandfather built a boat in the cellar of our house.",
    "He had measured the planks, and he had measured the mast, but he had not measured the door.",
    "We lived with a boat in the cellar for thirty years.",
]
CHAT = [
    "So how did you, like, get into that?",
    "Yeah, I think I was just kind of bored, you know?",
    "Right.",
    "And then, I mean, it was really just me and you guys and maybe two more, I guess.",
    "Yeah, totally.",
    "I think the team was really just trying to build the thing that people actually want, you know, and that's hard.",
    "Yeah, and your company was, like, pretty small at that point, so I guess you had to do it all yourselves.",
    "We definitely did a lot of stuff that I think most companies would kind of never do, and it mostly worked.",
    "And I mean, if you're building something like that, I think you really want a team that just gets it.",
    "There's a lot of things that I think we'd just do the same way, and maybe one or two that were a mistake.",
    "Do you think you'd do it again?",
]
SOUNDS = ["bal", "dor", "fen", "gim", "hur", "jas", "kel", "lop", "mur", "nit", "pav", "rok", "sul", "tam", "vex"]
MONEY = [
    "The most important lesson is that you should never raise money before you have to.",
    "You have to understand your customer, because your customer is the only truth.",
    "What would you do if nobody ever gave you money?",
    "Most people build the wrong thing first, and that is the biggest mistake you can make.",
]


def shares_of(lines: list[str], **how) -> dict:
    return kind_shares(Talk(spoken(lines, **how), "en").lines(spoken(lines, **how)), learned().traits)


def test_a_speech_and_a_conversation_are_told_apart():
    speech, chat = shares_of(SPEECH * 40, pause=1.2), shares_of(CHAT * 40)
    assert max(speech, key=speech.get) == "talk"
    assert max(chat, key=chat.get) == "conversation"
    assert chat["conversation"] > 10 * speech["conversation"]
    assert sum(chat.values()) == pytest.approx(1)


def test_the_kind_is_a_matter_of_degree():
    mixed = shares_of([*SPEECH * 20, *CHAT * 20])
    assert sum(share > 0.05 for share in mixed.values()) >= 2


def test_without_word_lists_or_speech_every_kind_stays_possible():
    lines = Talk(spoken(SPEECH * 10), "xx").lines(spoken(SPEECH * 10))
    assert set(traits(lines)) == {"questions", "brief", "breaks", "minutes"}
    assert kind_shares([], learned().traits) == dict.fromkeys(KINDS, pytest.approx(1 / len(KINDS)))


def test_the_learned_part_of_the_score_has_the_same_deviation_whichever_signals_there_are():
    rng = np.random.default_rng(1)
    signals = {name: rng.standard_normal(500) for name in learned().weights}
    kinds = dict.fromkeys(KINDS, 0.25)
    for names in (set(signals), {"length", "short_sentences"}):
        known = {name: signals[name] for name in signals if name in names}
        weights = applied_weights(known, kinds)
        assert np.std(sum(weights[name] * values for name, values in known.items())) == pytest.approx(LEARNED_DEVIATION)
    assert applied_weights({"length": np.zeros(5)}, kinds) == {"length": 0}


def test_silence_costs_nothing_before_an_audience():
    signals = {"dead_air": np.arange(5.0)}
    weights = {kind: applied_weights(signals, {one: float(one == kind) for one in KINDS}) for kind in KINDS}
    assert weights["talk"] == {"dead_air": 0}
    assert weights["conversation"] == {"dead_air": JUDGED["dead_air"].value}


def test_every_kind_weighs_every_learned_signal():
    assert all(set(by_kind) == set(KINDS) for by_kind in learned().weights.values())
    assert not set(learned().weights) & set(JUDGED)
    rest = [name for name in learned().weights if name not in ("early", "closing")]
    for kind in KINDS:
        place = np.hypot(learned().weights["early"][kind], learned().weights["closing"][kind])
        assert place < 1.2 * np.linalg.norm([learned().weights[name][kind] for name in rest])


@pytest.mark.parametrize("where", [0.1, 0.5, 0.9])
def test_the_best_part_of_a_conversation_is_found_wherever_it_is(where):
    names = product(SOUNDS, SOUNDS)
    chat = [line if len(line) < 60 else line[:-1] + f" with {''.join(next(names))}." for line in CHAT * 20]
    before = int(len(chat) * where)
    talk = spoken([*chat[:before], *MONEY, *chat[before:]])
    kinds = select_windows(Talk(talk, "en"), Wanted((12.0, 15.0), 1)).kinds
    assert max(kinds, key=kinds.get) == "conversation"
    choice = select_windows(Talk(talk, "en"), Wanted((12.0, 15.0), 2))
    assert share_of(choice, talk, MONEY) > 0.5


def test_reasons_are_words():
    assert set(WORDS) == set(signal_names())
    said = reason(
        {"opening": 2.0, "numbers": 1.5, "pauses": 0.5, "topic": 0.1, "early": -3}, dict.fromkeys(WORDS, -1.0)
    )
    assert said == "Stands out for a plain opening, few numbers and speech without a pause."
    assert reason({"dialogue": 1.0}, {"dialogue": 2.0}) == "Stands out for dialogue."
    assert reason({"dialogue": -1.0}, {"dialogue": -2.0}).startswith("No signal stands out")


def test_what_counted_adds_up_to_the_score():
    talk = spoken([*dull_lines(20, 1), *FIRE, *dull_lines(20, 2)])
    for clip in select_windows(Talk(talk, "en"), Wanted((12.0, 15.0), 2)).clips:
        assert set(clip.counted) == set(clip.signals)
        assert sum(clip.counted.values()) == pytest.approx(clip.score, abs=0.01)

"""SELECT: choose the parts of a talk that become clips, and their titles."""

import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path

from tasks.core.choice.audience import Audience
from tasks.core.choice.delivery import Delivery
from tasks.core.choice.prompting import Offer, Pick
from tasks.core.choice.reasons import reason
from tasks.core.choice.selection import Candidate, SelectedWindows, Talk, Wanted, select_windows
from tasks.core.choice.topic_match import match_topic, mentions, topic_terms
from tasks.core.edit.cuts import SourceWords, TightClock, is_filler
from tasks.core.edit.document import transcript_words
from tasks.core.edl import Edl, EdlClip, HeardAgain, Selection, Span, TopicMatch
from tasks.core.errors import NoSpeech, TooShort
from tasks.core.media import SourceMeta
from tasks.core.plurals import clock, pluralize
from tasks.core.request import ClipRequest
from tasks.core.speech.second_hearing import SecondHearing
from tasks.core.speech.sentences import join, sentences
from tasks.core.speech.terms import Line
from tasks.core.titles.grounding import unspoken_words
from tasks.core.titles.headline import fallback_title, headline, hook
from tasks.core.transcript import Sentence, Speech
from tasks.engines.choice.llm import Llm, LlmFailed, LlmOptions
from tasks.engines.choice.prosody import AudioUnreadable, measure_delivery

_log = logging.getLogger(__name__)

Hear = Callable[[list[tuple[float, float]]], SecondHearing]
"""Hears parts of the source again, in seconds from its start."""


def select_clips(
    job_id: str,
    request: ClipRequest,
    speech: Speech,
    audio: Path | None,
    meta: SourceMeta,
    llm: LlmOptions | None,
    ffmpeg: str,
    hear: Hear | None = None,
) -> Edl:
    """The EDL of a job: clips, best first, and a reserve of windows that overlap none of them.

    Titles and texts of the clips are as `hear` has heard them, but not those of the reserve.

    Raises:
        NoSpeech: the transcript has no words.
        TooShort: there is less speech, in the part that the request names, than the shortest clip needs.
    """
    talk = sentences(speech.segments)
    if not talk:
        raise NoSpeech("Nobody speaks in this video.")
    _check_part(talk, request)
    audience = Audience(heatmap=meta.heatmap, chapters=meta.chapters)
    delivery = _delivery(audio, ffmpeg)
    count = request.clip_count
    tight = TightClock(SourceWords.of(speech)) if request.tighten else None
    selected = select_windows(
        Talk(talk, speech.language, delivery, audience),
        Wanted(request.bounds, count, request.part, tight, request.topic),
    )
    if request.tighten:
        talk = [_without_fillers(sentence, speech.language) for sentence in talk]
        selected = selected.model_copy(
            update={
                "clips": [_as_said(window, talk) for window in selected.clips],
                "reserve": [_as_said(window, talk) for window in selected.reserve],
            }
        )
    for note in selected.notes:
        _log.info("Selection: %s", note)
    picks, selection = _rerank(selected, count, llm, request.topic, speech)
    ordered = _put_picks_first(selected, picks)
    count = len(selected.clips)
    heard = hear([(window.start, window.end) for window, _ in ordered[:count]]) if hear else SecondHearing()
    talk = _corrected(talk, heard.changed, speech)
    clips = [
        _clip(
            i,
            _as_said(window, talk) if heard.changed else window,
            talk,
            speech.language_of([(window.start, window.end)]),
            pick,
        )
        for i, (window, pick) in enumerate(ordered, start=1)
    ]
    notes = selected.notes + ([f"the LLM's answer: {selection.reason}"] if llm and selection.reason else [])
    notes += [heard.fault] if heard.fault else []
    kinds = {kind: round(share, 3) for kind, share in selected.kinds.items()}
    selection = selection.model_copy(update={"kinds": kinds, "heard_again": _heard_again(heard)})
    if request.topic:
        match = _topic_match(request.topic, talk, clips[:count], speech.language)
        selection = selection.model_copy(
            update={"topic": match.model_copy(update={"by": "terms and LLM" if picks else "terms"})}
        )
        notes += _topic_notes(match, count)
    return Edl(
        job_id=job_id,
        clips=clips[:count],
        reserve=clips[count:],
        selection=selection,
        notes=notes,
        corrected=heard.corrected,
    )


def _topic_match(topic: str, talk: list[Sentence], clips: list[EdlClip], language: str) -> TopicMatch:
    terms = topic_terms(topic, sorted({sentence.language or language for sentence in talk}))
    match = match_topic(topic, [Line.of(sentence, None) for sentence in talk], terms)
    texts = [" ".join(span.text for span in clip.segments) for clip in clips]
    lines = [Line.of(Sentence(text=text, start=0, end=0, words=[]), None) for text in texts]
    return match.model_copy(update={"clips": sum(any(mentions(line, term) for term in terms) for line in lines)})


def _topic_notes(match: TopicMatch, count: int) -> list[str]:
    if not match.is_found:
        return [f"nobody mentions “{match.topic}”; the clips were chosen without it"]
    if match.clips < count:
        return [f"only {match.clips} of {pluralize(count, 'clip')} mention “{match.topic}”"]
    return []


def _without_fillers(sentence: Sentence, language: str) -> Sentence:
    words = [word for word in sentence.words if not is_filler(word, sentence.language or language)]
    return sentence.model_copy(update={"words": words, "text": join(word.word for word in words)})


def _as_said(window: Candidate, talk: list[Sentence]) -> Candidate:
    """The window with the text that `talk` has for it."""
    return window.model_copy(update={"text": join(_texts_inside(window, talk))})


def _corrected(talk: list[Sentence], texts: Mapping[int, str], speech: Speech) -> list[Sentence]:
    """The sentences with other texts for words, which are named by their place in the transcript."""
    said = transcript_words(speech.segments)
    by_word = {(said[place].start, said[place].word): text for place, text in texts.items()}

    def corrected(sentence: Sentence) -> Sentence:
        words = [w.model_copy(update={"word": by_word.get((w.start, w.word), w.word)}) for w in sentence.words]
        return sentence.model_copy(update={"words": words, "text": join(word.word for word in words)})

    return [corrected(sentence) for sentence in talk] if by_word else talk


def _heard_again(heard: SecondHearing) -> HeardAgain | None:
    return HeardAgain(model=heard.model, words_changed=len(heard.changed)) if heard.model else None


def _check_part(talk: list[Sentence], request: ClipRequest) -> None:
    """Check that enough is said in the part of the source that the request names.

    Raises:
        TooShort: there is too little for a clip.
    """
    start, end = request.part
    inside = [sentence for sentence in talk if sentence.start >= start and sentence.end <= end]
    spoken = inside[-1].end - inside[0].start if inside else 0.0
    if len(inside) < len(talk) and spoken < request.bounds[0]:
        raise TooShort(
            f"Between {clock(start)} and {clock(end) if math.isfinite(end) else 'the end'}, the video has "
            f"{pluralize(round(spoken), 'second')} of whole sentences; a clip needs {request.bounds[0]:g}.",
            "Choose a longer part of the video, or shorter clips.",
        )


def _delivery(audio: Path | None, ffmpeg: str) -> Delivery | None:
    if audio is None:
        return None
    try:
        return measure_delivery(audio, ffmpeg)
    except AudioUnreadable as error:
        _log.warning("Selecting without the sound: %s", error)
        return None


def _rerank(
    selected: SelectedWindows, count: int, options: LlmOptions | None, topic: str | None, speech: Speech
) -> tuple[list[Pick], Selection]:
    """The LLM's picks, and how the clips were chosen; no picks if the signals alone decide."""
    if options is None:
        return [], Selection(mode="heuristic", reason="no LLM is configured")
    llm = Llm(options)
    windows = [*selected.clips, *selected.reserve]
    offers = [
        Offer(id=f"w{i}", seconds=w.duration, text=w.text, language=speech.language_of([(w.start, w.end)]))
        for i, w in enumerate(windows)
    ]
    try:
        picks = llm.rerank(offers, count, topic)
    except LlmFailed as error:
        _log.warning("Selecting by signals alone: %s", error)
        return [], Selection(mode="heuristic", endpoint=llm.endpoint, reason=str(error), model=llm.model)
    for fault in llm.dropped:
        _log.warning("The LLM's answer: %s", fault)
    wanted = len(selected.clips)
    reason = "" if len(picks) == wanted else f"valid picks: {len(picks)} of {wanted}; signals chose the rest"
    reason = "; ".join(filter(None, (reason, *llm.dropped)))
    return picks, Selection(mode="llm", endpoint=llm.endpoint, reason=reason, model=llm.model)


def _put_picks_first(selected: SelectedWindows, picks: list[Pick]) -> list[tuple[Candidate, Pick | None]]:
    """All windows, those that were picked first, with their picks."""
    windows = [*selected.clips, *selected.reserve]
    chosen = [(windows[int(pick.id.removeprefix("w"))], pick) for pick in picks]
    return [*chosen, *((one, None) for one in windows if not any(one is taken for taken, _ in chosen))]


def _clip(index: int, window: Candidate, talk: list[Sentence], language: str, pick: Pick | None) -> EdlClip:
    inside = _texts_inside(window, talk)
    drawn = _if_spoken(headline(inside, [s.text for s in talk], language), window)
    title = (_if_spoken(pick.title, window) if pick else "") or drawn or fallback_title(index)
    return EdlClip(
        index=index,
        title=title,
        hook=(_if_spoken(pick.hook, window) if pick else "") or _if_spoken(hook(inside, language, title), window),
        description=pick.description if pick else "",
        hashtags=pick.hashtags if pick else [],
        segments=[Span(start=window.start, end=window.end, text=window.text)],
        score=window.score,
        signals=window.signals,
        counted=window.counted,
        why=reason(window.counted, window.signals),
    )


def _if_spoken(text: str, window: Candidate) -> str:
    """The text, or "" if it has a word from outside the window."""
    unspoken = unspoken_words(text, window.text)
    if unspoken:
        _log.warning("A title or hook was dropped, because nobody says %s in its clip", ", ".join(unspoken))
    return "" if unspoken else text


def _texts_inside(window: Candidate, talk: list[Sentence]) -> list[str]:
    """The sentences of a window; a sentence cut by its ends contributes only the words inside."""
    parts = [
        join(word.word for word in sentence.words if window.start <= word.middle < window.end)
        for sentence in talk[window.first : window.last + 1]
    ]
    return [part for part in parts if part]

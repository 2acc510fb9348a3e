"""A batch: which of many videos to process, in what order, and what to report about them."""

import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from ipaddress import ip_address
from typing import Annotated, Any
from urllib.parse import parse_qs, urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.json_schema import SkipJsonSchema

from infra.untrusted_text import one_line
from tasks.core.errors import ClipError
from tasks.core.object_keys import digest
from tasks.core.request import (
    DEFAULT_CLIPS,
    DEFAULT_SECONDS,
    ClipCount,
    ClipRequest,
    ClipSeconds,
    FramingChoice,
    Language,
    PresetChoice,
    RatioChoice,
    TightenChoice,
    TopicChoice,
    optional_field,
)
from tasks.core.source.addresses import check_url, is_public, loggable
from tasks.core.source.page import MAX_TITLE_CHARS, number

MAX_ATTEMPTS = 3
"""Attempts before a batch gives up on a video."""
TRANSIENT_CODES = frozenset({"infrastructure", "stopped", "live", "not_listening"})
"""Codes in `error.json` after which another run may succeed."""
FEED_NEWEST = 5
_LEFT_OUT_SHOWN = 20
_NOT_YET = frozenset({"is_live", "is_upcoming", "post_live"})
_YOUTUBE_HOSTS = re.compile(r"^((www|m|music)\.)?youtube(-nocookie)?\.com$")
_YOUTUBE_PATH = re.compile(r"^/(?:shorts|live|embed|v)/([\w-]{11})/?$")
_YOUTUBE_ID = re.compile(r"^[\w-]{11}$")
_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")
"""ASCII punctuation, which Markdown may take as markup unless a backslash escapes it (CommonMark 2.4)."""

Address = Annotated[str, Field(min_length=1, max_length=4096)]


class BatchRequest(BaseModel):
    """Several videos, and what to cut from each. Set either `urls` or `feed`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    urls: list[Address] = Field(
        default_factory=list[str],
        max_length=1000,
        description="Addresses of videos, in the order to process them. Set either these or a feed.",
    )
    feed: Address | SkipJsonSchema[None] = Field(
        default=None,
        description="Address of a channel, a playlist or an RSS feed of videos.",
        examples=["https://example.org/feed.xml"],
        json_schema_extra=optional_field,
    )
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")] | SkipJsonSchema[None] = Field(
        default=None,
        examples=["my-talks"],
        json_schema_extra=optional_field,
        description="Name under which the batch remembers processed videos: a to z, 0 to 9 and -. "
        "If empty, it is derived from the addresses. A new name processes everything again.",
    )
    newest: Annotated[int, Field(ge=1, le=1000)] | SkipJsonSchema[None] = Field(
        default=None,
        json_schema_extra=optional_field,
        description=f"Most new videos in one run; if empty, {FEED_NEWEST} of a feed or all of a list.",
    )
    depth: int = Field(
        default=50,
        ge=1,
        le=1000,
        description="Newest videos of the feed to consider; older ones are ignored.",
    )
    clip_duration_seconds: ClipSeconds = DEFAULT_SECONDS
    clip_count: Annotated[ClipCount, Field(description="Clips to cut from each video.")] = DEFAULT_CLIPS
    language: Language = "auto"
    ratio: RatioChoice = None
    caption_preset: PresetChoice = None
    framing: FramingChoice = None
    tighten: TightenChoice = None
    topic: TopicChoice = None
    concurrency: int = Field(
        default=2, ge=1, le=50, description="Most jobs at once under this name, across all its runs."
    )
    deployment: str = Field(
        default="clip/local", pattern=r"^[^/]+/[^/]+$", description="Deployment that makes the clips, as flow/name."
    )
    wait_hours: float = Field(
        default=12, gt=0, le=168, description="How long this run waits for its jobs; the next run picks up the rest."
    )

    @model_validator(mode="after")
    def _one_source(self) -> "BatchRequest":
        if bool(self.urls) == bool(self.feed):
            raise ValueError("give either urls or a feed")
        if self.feed is not None and (fault := refusal(self.feed, allow_private=True)):
            raise ValueError(f"the feed cannot be used: {fault}")
        return self

    @property
    def memory_name(self) -> str:
        """The name under which the batch remembers processed videos."""
        derived = f"feed-{digest(self.feed)[:12]}" if self.feed else f"urls-{digest(sorted(self.urls))[:12]}"
        return self.name or derived

    @property
    def max_new(self) -> int:
        return self.newest or (FEED_NEWEST if self.feed else len(self.urls))

    def clip_request(self, url: str) -> ClipRequest:
        """The request for one of the videos."""
        shared = self.model_fields_set & ClipRequest.model_fields.keys()
        return ClipRequest(video_url=url, **{name: getattr(self, name) for name in shared})


class BatchItem(BaseModel):
    """A video of a batch. `key` identifies it in the batch's memory; `published` is seconds since the epoch."""

    model_config = ConfigDict(frozen=True)

    key: str
    url: str
    title: str = ""
    published: float | None = None


class Listing(BaseModel):
    """The videos of a list or feed without duplicates, newest first, and why others were left out."""

    items: list[BatchItem] = Field(default_factory=list[BatchItem])
    left_out: list[str] = Field(default_factory=list[str])

    def new(self, known: Iterable[str], most: int) -> list[BatchItem]:
        """The first `most` items whose keys are not in `known`."""
        done = frozenset(known)
        return [item for item in self.items if item.key not in done][:most]


class Outcome(StrEnum):
    """A video's state when the batch run ends. LATER: it failed, and a later run will retry it."""

    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    DELETED = "DELETED"
    LATER = "LATER"
    UNFINISHED = "UNFINISHED"


class ItemReport(BaseModel):
    """A video's row in the report. `seconds` is how long its last attempt ran, excluding the wait for a worker.

    `cost_usd` is the cost of its rented machines so far, or null if none was rented.
    """

    title: str
    address: str
    job_id: str
    outcome: Outcome
    attempt: int = 1
    seconds: float | None = None
    cost_usd: float | None = None
    error: str | None = None


class BatchReport(BaseModel):
    """`batches/{batch_id}.json`. Times are seconds since the epoch; `ended_at` is null while the batch runs.

    `done_before` counts videos that an earlier run has processed, `for_later` those beyond this run's limit.
    """

    batch_id: str
    name: str
    source: str
    began_at: float
    ended_at: float | None = None
    done_before: int = 0
    for_later: int = 0
    items: list[ItemReport] = Field(default_factory=list[ItemReport])
    left_out: list[str] = Field(default_factory=list[str])

    @property
    def cost_usd(self) -> float:
        return sum(item.cost_usd or 0.0 for item in self.items)

    def count(self, outcome: Outcome) -> int:
        return sum(item.outcome is outcome for item in self.items)


def list_entries(entries: Sequence[dict[str, Any]], *, depth: int, allow_private: bool) -> Listing:
    """List a feed's entries, `{url, title, site, id, guid, timestamp, live_status}`; any field may be missing or wrong.

    Dated entries come first, newest first; the others follow in feed order. Only the first `depth` are
    considered. The first of several duplicates is kept.
    """
    dated = sorted(entries, key=lambda entry: -(_published(entry) or 0.0))[:depth]
    found, left_out = list[BatchItem](), list[str]()
    for entry in dated:
        url = str(entry.get("url") or "")
        if fault := _too_early(entry) or refusal(url, allow_private=allow_private):
            left_out.append(f"{_shown(url)}: {fault}")
            continue
        title = one_line(entry.get("title"), MAX_TITLE_CHARS)
        found.append(BatchItem(key=_key(entry, url), url=url, title=title, published=_published(entry)))
    return Listing(items=_distinct(found), left_out=left_out)


def list_urls(urls: Sequence[str], *, allow_private: bool) -> Listing:
    """List addresses in the order given."""
    return list_entries([{"url": url.strip()} for url in urls], depth=len(urls), allow_private=allow_private)


def refusal(url: str, *, allow_private: bool) -> str | None:
    """Why an address is refused, or None if it is allowed. Resolves no names."""
    try:
        check_url(url)
        host = urlsplit(url).hostname or ""
    except ClipError as error:
        return error.message
    if not allow_private and (host == "localhost" or (_is_numeric(host) and not is_public(host))):
        return "The address is not public."
    return None


def is_worth_retrying(code: str | None, attempt: int) -> bool:
    """Whether a later run may succeed. `code` comes from `error.json`, or is None if the run died without one."""
    return attempt < MAX_ATTEMPTS and (code is None or code in TRANSIENT_CODES)


def item_report(item: BatchItem, job_id: str, outcome: Outcome, **known: Any) -> ItemReport:
    """A video's row in the report, with secrets stripped from its address."""
    return ItemReport(title=item.title, address=_shown(item.url), job_id=job_id, outcome=outcome, **known)


def markdown(report: BatchReport) -> str:
    """The report as Markdown. Titles and errors are untrusted, so their punctuation is escaped."""
    counts = ", ".join(f"{report.count(outcome)} {outcome.lower()}" for outcome in Outcome if report.count(outcome))
    cost = f"; {report.cost_usd:.2f} dollars" if report.cost_usd else ""
    rest = f"{report.done_before} done before, {report.for_later} left for later runs"
    lines = [f"## Batch {report.name}", "", f"{literal(report.source)}: {counts or 'nothing new'}; {rest}{cost}."]
    if report.items:
        lines += ["", "| video | outcome | seconds | dollars | attempt | job | what happened |", f"|{'---|' * 7}"]
        lines += [_row(item) for item in report.items]
    if report.left_out:
        lines += ["", f"Left out: {len(report.left_out)}", ""]
        lines += [f"- {literal(reason)}" for reason in report.left_out[:_LEFT_OUT_SHOWN]]
    return "\n".join(lines) + "\n"


def literal(words: str) -> str:
    """Untrusted text as one line that Markdown renders literally."""
    return _PUNCTUATION.sub(r"\\\1", one_line(words, 500))


def _row(item: ItemReport) -> str:
    seconds = "" if item.seconds is None else f"{item.seconds:.0f}"
    cost = "" if item.cost_usd is None else f"{item.cost_usd:.3f}"
    numbers = [item.outcome, seconds, cost, str(item.attempt), f"`{item.job_id}`"]
    return f"| {' | '.join([literal(item.title or item.address), *numbers, literal(item.error or '')])} |"


def _published(entry: dict[str, Any]) -> float | None:
    return number(entry.get("timestamp"))


def _too_early(entry: dict[str, Any]) -> str | None:
    return "It is a live stream that has not ended." if str(entry.get("live_status")) in _NOT_YET else None


def _distinct(items: Iterable[BatchItem]) -> list[BatchItem]:
    """Drop duplicates, by key and by address."""
    seen, kept = set[str](), list[BatchItem]()
    for item in items:
        names = {item.key, _same_address(item.url)}
        if not names & seen:
            kept.append(item)
        seen |= names
    return kept


def _key(entry: dict[str, Any], url: str) -> str:
    """A video's key in the batch's memory: YouTube's id, else the site's id, the feed's id or the address."""
    site, item_id, guid = (str(entry.get(name) or "") for name in ("site", "id", "guid"))
    name = [site.lower(), item_id] if site and item_id else ["guid", guid]
    by_feed = digest(*name)[:32] if name[-1] else ""
    return _same_address(url) if _youtube_id(url) else by_feed or _same_address(url)


def _same_address(url: str) -> str:
    """One key for all variants of an address: YouTube's link formats, host case, http or https, fragment."""
    if video := _youtube_id(url):
        return digest("youtube", video)[:32]
    parts = urlsplit(url)
    port = "" if parts.port in (None, 80, 443) else parts.port
    return digest("address", parts.hostname, port, parts.path or "/", parts.query)[:32]


def _youtube_id(url: str) -> str | None:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if host == "youtu.be":
        named = parts.path.strip("/")
    elif _YOUTUBE_HOSTS.match(host) and parts.path == "/watch":
        named = parse_qs(parts.query).get("v", [""])[0]
    elif _YOUTUBE_HOSTS.match(host) and (found := _YOUTUBE_PATH.match(parts.path)):
        named = found[1]
    else:
        return None
    return named if _YOUTUBE_ID.match(named) else None


def _shown(url: str) -> str:
    """An address for the report: YouTube's short link, or the address without its query, which may hold a key."""
    video = _youtube_id(url) if refusal(url, allow_private=True) is None else None
    return f"https://youtu.be/{video}" if video else one_line(loggable(url), 300) or "(no address)"


def _is_numeric(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True

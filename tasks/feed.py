"""FEED: lists the videos of a batch, from its list or its feed."""

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.tasks import exponential_backoff

from infra import settings
from infra.errors import SiteError
from tasks.caching_and_retries import is_worth_retrying
from tasks.core.source.batch import BatchRequest, Listing, list_urls
from tasks.engines.ffmpeg import binary_dir
from tasks.engines.source.feeds import read_feed
from tasks.engines.source.ytdlp import DownloadOptions, TransientDownloadError


@task(
    name="feed",
    task_run_name="feed",
    cache_policy=NO_CACHE,
    retries=2,
    retry_delay_seconds=exponential_backoff(backoff_factor=10),
    retry_jitter_factor=0.5,
    retry_condition_fn=is_worth_retrying,
)
def feed(request: BatchRequest) -> Listing:
    """The batch's videos, newest first."""
    configured = settings.load()
    if request.feed is None:
        return list_urls(request.urls, allow_private=configured.allow_private_addresses)
    options = DownloadOptions(
        allow_private_addresses=configured.allow_private_addresses, cookies_file=configured.ytdlp_cookies_file
    )
    try:
        return read_feed(request.feed, request.depth, options, binary_dir())
    except TransientDownloadError as error:
        raise SiteError(f"The feed cannot be read at the moment. {error}") from error

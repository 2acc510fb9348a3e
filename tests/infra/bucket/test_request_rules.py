"""Which bucket requests may be signed for a session: a pure rule over method, path, query and headers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.bucket.request_rules import NotAllowed, ObjectRequest, allowed_key, is_cache_key

ROOT = "granted/kk_A/"
MINE = f"/clips/{ROOT}jobs/kk_A/clip_01.mp4"


def key(method="GET", path=MINE, query=None, headers=None):
    return allowed_key(ObjectRequest(method, path, query or {}, headers or {}), "clips", ROOT)


@pytest.mark.parametrize(
    ("method", "query"),
    [
        ("GET", {}),
        ("HEAD", {}),
        ("PUT", {}),
        ("DELETE", {}),
        ("POST", {"uploads": ""}),
        ("PUT", {"partNumber": "1", "uploadId": "u"}),
        ("POST", {"uploadId": "u"}),
        ("DELETE", {"uploadId": "u"}),
    ],
)
def test_the_stores_own_requests_are_allowed_under_the_root_only(method, query):
    assert key(method, query=query) == f"{ROOT}jobs/kk_A/clip_01.mp4"
    with pytest.raises(NotAllowed):
        key(method, "/clips/jobs/kk_A/clip_01.mp4", query)


@pytest.mark.parametrize(
    "path",
    [
        "/clips/jobs/kk_A/manifest.json",
        "/clips/cache/media/x/video.mp4",
        "/clips/granted/kk_B/jobs/kk_B/manifest.json",
        "/clips/granted/kk_A",
        "/clips/granted/kk_A/",
        "/clips/granted/kk_AB/x",
        "/other/granted/kk_A/x",
        "/clips/granted/kk_A/../kk_B/x",
        "/clips/granted/kk_A/%2e%2e/kk_B/x",
        "/clips/granted/kk_A/..%2Fkk_B/x",
        "/clips/granted/kk_A/./x",
        "/clips/granted/kk_A//x",
        "/clips/granted%2Fkk_A%2Fx",
        "/clips//granted/kk_A/x",
        "//clips/granted/kk_A/x",
        "clips/granted/kk_A/x",
        "/clips/granted/kk_A/a b",
        "/clips/granted/kk_A/a%0Ab",
        "/clips/granted/kk_A/a%5Cb",
        "/clips/granted/kk_A/a%2fb",
        "/clips/granted/kk_A/" + "x" * 1100,
        "/",
        "",
    ],
)
def test_paths_outside_the_root_are_refused(path):
    for method in ("GET", "PUT", "DELETE"):
        with pytest.raises(NotAllowed):
            key(method, path)


@pytest.mark.parametrize(
    ("method", "query"),
    [
        ("GET", {"acl": ""}),
        ("PUT", {"acl": ""}),
        ("GET", {"versionId": "1"}),
        ("PUT", {"tagging": ""}),
        ("GET", {"response-content-type": "text/html"}),
        ("POST", {}),
        ("POST", {"delete": ""}),
        ("PATCH", {}),
        ("get", {}),
        ("GET", {"X-Amz-Signature": "x"}),
    ],
)
def test_other_operations_are_refused(method, query):
    with pytest.raises(NotAllowed):
        key(method, query=query)


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({"x-amz-copy-source": f"clips/{ROOT}rendered/a.mp4"}, True),
        ({"x-amz-copy-source": f"/clips/{ROOT}rendered/a.mp4"}, True),
        ({"content-type": "video/mp4", "x-amz-meta-sha256": "0"}, True),
        ({"x-amz-copy-source": "clips/jobs/kk_B/clip_01.mp4"}, False),
        ({"x-amz-copy-source": "clips/granted/kk_A/../kk_B/x"}, False),
        ({"x-amz-copy-source": f"clips/{ROOT}a.mp4?versionId=1"}, False),
        ({"x-amz-copy-source": ""}, False),
        ({"x-amz-acl": "public-read"}, False),
        ({"x-amz-website-redirect-location": "https://example.org"}, False),
        ({"host": "elsewhere"}, False),
    ],
)
def test_only_headers_that_the_store_sends_are_allowed(headers, allowed):
    if allowed:
        assert key("PUT", headers=headers)
    else:
        with pytest.raises(NotAllowed):
            key("PUT", headers=headers)


def test_only_a_plain_put_may_copy():
    headers = {"x-amz-copy-source": f"clips/{ROOT}a"}
    for method, query in (("GET", {}), ("PUT", {"partNumber": "1", "uploadId": "u"}), ("POST", {"uploads": ""})):
        with pytest.raises(NotAllowed):
            key(method, query=query, headers=headers)


@pytest.mark.parametrize(
    ("query", "allowed"),
    [
        ({"list-type": "2", "prefix": f"{ROOT}jobs/", "encoding-type": "url"}, True),
        ({"list-type": "2", "prefix": ROOT, "continuation-token": "t"}, True),
        ({"list-type": "2", "prefix": "granted/"}, False),
        ({"list-type": "2", "prefix": ""}, False),
        ({"list-type": "2"}, False),
        ({"prefix": ROOT}, False),
        ({"list-type": "2", "prefix": ROOT, "start-after": "a"}, False),
        ({"list-type": "2", "prefix": ROOT, "versions": ""}, False),
        ({"location": ""}, False),
    ],
)
def test_only_keys_under_the_root_can_be_listed(query, allowed):
    if allowed:
        assert key(path="/clips", query=query).startswith(ROOT)
    else:
        with pytest.raises(NotAllowed):
            key(path="/clips", query=query)
    with pytest.raises(NotAllowed):
        key("DELETE", "/clips", query)


@given(st.text(max_size=40))
def test_an_allowed_key_is_always_under_the_root(tail):
    for path in (f"/clips/{tail}", f"/clips/{ROOT}{tail}"):
        try:
            found = key("PUT", path)
        except NotAllowed:
            continue
        assert found.startswith(ROOT)
        assert ".." not in found.split("/")


def test_only_keys_in_the_cache_folder_are_cached():
    assert is_cache_key(f"{ROOT}cache/media/x", ROOT)
    assert not is_cache_key(f"{ROOT}jobs/cache/x", ROOT)

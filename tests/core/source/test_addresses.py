import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.errors import AddressRefused, BadRequest
from tasks.core.source.addresses import check_url, is_public, is_web_port, loggable, redact_urls


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",
        "100.100.100.200",
        "127.0.0.1",
        "127.255.255.254",
        "168.63.129.16",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "2002:a00:1::1",
        "3fff::1",
        "4000::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "2606:4700::1111%lo",
        "fec0::1",
        "ff02::1",
        "localhost",
        "",
        "127.1",
        "0x7f.0.0.1",
        "2130706433",
    ],
)
def test_private_and_reserved_addresses_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1",
        "93.184.216.34",
        "172.32.0.1",
        "2606:4700::1111",
        "::ffff:1.1.1.1",
        "64:ff9b::1.1.1.1",
        "2002:101:101::",
    ],
)
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(address)


@given(st.ip_addresses(v=4))
def test_an_embedded_ipv4_address_is_as_public_as_itself(address: object) -> None:
    public = is_public(str(address))
    assert is_public(f"::ffff:{address}") == public
    assert is_public(f"64:ff9b::{address}") == public


@pytest.mark.parametrize(
    ("port", "allowed"),
    [(80, True), (443, True), (8080, True), (65535, True), (25, False), (22, False), (0, False), (65536, False)],
)
def test_only_web_ports_are_allowed(port: int, allowed: bool) -> None:
    assert is_web_port(port) is allowed


@pytest.mark.parametrize(
    "url",
    ["https://example.com/watch?v=1", "http://example.com:8080", "HTTP://EXAMPLE.COM/", "https://[2606:4700::1]/"],
)
def test_valid_urls_pass(url: str) -> None:
    check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://example.com/a",
        "javascript:alert(1)",
        "data:text/html,x",
        "https://user@example.com/",
        "https://user:pass@example.com/",
        "https://example.com:22/",
        "https://example.com/#__youtubedl_smuggle=%7B%7D",
    ],
)
def test_forbidden_urls_are_refused(url: str) -> None:
    with pytest.raises(AddressRefused):
        check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "https:///path",
        "http://[::1",
        "http://example.com:port/",
        "http://a b/",
        "http://a/\r\nx",
        "http://a/\t",
    ],
)
def test_malformed_urls_are_bad_requests(url: str) -> None:
    with pytest.raises(BadRequest):
        check_url(url)


def test_urls_are_logged_without_credentials_and_queries() -> None:
    assert loggable("https://user:pass@example.com:8443/a/b?sig=secret#frag") == "https://example.com:8443/a/b"
    assert loggable("http://[2606:4700::1]/a?b") == "http://[2606:4700::1]/a"
    assert loggable("http://[::1") == "(unreadable address)"
    message = redact_urls("Unable to download 'https://u:p@a.example/v?sig=secret' (HTTP 500)")
    assert message == "Unable to download 'https://a.example/v' (HTTP 500)"


def test_untrusted_text_cannot_control_a_terminal() -> None:
    message = redact_urls("HTTP 503: \x1b]0;owned\x07\x1b[2J \x9b31m\r\n\u202egnp.exe\u2069 https://a.example/\x1b[1mv")
    assert message == "HTTP 503: ]0;owned [2J 31m gnp.exe https://a.example/ [1mv"
    assert len(redact_urls("\x1b[2J no" * 5000)) <= 500
    assert redact_urls("\x1b\x07") == ""

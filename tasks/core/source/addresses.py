"""The addresses a video may come from: public ones, on web ports, over http or https.

Workers run inside private networks. URLs are untrusted, and a page, redirect or playlist can lead to
others. Every address is therefore checked after its name is resolved and before it is used.
"""

import re
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

from infra.untrusted_text import one_line
from tasks.core.errors import AddressRefused, BadRequest

WEB_PORTS = frozenset({80, 443})
FIRST_USER_PORT = 1024
"""Below it, only WEB_PORTS are allowed: 22, 25, 53 and the like never serve video."""
MAX_MESSAGE_CHARS = 500
"""Longest message that may contain untrusted text."""

_GLOBAL_UNICAST = IPv6Network("2000::/3")
_SIX_TO_FOUR = IPv6Network("2002::/16")
_NAT64 = IPv6Network("64:ff9b::/96")
_BLOCKED = tuple(
    ip_network(net)
    for net in (
        "168.63.129.16/32",  # Azure's host agent: a public address that only guests can reach
        "192.0.0.0/24",  # IETF protocol assignments; Oracle's metadata service is 192.0.0.192
        "192.88.99.0/24",  # 6to4 relays, withdrawn by RFC 7526
        "2001::/23",  # Teredo, ORCHID and other special blocks (RFC 2928)
        "3fff::/20",  # documentation (RFC 9637); older Pythons call it global
        "5f00::/16",  # segment routing (RFC 9602)
    )
)


def is_public(address: str) -> bool:
    """Whether an IPv4 or IPv6 address, as text, is on the public internet.

    IPv6 forms that embed an IPv4 address (mapped, 6to4, NAT64) are as public as that address.
    Text that is not an address, or that names an interface (`fe80::1%eth0`), is not public.
    """
    if "%" in address:
        return False
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    return _is_public_v4(ip) if isinstance(ip, IPv4Address) else _is_public_v6(ip)


def _is_public_v4(ip: IPv4Address) -> bool:
    return ip.is_global and not ip.is_multicast and not ip.is_reserved and not _is_blocked(ip)


def _is_public_v6(ip: IPv6Address) -> bool:
    embedded = _embedded_v4(ip)
    if embedded is not None:
        return _is_public_v4(embedded)
    return ip in _GLOBAL_UNICAST and ip.is_global and not ip.is_multicast and not _is_blocked(ip)


def _embedded_v4(ip: IPv6Address) -> IPv4Address | None:
    """The IPv4 address inside a mapped (RFC 4291), 6to4 (RFC 3056) or NAT64 (RFC 6052) address."""
    if ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    if ip in _SIX_TO_FOUR:
        return ip.sixtofour
    if ip in _NAT64:
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return None


def _is_blocked(ip: IPv4Address | IPv6Address) -> bool:
    return any(ip.version == net.version and ip in net for net in _BLOCKED)


def is_web_port(port: int) -> bool:
    return port in WEB_PORTS or FIRST_USER_PORT <= port <= 65535


def check_url(url: str) -> None:
    """Reject a bad URL before any name is resolved.

    Raises:
        AddressRefused: a scheme other than http(s), credentials, or a port that is not a web port.
        BadRequest: not a URL at all.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise BadRequest("The video's address is malformed.") from None
    if any(ord(letter) <= 0x20 or ord(letter) == 0x7F for letter in url):
        raise BadRequest("The video's address contains spaces or control characters.")
    if parts.scheme not in ("http", "https"):
        raise AddressRefused("The video's address is neither http nor https.")
    if not parts.hostname:
        raise BadRequest("The video's address has no host name.")
    if parts.username is not None or parts.password is not None:
        raise AddressRefused("The video's address contains a user name or password.")
    if "__youtubedl_smuggle" in url:  # yt-dlp's private side channel into its own extractors
        raise AddressRefused("The video's address contains instructions for the downloader.")
    if port is not None and not is_web_port(port):
        raise AddressRefused(f"Port {port} is not allowed: use 80, 443, or 1024 and above.")


def loggable(url: str) -> str:
    """The URL as it may be logged: scheme, host and path, without query, fragment or credentials."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "(unreadable address)"
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    return f"{parts.scheme}://{host}{port}{parts.path}"


def redact_urls(message: str) -> str:
    """An untrusted message as one line fit to show: URLs reduced by `loggable`, no control characters."""
    redacted = re.sub(r"https?://[^\s'\"<>]+", lambda found: loggable(found[0]), message)
    return one_line(redacted, MAX_MESSAGE_CHARS)

"""Whisper's languages, and the names that media files and users use for them."""

from difflib import get_close_matches

_CODES = (
    "af am ar as az ba be bg bn bo br bs ca cs cy da de el en es et eu fa fi fo fr gl gu ha haw he hi hr ht hu hy id "
    "is it ja jw ka kk km kn ko la lb ln lo lt lv mg mi mk ml mn mr ms mt my ne nl nn no oc pa pl ps pt ro ru sa sd "
    "si sk sl sn so sq sr su sv sw ta te tg th tk tl tr tt uk ur uz vi yi yo yue zh"
)
LANGUAGES = frozenset(_CODES.split())
"""Whisper's language codes."""

_NAMES = (
    "afr af amh am ara ar asm as aze az bak ba bel be bul bg ben bn bod bo tib bo bre br bos bs cat ca ces cs cze cs "
    "cym cy wel cy dan da deu de ger de ell el gre el eng en spa es est et eus eu baq eu fas fa per fa fin fi fao fo "
    "fra fr fre fr glg gl guj gu hau ha heb he hin hi hrv hr hat ht hun hu hye hy arm hy ind id isl is ice is ita it "
    "jpn ja jav jw kat ka geo ka kaz kk khm km kan kn kor ko lat la ltz lb lin ln lao lo lit lt lav lv mlg mg mri mi "
    "mao mi mkd mk mac mk mal ml mon mn mar mr msa ms may ms mlt mt mya my bur my nep ne nld nl dut nl nno nn nor no "
    "nob no oci oc pan pa pol pl pus ps por pt ron ro rum ro rus ru san sa snd sd sin si slk sk slo sk slv sl sna sn "
    "som so sqi sq alb sq srp sr sun su swe sv swa sw tam ta tel te tgk tg tha th tuk tk tgl tl fil tl tur tr tat tt "
    "ukr uk urd ur uzb uz vie vi yid yi yor yo zho zh chi zh cmn zh jv jw nb no iw he in id"
)
_PAIRS = _NAMES.split()
_WHISPER: dict[str, str] = dict(zip(_PAIRS[::2], _PAIRS[1::2], strict=True))
"""ISO 639-2 codes (both sets) and a few others, mapped to Whisper's codes."""


def whisper_code(tag: str | None) -> str | None:
    """Whisper's code for a tag such as eng, en-US or ger, or None if Whisper does not know the language."""
    plain = (tag or "").lower().replace("_", "-").partition("-")[0]
    code = _WHISPER.get(plain, plain)
    return code if code in LANGUAGES else None


def same_language(one: str | None, other: str | None) -> bool:
    """Whether two tags name the same language, one that Whisper knows."""
    code = whisper_code(one)
    return code is not None and code == whisper_code(other)


_COMMON_NAMES = {
    **dict.fromkeys(("chinese", "mandarin", "cn", "zh-cn", "zh-tw"), "zh"),
    **dict.fromkeys(("indonesian", "bahasa", "indonesia", "in"), "id"),
    **dict.fromkeys(("english", "gb", "us"), "en"),
    **dict.fromkeys(("german", "deutsch"), "de"),
    **dict.fromkeys(("french", "francais", "français"), "fr"),
    **dict.fromkeys(("spanish", "espanol", "español"), "es"),
    **dict.fromkeys(("japanese", "jp"), "ja"),
    **dict.fromkeys(("portuguese", "br-pt"), "pt"),
    **dict.fromkeys(("korean", "kr"), "ko"),
    **dict.fromkeys(("ukrainian", "ua"), "uk"),
    **dict.fromkeys(("hebrew", "iw"), "he"),
    **dict.fromkeys(("javanese",), "jw"),
    **dict.fromkeys(("filipino", "tagalog"), "tl"),
    **dict.fromkeys(("arabic",), "ar"),
    **dict.fromkeys(("russian",), "ru"),
    **dict.fromkeys(("italian",), "it"),
    **dict.fromkeys(("dutch",), "nl"),
    **dict.fromkeys(("turkish",), "tr"),
    **dict.fromkeys(("vietnamese", "vn"), "vi"),
    **dict.fromkeys(("hindi",), "hi"),
    **dict.fromkeys(("norwegian", "nb"), "no"),
    **dict.fromkeys(("polish",), "pl"),
    **dict.fromkeys(("thai",), "th"),
    **dict.fromkeys(("malay",), "ms"),
    **dict.fromkeys(("swedish", "se"), "sv"),
    **dict.fromkeys(("czech", "cz"), "cs"),
    **dict.fromkeys(("danish", "dk"), "da"),
    **dict.fromkeys(("greek", "gr"), "el"),
}
"""Language names and country codes that users type instead of a language code."""


def suggestions(language: str) -> list[str]:
    """Up to three codes that the user may have meant, most likely first."""
    typed = language.casefold().strip()
    named = [_COMMON_NAMES[name] for name in get_close_matches(typed, _COMMON_NAMES, n=2, cutoff=0.75)]
    base = [code for code in (whisper_code(typed), typed[:2]) if code in LANGUAGES]
    close = get_close_matches(typed, sorted(LANGUAGES), n=3, cutoff=0.6) if len(typed) <= 3 else []
    return list(dict.fromkeys([*named, *base, *close]))[:3]

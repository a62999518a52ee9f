"""Untrusted text made fit for messages: values and exceptions, shortened and without passwords; URLs without passwords."""

from __future__ import annotations

import re
from typing import Any

#: Replaces a password.
HIDDEN = "***"
#: Most characters of a value in a message, and of an exception's text.
SHOWN, SAID = 200, 4000
# A path has one slash where its URL had two; a password may hold blanks, and then ends at the first @.
_USER_PART = re.compile(r"(:/{1,2}[^\s/:@'\"]*):(?:[^\s'\"]*|[^'\"\n]*?)@")
_QUERY_PART = re.compile(r"(?i)([?&;][\w.-]*(?:passw|passphrase|pwd|secret|token|api_?key)[\w.-]*=|\bpassword=)[^&;\s'\"]+")


def without_password(text: str) -> str:
    """A text with ``***`` for the passwords of all URLs in it.

    Passwords are what stands between the user's name and the last ``@``, and parameters such as ``password=``.
    """
    return _QUERY_PART.sub(rf"\1{HIDDEN}", _USER_PART.sub(rf"\1:{HIDDEN}@", text))


def url_without_password(url: str) -> str:
    """The same for a text that is one URL: with any character in its password, and without a scheme too."""
    head, colon, rest = url.partition("://")
    if not colon:
        head, rest = "", url
        if re.match(r"[^\s/:@]*:\S*@", url) is None:
            return url
    user, at, host = rest.rpartition("@")
    if at and not rest.startswith("/"):  # a path has no user
        rest = f"{user.partition(':')[0]}{':' + HIDDEN if ':' in user else ''}@{host}"
    return _QUERY_PART.sub(rf"\1{HIDDEN}", head + colon + rest)


def without_secret(text: str, url: str) -> str:
    """A text about a URL without the URL's own password, in any encoding."""
    from urllib.parse import quote, quote_plus, unquote, unquote_plus

    user = url.partition("://")[2].rpartition("@")[0]
    secrets = [user.partition(":")[2], *(found.group(0).partition("=")[2] for found in _QUERY_PART.finditer(url))]
    text = text.replace(url, url_without_password(url))
    for secret in filter(None, secrets):
        for form in {secret, unquote(secret), unquote_plus(secret), quote(unquote(secret)), quote_plus(unquote(secret))}:
            text = text.replace(form, HIDDEN)
    return text


def shown(value: Any) -> str:
    """``repr(value)`` for a message: without passwords, shortened; also of a value whose ``repr`` fails."""
    if type(value) is int and abs(value) >= 10**30:
        return f"{'-' * (value < 0)}about 2**{abs(value).bit_length() - 1}"  # Python refuses to write down 5,000 digits
    try:
        text = without_password(repr(value))
    except RecursionError:
        return f"a {_name(value)} nested too deep to show"
    except (Exception, SystemExit) as error:
        return f"<{_name(value)} whose repr raises {_name(error)}>"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}... ({_name(value)})"


def said(error: BaseException) -> str:
    """``TypeError: what it says``, without passwords, shortened; also of an exception whose ``__str__`` fails."""
    try:
        text = str(error)
        clean = text.encode("utf-8", "backslashreplace").decode()  # half of a surrogate pair can neither be printed nor stored
        clean = without_password(clean)
        return f"{_name(error)}: {clean if len(clean) <= SAID else clean[:SAID] + '...'}"
    except (Exception, SystemExit) as second:
        return f"{_name(error)}: <its text raises {_name(second)}>"


def trace_of(error: BaseException) -> str:
    """The traceback of an exception, without passwords."""
    import traceback

    try:
        return without_password("".join(traceback.format_exception(error)))
    except Exception:  # an exception whose attributes raise
        return said(error)


def _name(value: Any) -> str:
    return type(value).__name__

"""Readable text out of attachments and narratives."""

import base64
import html
import re

from heallog.adapters.fhir.node import Node, Refused, shown

# Every alternative stops at the next angle bracket, so that the time grows with the length whatever the text is.
# (html.parser takes minutes over 100 kB of "<a ", and whoever may post a Bundle chooses the text.)
_TOKEN = re.compile(r"<!--|-->|</?([a-zA-Z][a-zA-Z0-9]*)[^<>]*>|<[!?/][^<>]*>|[^<-]+|.", re.DOTALL)
_SPACE = re.compile(r"\s+")
_MANY_BREAKS = re.compile(r"\n{3,}")
_UNSEEN = frozenset({"script", "style", "head", "title"})
_PARAGRAPHS = frozenset({"p", "table", "ul", "ol", "pre", "blockquote", "h1", "h2", "h3", "h4", "h5", "h6"})
_LINES = frozenset({"br", "div", "tr", "dt", "dd", "hr", "section", "article", "caption"})
_CHARSET = re.compile(r"charset\s*=\s*\"?([^\s;\"]+)")


def plain(markup: str) -> str:
    """HTML as text: a line per block, list items with a dash, cells apart by tabs; no scripts, styles or comments."""
    pieces: list[str] = []
    hidden_until = ""
    verbatim = False
    for token in _TOKEN.finditer(markup):
        piece, tag = token[0], (token[1] or "").lower()
        if hidden_until:
            if piece == hidden_until or (piece[:2] == "</" and tag == hidden_until):
                hidden_until = ""
        elif piece == "<!--":
            hidden_until = "-->"
        elif not tag:
            if piece[0] != "<" or piece == "<":
                pieces.append(_words(piece, pieces, verbatim))
        elif tag in _UNSEEN:
            hidden_until = tag if piece[1] != "/" and not piece.endswith("/>") else ""
        else:
            verbatim = piece[1] != "/" if tag == "pre" else verbatim
            pieces.append(_break(tag, closes=piece[1] == "/"))
    lines = "".join(pieces).split("\n")
    return _MANY_BREAKS.sub("\n\n", "\n".join(line.rstrip() for line in lines)).strip("\n")


def _words(piece: str, before: list[str], verbatim: bool) -> str:
    text = html.unescape(piece)
    if verbatim:
        return text
    text = _SPACE.sub(" ", text)
    at_start = not before or before[-1][-1:] in ("\n", " ", "\t")
    return text.lstrip() if at_start else text


def _break(tag: str, *, closes: bool) -> str:
    if tag in _PARAGRAPHS:
        return "\n\n" if closes else "\n"
    if tag in _LINES:
        return "\n"
    if tag == "li":
        return "" if closes else "\n- "
    return "\t" if closes and tag in ("td", "th") else ""


def media_type(attachment: Node) -> str:
    """`text/plain` of `text/plain; charset=utf-8`."""
    return attachment.text("contentType").partition(";")[0].strip().lower()


def attached(attachment: Node) -> str:
    """The text of an inline attachment. Raises `Refused` where its data is not what it says."""
    raw = attachment.lines("data")
    try:
        data = base64.b64decode("".join(raw.split()), validate=True)
    except ValueError:
        raise attachment.wrong("data", "base64") from None
    charset = _CHARSET.search(attachment.text("contentType").lower())
    name = charset[1] if charset else "utf-8"
    try:
        text = data.decode(name).removeprefix("\ufeff")
    except UnicodeError:
        raise Refused(f"{attachment.path}data: is not {name}") from None
    except (LookupError, ValueError):
        raise Refused(f"{attachment.path}contentType: {shown(name)} is not a known charset") from None
    return plain(text) if media_type(attachment) == "text/html" else text

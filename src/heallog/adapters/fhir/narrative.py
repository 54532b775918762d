"""Readable text out of attachments and narratives."""

import base64
import html
import re

from heallog.adapters.fhir.node import Node, Refused, shown

# Every token ends at the next angle bracket and gives nothing back, so that the time grows with the length whatever the
# text is. (html.parser takes minutes over 100 kB of "<a ", and whoever may post a Bundle chooses the text.)
_TOKEN = re.compile(r"<!--|</?([a-zA-Z][a-zA-Z0-9]*+)[^<>]*+>|<[!?/][^<>]*+>|[^<]++|<")
_SPACE = re.compile(r"\s+")
_MANY_BREAKS = re.compile(r"\n{3,}")
_END_OF_UNSEEN = {tag: re.compile(rf"</{tag}[^<>]*+>?", re.IGNORECASE) for tag in ("script", "style", "head", "title")}
_END_OF_COMMENT = re.compile("-->")
_PARAGRAPHS = frozenset({"p", "table", "pre", "blockquote", "h1", "h2", "h3", "h4", "h5", "h6"})
_LINES = frozenset({"br", "div", "tr", "dt", "dd", "hr", "section", "article", "caption"})
_CHARSET = re.compile(r"charset\s*=\s*\"?([^\s;\"]+)")


def plain(markup: str) -> str:
    """HTML as text: a line per block, list items with a dash, cells apart by tabs; no scripts, styles or comments."""
    pieces: list[str] = []
    verbatim = False
    at = 0
    while token := _TOKEN.match(markup, at):
        at = token.end()
        piece, tag = token[0], (token[1] or "").lower()
        opens = piece[:2] != "</"
        unseen = _END_OF_COMMENT if piece == "<!--" else _END_OF_UNSEEN.get(tag) if opens else None
        if unseen:
            end = unseen.search(markup, at)
            at = end.end() if end else len(markup)
        elif tag:
            verbatim = opens if tag == "pre" else verbatim
            pieces.append(_break(tag, closes=not opens))
        elif piece == "<" or piece[0] != "<":
            pieces.append(_words(piece, pieces, verbatim))
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
    if tag in ("ul", "ol"):
        return "\n" if closes else ""
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
    except UnicodeDecodeError:
        raise Refused(f"{attachment.path}data: is not {name}") from None
    except (LookupError, ValueError):
        raise Refused(f"{attachment.path}contentType: {shown(name)} is not a known charset") from None
    return plain(text) if media_type(attachment) == "text/html" else text

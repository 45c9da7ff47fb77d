"""Text comes out of documents, and every range points into it."""

from __future__ import annotations

import io

import pytest
from pypdf import PdfReader, PdfWriter

from pdf_files import pdf
from smallmind.rag import DocumentError
from smallmind.rag._extraction import extract
from smallmind_engine.control import NO_LIMIT, CancellationToken, WorkLimit
from smallmind_engine.telemetry import OperationCancelledError, ReasonCode


def sections(extracted):
    return [(s.heading, extracted.text[s.start : s.end]) for s in extracted.sections]


def test_plain_text_is_its_own_text():
    extracted = extract("a.txt", b"One.\r\nTwo.\rThree.", NO_LIMIT)
    assert extracted.text == "One.\nTwo.\nThree."
    assert sections(extracted) == [("", extracted.text)]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("\ufeffgrün".encode(), "grün"),
        ("grün".encode("utf-16"), "grün"),
        ("grün".encode("utf-32"), "grün"),
        ("grün “so”".encode("cp1252"), "grün “so”"),
        (b"", ""),
    ],
)
def test_encodings_are_told_apart(data, text):
    assert extract("a.txt", data, NO_LIMIT).text == text


def test_what_is_no_text_is_refused():
    with pytest.raises(DocumentError, match="zero bytes") as caught:
        extract("a.txt", b"\x7fELF\0\0\0", NO_LIMIT)
    assert caught.value.reason is ReasonCode.RAG_SOURCE_UNREADABLE


def test_a_name_that_nothing_reads_is_refused():
    with pytest.raises(DocumentError, match=r"nothing reads 'a\.exe'"):
        extract("a.exe", b"", NO_LIMIT)


def test_markdown_is_cut_at_its_headings():
    source = "intro\n\n# One *two*\n\na\n\n## `Three`\nb\n\nFour\n====\nc\n"
    extracted = extract("a.md", source.encode(), NO_LIMIT)
    assert extracted.text == source
    assert extracted.title == "One two"
    assert sections(extracted) == [
        ("", "intro\n\n"),
        ("One two", "# One *two*\n\na\n\n"),
        ("One two > Three", "## `Three`\nb\n\n"),
        ("Four", "Four\n====\nc\n"),
    ]


def test_what_looks_like_a_heading_inside_of_markdown_code_is_none():
    extracted = extract("a.md", b"# A\n\n```\n# not one\n```\n\n> # nor this\n", NO_LIMIT)
    assert [heading for heading, _ in sections(extracted)] == ["A"]


def test_html_becomes_what_a_reader_sees():
    source = """<html><head><title> The
      title </title><style>p {}</style></head><body>
      <h1>First <em>heading</em></h1><p>One   <b>bold</b>,
      two.</p><script>alert(1)</script><ul><li>x</li><li>y</li></ul>
      <pre>a
  b</pre><table><tr><td>1</td><td>2</td></tr><tr><td>3</td></tr></table>
      <h2>Second</h2>tail &lt;&amp;&gt;<!-- no --></body></html>"""
    extracted = extract("a.html", source.encode(), NO_LIMIT)
    assert extracted.title == "The title"
    assert extracted.text == (
        "First heading\n\nOne bold, two.\n\nx\ny\n\na\n  b\n\n1 2\n3\n\nSecond\n\ntail <&>"
    )
    first, second = sections(extracted)
    assert first[0] == "First heading"
    assert second == ("First heading > Second", "Second\n\ntail <&>")


def test_html_in_a_declared_encoding():
    source = '<meta charset="iso-8859-5"><p>Привет</p>'
    assert extract("a.htm", source.encode("iso-8859-5"), NO_LIMIT).text == "Привет"


@pytest.mark.parametrize("charset", ["no-such", "utf-8"])
def test_html_that_declares_what_it_is_not_is_read_all_the_same(charset):
    data = f'<meta charset="{charset}"><p>gr'.encode() + b"\xfcn</p>"
    assert extract("a.html", data, NO_LIMIT).text in {"grün", "gr\ufffdn"}


def test_an_encrypted_pdf_is_refused():
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(pdf("secret"))))
    writer.encrypt("password", algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    with pytest.raises(DocumentError, match="needs a password"):
        extract("a.pdf", out.getvalue(), NO_LIMIT)


def test_deeply_nested_html_is_no_trouble():
    depth = 5_000
    extracted = extract("a.html", b"<div>" * depth + b"deep" + b"</div>" * depth, NO_LIMIT)
    assert extracted.text == "deep"


def test_pdf_pages_follow_each_other():
    extracted = extract("a.pdf", pdf("One page.\nTwo lines.", "The next.", title="Book"), NO_LIMIT)
    assert extracted.title == "Book"
    assert extracted.text == "One page.\nTwo lines.\n\nThe next."
    starts = extracted.page_starts
    assert [extracted.text[at : at + 3] for at in starts] == ["One", "The"]


@pytest.mark.parametrize("data", [b"", b"%PDF-1.4\nnonsense", pdf("x")[:200]])
def test_a_damaged_pdf_is_an_error_of_ours(data):
    with pytest.raises(DocumentError) as caught:
        extract("a.pdf", data, NO_LIMIT)
    assert caught.value.reason is ReasonCode.RAG_SOURCE_UNREADABLE


@pytest.mark.parametrize(
    ("name", "data"),
    [("a.txt", b"x"), ("a.md", b"x"), ("a.html", b"x"), ("a.pdf", pdf("x"))],
)
def test_extraction_can_be_cancelled(name, data):
    token = CancellationToken()
    token.cancel()
    with pytest.raises(OperationCancelledError):
        extract(name, data, WorkLimit(token))

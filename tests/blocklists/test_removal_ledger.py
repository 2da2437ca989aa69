"""The ledger of removals: read in the form that extraction writes, or refused by line with the remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from laion_dask.blocklists.removal_ledger import Removal, RemovalsError, read

HEADER = "kind,value,reason,date,source\n"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("url,HTTPS://A.Example:443/x/../1.jpg,,,", Removal("url", "https://a.example/1.jpg", "")),
        ("url,https://a.example/狐狐狐狐.jpg,,,", Removal("url", "https://a.example/" + "%E7%8B%90" * 4 + ".jpg", "")),
        ("url,https://localhost/1.jpg,,,", Removal("url", "https://localhost/1.jpg", "")),
        ("url,HTTP://10.0.0.1:80/1.SVG,,,", Removal("url", "http://10.0.0.1/1.SVG", "")),
        (f"url,https://A.Example/{'x' * 3000},,,", Removal("url", f"https://a.example/{'x' * 3000}", "")),
        ("domain,.Removed.Example.,,,", Removal("domain", "removed.example", "")),
        ("domain,Bücher.example,,,", Removal("domain", "xn--bcher-kva.example", "")),
        ("domain,192.0.2.1,,,", Removal("domain", "192.0.2.1", "")),
        (" uid ," + "0" * 32 + " ,,2024-02-29 ,", Removal("uid", "0" * 32, "", "2024-02-29")),
        ("domain,a.example,=1+1,,-", Removal("domain", "a.example", "=1+1", "", "-")),
        (f"uid,{'AB' * 16},,,", Removal("uid", "ab" * 16, "")),
        (f"pdq,{'AB' * 32},,,", Removal("pdq", "ab" * 32, "")),
        (
            f'sha256,{"0" * 64},"asked for, by post",2025-01-02,mail',
            Removal("sha256", "0" * 64, "asked for, by post", "2025-01-02", "mail"),
        ),
    ],
)
def test_removals_are_read_in_the_form_that_extraction_writes(tmp_path: Path, line: str, expected: Removal) -> None:
    path = tmp_path / "removals.csv"
    path.write_text(HEADER + line + "\n", encoding="utf-8")
    assert read(path) == [expected]


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        ("host,a.example,,,", "kind 'host' with value 'a.example'. Remedy: a value, and a kind out of url, domain"),
        ("url,,,,", "kind 'url' with value ''. Remedy: a value"),
        ("domain,,,,", "kind 'domain' with value ''. Remedy: a value"),
        ("uid,123,,,", "kind 'uid' with value '123'. Remedy: 32 hex digits"),
        (f"sha256,{'0' * 63},,,", "Remedy: 64 hex digits"),
        (f"md5,{'g' * 32},,,", "Remedy: 32 hex digits"),
        ("domain,https://a.example/,,,", "Remedy: the bare name, such as takedown.example; its subdomains"),
        ("domain,*.a.example,,,", "Remedy: the bare name"),
        ("domain,'a.example,,,", "Remedy: the bare name"),
        ('domain,"a.example,b.example",,,', "Remedy: the bare name"),
        ("domain,co.uk,,,", "a registered domain; this is a public suffix"),
        ("domain,github.io,,,", "this is a public suffix"),
        ("domain,.COM.,,,", "this is a public suffix"),
        ("domain,example,,,", "this is a public suffix"),
        ("url,a.example/1.jpg,,,", "Remedy: an absolute address"),
        ("url,<https://a.example/1.jpg>,,,", "Remedy: an absolute address"),
        ("url,https://a b.example/1.jpg,,,", "Remedy: an absolute address"),
        ("url,mailto:reader@a.example,,,", "Remedy: an absolute address"),
        ("url,https://a.example/1.jpg # asked twice,,,", "Remedy: an address without blanks"),
        ("url,https://a.example/1.jpg\thttps://a.example/2.jpg,,,", "Remedy: an address without blanks"),
        ("url,https://a.example/1.jpg\u200b,,,", "Remedy: an address without blanks and hidden characters"),
        ("url,https://a.example/1.jpg\u202e,,,", "Remedy: an address without blanks and hidden characters"),
        ("url,https://a.example/1.jpg;http://a.example/2.jpg,,,", "Remedy: one address in each line"),
        ('url,"https://a.example/1.jpg,https://a.example/2.jpg",,,', "Remedy: one address in each line"),
    ],
)
def test_a_bad_line_is_refused_by_number_with_the_remedy(tmp_path: Path, line: str, remedy: str) -> None:
    path = tmp_path / "removals.csv"
    path.write_text(f"{HEADER}domain,good.example,,,\n\n{line}\n")
    with pytest.raises(RemovalsError) as refused:
        read(path)
    assert str(refused.value).startswith(f"{path}:4: kind ")
    assert remedy in str(refused.value)


@pytest.mark.parametrize(
    "day",
    ["2 May 2025", "2025-13-01", "2025-01-32", "25-01-02", "2025-01-02T00:00", "2026-02-30", "2025-02-29", "20250102"],
)
def test_a_date_that_no_day_can_be_compared_with_is_refused(tmp_path: Path, day: str) -> None:
    path = tmp_path / "removals.csv"
    path.write_text(f"{HEADER}domain,good.example,,{day},\n")
    with pytest.raises(RemovalsError, match=r"removals\.csv:2: date .* Remedy: year, month and day"):
        read(path)


@pytest.mark.parametrize(
    ("lines", "number", "message"),
    [
        (
            'domain,a.example,,,\nurl,"https://a.example/1.jpg,,2025-04-13,\nurl,https://a.example/2.jpg,,,\n',
            3,
            "a quote",
        ),
        ("domain,a.example,,,\nurl,https://a.example/a,b.jpg,,2025-04-13,letter\n", 3, "6 values"),
        ("domain,a.example,,\n", 2, "4 values"),
        ('domain,a.example,"two\nlines",,\n', 2, "a quote is not closed in its line"),
    ],
)
def test_a_line_that_would_swallow_or_move_others_is_refused(
    tmp_path: Path, lines: str, number: int, message: str
) -> None:
    path = tmp_path / "removals.csv"
    path.write_text(HEADER + lines)
    with pytest.raises(RemovalsError) as refused:
        read(path)
    assert str(refused.value).startswith(f"{path}:{number}: ")
    assert message in str(refused.value)
    assert "Remedy: " in str(refused.value)


@pytest.mark.parametrize(
    "text", [f"\ufeff{HEADER}domain,a.example,,,\n", f"{HEADER}domain,a.example,,,\r\n\r\n,,,,\r\n"]
)
def test_a_byte_order_mark_and_rows_without_anything_are_passed_by(tmp_path: Path, text: str) -> None:
    (tmp_path / "removals.csv").write_text(text, encoding="utf-8")
    assert read(tmp_path / "removals.csv") == [Removal("domain", "a.example", "")]


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("removals_open_quote.csv", None),
        ("removals_six_fields.csv", None),
        ("removals_bom.csv", "https://a.example/1.jpg"),
    ],
)
def test_the_ledgers_that_ended_wrongly_end_well(name: str, right: str | None, shared_data: Path) -> None:
    path = shared_data / "faults" / name
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    if right:
        assert [line.value for line in read(path)] == [right]
    else:
        with pytest.raises(RemovalsError, match=rf"{name}:2: .* Remedy: "):
            read(path)


@pytest.mark.parametrize("text", ["", "kind,value\nurl,https://a.example/\n", HEADER.replace(",", ";"), HEADER.title()])
def test_a_ledger_of_removals_without_its_header_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "removals.csv").write_text(text)
    with pytest.raises(RemovalsError, match=r"removals\.csv: the header is .* Remedy: kind,value,reason,date,source$"):
        read(tmp_path / "removals.csv")


def test_a_missing_ledger_of_removals_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(RemovalsError, match=r"is missing\. Remedy: make it with the header line kind,value"):
        read(tmp_path / "removals.csv")

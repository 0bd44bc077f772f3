"""What strangers may write into records that `pillarbox doctor` reads."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from pillarbox.cli.doctor.dns_domain import parse_tags
from pillarbox.cli.doctor.dns_spf import SpfFailed, evaluate
from pillarbox.cli.doctor.lookup import Found
from pillarbox.dns.query import Status

WORDS = ["a", "mx", "ip4:", "ip6:", "include:", "redirect=", "-all", "~", "+", "/", "//", "24"]
WORDS += [":", "=", "%{i}", "exists:", "example", "1.2.3.4", "2a00::1", " ", "é"]
RECORDS = st.lists(st.sampled_from(WORDS) | st.text(max_size=3), max_size=8).map("".join)
RESULTS = {"pass", "fail", "softfail", "neutral", "permerror", "temperror", "unknown"}


class Records:
    """Each name has the same records; how often it was asked."""

    def __init__(self, record: str) -> None:
        self.record = record
        self.asked = 0

    async def ask(self, name: str, kind: str) -> Found:
        self.asked += 1
        values = {"TXT": f"v=spf1 {self.record}", "MX": "10 mx.example", "A": "1.2.3.4"}
        return Found(Status.OK, (values.get(kind, "2a00::1"),), name)


@given(RECORDS, st.sampled_from(["1.2.3.4", "2a00::1"]))
def test_every_spf_record_has_a_result_after_few_questions(record: str, address: str) -> None:
    records = Records(record)
    try:
        result = asyncio.run(evaluate(records, "example.org", address))
    except SpfFailed as failure:
        result = failure.result
    assert result in RESULTS
    assert records.asked <= 40  # RFC 7208 §4.6.4: ten terms that ask, each a few questions


@given(st.text())
def test_tags_of_any_text_have_no_space_in_them(text: str) -> None:
    for name, value in parse_tags(text).items():
        assert name == name.strip()
        assert not any(character.isspace() for character in value)


@given(
    st.dictionaries(
        st.from_regex(r"[a-z]{1,3}", fullmatch=True), st.from_regex(r"[!-:<-~]*", fullmatch=True)
    )
)
def test_tags_come_back(tags: dict[str, str]) -> None:
    text = " ; ".join(f"{name} = {value}" for name, value in tags.items())
    assert parse_tags(text) == tags

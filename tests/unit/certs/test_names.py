"""Which certificate a name gets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.certs.names import ByName

BY_NAME = ByName(
    [
        (["mail.example.org", "*.example.org"], "first"),
        (["imap.example.org", "mail.example.org"], "second"),
        (["*.a.example.org"], "third"),
    ]
)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("mail.example.org", "first"),
        ("MAIL.Example.ORG.", "first"),
        ("imap.example.org", "second"),  # exact names come before wildcards of earlier ones
        ("pop.example.org", "first"),
        ("x.a.example.org", "third"),
        ("example.org", None),
        ("x.y.example.org", None),  # RFC 9525 §6.3: a wildcard stands for one label
        (".example.org", None),
        ("*.example.org", None),
        ("", None),
        ("org", None),
    ],
)
def test_exact_names_come_first_and_a_wildcard_stands_for_one_label(
    name: str, found: str | None
) -> None:
    assert BY_NAME.find(name) == found


@pytest.mark.parametrize(
    "presented", ["*.*.example.net", "a.*.example.net", "f*o.example.net", "*"]
)
def test_a_name_with_a_wildcard_elsewhere_counts_as_none(presented: str) -> None:
    """RFC 9525 §6.3: "invalid and MUST be ignored"."""
    by_name = ByName([([presented, "*.example.org"], "it")])
    assert by_name.find("x.example.org") == "it"
    for name in (presented, presented.replace("*", "a"), presented.replace("*", "a", 1)):
        assert by_name.find(name) is None


@given(st.text(max_size=300))
def test_any_name_is_looked_up_without_error(name: str) -> None:
    assert BY_NAME.find(name) in (None, "first", "second", "third")

import pytest

from pillarbox.mime.subject import base_subject


@pytest.mark.parametrize(
    ("subject", "base", "is_reply"),
    [
        ("tea", "tea", False),
        ("Re: tea", "tea", True),
        ("RE : tea", "tea", True),
        ("re[2]: tea", "tea", True),
        ("Fw: Fwd: Re:tea", "tea", True),
        ("[list] tea", "tea", False),
        ("[a] [b] re: [c] tea", "tea", True),
        ("[a] [b]", "[b]", False),
        ("Re: [a]", "[a]", True),
        ("tea (fwd) (FWD)  ", "tea", True),
        ("[Fwd: Re: tea]", "tea", True),
        ("[fwd: [fwd: tea (fwd)] ]", "tea", True),
        ("[list] [Fwd: tea]", "tea", True),
        ("tea \t  leaf", "tea leaf", False),
        ("Regarding: tea", "Regarding: tea", False),
        ("Re:", "", True),
        ("", "", False),
        ("re tea", "re tea", False),
        ("[[x] re: tea", "[[x] re: tea", False),
    ],
)
def test_base_subject(subject: str, base: str, is_reply: bool) -> None:
    assert base_subject(subject) == (base, is_reply)

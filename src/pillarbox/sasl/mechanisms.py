"""The table of SASL mechanisms. `MECHANISMS[name]()` begins an exchange; names are upper case (RFC 4422 §3.1)."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from pillarbox.sasl.exchange import Mechanism
from pillarbox.sasl.login import Login
from pillarbox.sasl.plain import Plain

MECHANISMS: Mapping[str, Callable[[], Mechanism]] = MappingProxyType(
    {"PLAIN": Plain, "LOGIN": Login}
)

"""The table of commands: one row says how a command is called, when it is legal and how its arguments are read.

An extension adds rows: `Server(commands={**COMMANDS, **more})`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import partial

from pillarbox.imap.grammar import Cursor
from pillarbox.imap.syntax_acl import Acl, parse_identifier, parse_set_acl
from pillarbox.imap.syntax_append import Target, parse_append, parse_replace
from pillarbox.imap.syntax_fetch import Fetch, parse_fetch
from pillarbox.imap.syntax_list import List, parse_list, parse_lsub
from pillarbox.imap.syntax_mailbox import (
    Create,
    Mailbox,
    Rename,
    Status,
    parse_create,
    parse_mailbox,
    parse_rename,
    parse_status,
)
from pillarbox.imap.syntax_message import (
    Copy,
    Expunge,
    Store,
    parse_copy,
    parse_expunge,
    parse_store,
    parse_uid_expunge,
)
from pillarbox.imap.syntax_metadata import (
    GetMetadata,
    SetMetadata,
    parse_get_metadata,
    parse_set_metadata,
)
from pillarbox.imap.syntax_multisearch import MultiSearch, parse_multisearch
from pillarbox.imap.syntax_notify import Notify, parse_notify
from pillarbox.imap.syntax_quota import QuotaRoot, parse_get_quota, parse_set_quota
from pillarbox.imap.syntax_search import (
    CancelUpdate,
    Search,
    Sort,
    Thread,
    parse_cancel_update,
    parse_search,
    parse_sort,
    parse_thread,
)
from pillarbox.imap.syntax_select import Select, parse_select
from pillarbox.imap.syntax_session import (
    Authenticate,
    Enable,
    Id,
    Login,
    parse_authenticate,
    parse_compress,
    parse_enable,
    parse_id,
    parse_login,
    parse_nothing,
)

Arguments = (
    None
    | Login
    | Authenticate
    | Id
    | Enable
    | Mailbox
    | Select
    | Create
    | Rename
    | List
    | Status
    | Target
    | QuotaRoot
    | GetMetadata
    | SetMetadata
    | Acl
    | Store
    | Copy
    | Expunge
    | Fetch
    | Search
    | Sort
    | Thread
    | CancelUpdate
    | MultiSearch
    | Notify
)


class State(Enum):
    """RFC 3501 §3."""

    NOT_AUTHENTICATED = "not authenticated"
    AUTHENTICATED = "authenticated"
    SELECTED = "selected"
    LOGOUT = "logout"


ANY = (State.NOT_AUTHENTICATED, State.AUTHENTICATED, State.SELECTED)
BEFORE_LOGIN = (State.NOT_AUTHENTICATED,)
AFTER_LOGIN = (State.AUTHENTICATED, State.SELECTED)
SELECTED = (State.SELECTED,)


@dataclass(slots=True, frozen=True)
class Row:
    """`name` is what `Command.name` will say. `parse` starts after the command's name and takes all arguments with
    the spaces before them; it raises RemoteError or Refused. `uploads`: messages follow, which are streamed; then
    `parse` gives a Target and takes only what comes before them."""

    name: str
    states: tuple[State, ...]
    parse: Callable[[Cursor], Arguments]
    uploads: bool = False


def _rows(states: tuple[State, ...], **parsers: Callable[[Cursor], Arguments]) -> dict[bytes, Row]:
    return {name.encode("ascii"): Row(name, states, parse) for name, parse in parsers.items()}


def _uid_rows(**parsers: Callable[[Cursor], Arguments]) -> dict[bytes, Row]:
    return {b"UID " + name: row for name, row in _rows(SELECTED, **parsers).items()}


COMMANDS: Mapping[bytes, Row] = {
    **_rows(ANY, CAPABILITY=parse_nothing, NOOP=parse_nothing, LOGOUT=parse_nothing, ID=parse_id),
    **_rows(
        BEFORE_LOGIN, STARTTLS=parse_nothing, LOGIN=parse_login, AUTHENTICATE=parse_authenticate
    ),
    **_rows(
        AFTER_LOGIN,
        ENABLE=parse_enable,
        SELECT=parse_select,
        EXAMINE=parse_select,
        CREATE=parse_create,
        DELETE=parse_mailbox,
        RENAME=parse_rename,
        SUBSCRIBE=parse_mailbox,
        UNSUBSCRIBE=parse_mailbox,
        LIST=parse_list,
        LSUB=parse_lsub,
        NAMESPACE=parse_nothing,
        STATUS=parse_status,
        IDLE=parse_nothing,
        COMPRESS=parse_compress,
        GETQUOTA=parse_get_quota,
        GETQUOTAROOT=parse_mailbox,
        SETQUOTA=parse_set_quota,
        GETMETADATA=parse_get_metadata,
        SETMETADATA=parse_set_metadata,
        UNAUTHENTICATE=parse_nothing,
        ESEARCH=parse_multisearch,
        SETACL=parse_set_acl,
        DELETEACL=parse_identifier,
        LISTRIGHTS=parse_identifier,
        GETACL=parse_mailbox,
        MYRIGHTS=parse_mailbox,
        NOTIFY=parse_notify,
    ),
    **_rows(
        SELECTED,
        CHECK=parse_nothing,
        CLOSE=parse_nothing,
        UNSELECT=parse_nothing,
        EXPUNGE=parse_expunge,
        SEARCH=parse_search,
        FETCH=parse_fetch,
        STORE=parse_store,
        COPY=parse_copy,
        MOVE=parse_copy,
        SORT=parse_sort,
        THREAD=parse_thread,
        CANCELUPDATE=parse_cancel_update,
    ),
    **_uid_rows(
        EXPUNGE=parse_uid_expunge,
        SEARCH=partial(parse_search, uid=True),
        FETCH=partial(parse_fetch, uid=True),
        STORE=partial(parse_store, uid=True),
        COPY=partial(parse_copy, uid=True),
        MOVE=partial(parse_copy, uid=True),
        SORT=partial(parse_sort, uid=True),
        THREAD=partial(parse_thread, uid=True),
    ),
    b"APPEND": Row("APPEND", AFTER_LOGIN, parse_append, uploads=True),
    b"REPLACE": Row("REPLACE", SELECTED, parse_replace, uploads=True),
    b"UID REPLACE": Row("REPLACE", SELECTED, partial(parse_replace, uid=True), uploads=True),
}
"""By name in upper case, `UID FETCH` with its one space."""

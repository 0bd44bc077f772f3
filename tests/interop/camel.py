"""Camel, the mail library of Evolution, driven by lines of JSON: a name and its arguments in, the answer out.

It runs under Debian's own Python, which has GObject introspection; nothing of Pillarbox is imported. Lists of UIDs are
read by ctypes: introspection frees strings that Camel still has.
"""

import ctypes
import json
import os
import sys

import gi

gi.require_version("Camel", "1.2")
from gi.repository import Camel, Gio, GLib  # noqa: E402

_SECURITY = {
    "plain": Camel.NetworkSecurityMethod.NONE,
    "tls": Camel.NetworkSecurityMethod.SSL_ON_ALTERNATE_PORT,
    "starttls": Camel.NetworkSecurityMethod.STARTTLS_ON_STANDARD_PORT,
}
_FLAGS = {
    "\\Answered": Camel.MessageFlags.ANSWERED,
    "\\Deleted": Camel.MessageFlags.DELETED,
    "\\Flagged": Camel.MessageFlags.FLAGGED,
    "\\Seen": Camel.MessageFlags.SEEN,
}

_library = ctypes.CDLL(None)  # introspection has loaded it


class _Strings(ctypes.Structure):
    _fields_ = (("items", ctypes.POINTER(ctypes.c_char_p)), ("length", ctypes.c_uint))


class _Folder(ctypes.Structure):
    pass


_Folder._fields_ = (
    ("next", ctypes.POINTER(_Folder)),
    ("parent", ctypes.POINTER(_Folder)),
    ("child", ctypes.POINTER(_Folder)),
    ("full_name", ctypes.c_char_p),
    ("display_name", ctypes.c_char_p),
    ("flags", ctypes.c_uint32),
    ("unread", ctypes.c_int32),
    ("total", ctypes.c_int32),
)
for _name, _result, *_arguments in (
    ("get_uids", ctypes.POINTER(_Strings), ctypes.c_void_p),
    ("free_uids", None, ctypes.c_void_p, ctypes.POINTER(_Strings)),
    (
        "search_by_expression",
        ctypes.POINTER(_Strings),
        ctypes.c_void_p,
        ctypes.c_char_p,
        ctypes.c_void_p,
        ctypes.c_void_p,
    ),
    ("search_free", None, ctypes.c_void_p, ctypes.POINTER(_Strings)),
):
    _function = getattr(_library, f"camel_folder_{_name}")
    _function.restype, _function.argtypes = _result, _arguments


class Session(Camel.Session):
    """Gives the password when it is asked, and takes a certificate that has no fault but its unknown CA.

    It has no filters, of which Camel complains in the log.
    """

    password = ""

    def do_authenticate_sync(self, service, mechanism, cancellable):
        service.set_password(self.password)
        told = service.authenticate_sync(mechanism, cancellable)
        return told == Camel.AuthenticationResult.ACCEPTED

    def do_trust_prompt(self, service, certificate, errors):
        if errors == Gio.TlsCertificateFlags.UNKNOWN_CA:
            return Camel.CertTrust.TEMPORARY
        return Camel.CertTrust.NEVER


class Account:
    """What can be asked for; each method is a command."""

    def __init__(self, folder: str) -> None:
        Camel.init(folder, False)
        Camel.provider_init()
        self._session = Session(user_data_dir=f"{folder}/data", user_cache_dir=f"{folder}/cache")
        self._session.set_online(True)

    def connect(self, address: str, password: str, ports: dict, transport: str) -> None:
        """Also once more after `disconnect`; then with what was kept."""
        self._session.password = password
        self._session.remove_services()
        self._store, self._smtp = (
            self._service(name, kind, address, ports[port], transport)
            for name, kind, port in (
                ("imapx", Camel.ProviderType.STORE, "imap"),
                ("smtp", Camel.ProviderType.TRANSPORT, "smtp"),
            )
        )
        self._store.set_online_sync(True, None)
        self._store.connect_sync(None)
        self.folders()  # it opens only what it has seen in a list

    def disconnect(self) -> None:
        self._store.disconnect_sync(True, None)

    def folders(self) -> dict:
        """Unread and all messages of each; its own search folders begin with a dot."""
        first = self._store.get_folder_info_sync(
            None, Camel.StoreGetFolderInfoFlags.RECURSIVE, None
        )
        found = {first.full_name: (first.unread, first.total)}
        waiting = [
            ctypes.cast(place, ctypes.POINTER(_Folder))
            for place in (first.next, first.child)
            if place
        ]
        while waiting:
            each = waiting.pop().contents
            found[each.full_name.decode()] = (each.unread, each.total)
            waiting += [near for near in (each.next, each.child) if near]
        return {name: counts for name, counts in found.items() if not name.startswith(".")}

    def letters(self, folder: str, refresh: bool = False) -> dict:
        """The subject and the flags of each message by UID, asking the server first, or as Camel knows it."""
        place = self._folder(folder)
        if refresh:
            place.refresh_info_sync(None)
        self._work_off()
        found = {}
        for uid in self._uids(place):
            info = place.get_message_info(uid)
            if info is not None:
                marks = [name for name, flag in _FLAGS.items() if info.get_flags() & flag]
                found[uid] = (
                    info.get_subject(),
                    marks + ["project"] * info.get_user_flag("project"),
                )
        return found

    def text(self, folder: str, uid: str) -> str:
        return _text(self._folder(folder).get_message_sync(uid, None))

    def mark(self, folder: str, uid: str, flags: list, *labels: str) -> None:
        place = self._folder(folder)
        info = place.get_message_info(uid)
        for flag in flags:
            info.set_flags(_FLAGS[flag], _FLAGS[flag])
        for label in labels:
            info.set_user_flag(label, True)
        place.synchronize_sync(False, None)

    def expunge(self, folder: str) -> None:
        self._folder(folder).expunge_sync(None)

    def file(self, folder: str, uids: list, to: str, is_move: bool) -> None:
        self._folder(folder).transfer_messages_to_sync(uids, self._folder(to), is_move, None)

    def search(self, folder: str, expression: str) -> list:
        place = self._folder(folder)
        found = _library.camel_folder_search_by_expression(
            hash(place), expression.encode(), None, None
        )
        try:
            return _strings(found)
        finally:
            _library.camel_folder_search_free(hash(place), found)

    def append(self, folder: str, message: str) -> str:
        """Gives the new UID."""
        return self._folder(folder).append_message_sync(_message(message), None, None).appended_uid

    def send(self, message: str, sender: str, recipient: str) -> None:
        self._smtp.connect_sync(None)
        addresses = []
        for each in (sender, recipient):
            addresses.append(Camel.InternetAddress.new())
            addresses[-1].add("", each)
        self._smtp.send_to_sync(_message(message), *addresses, None)
        self._smtp.disconnect_sync(True, None)

    def fetch(self, address: str, password: str, port: int, transport: str) -> list:
        """The texts of all messages by POP3, which are removed then."""
        self._session.password = password
        store = self._service("pop", Camel.ProviderType.STORE, address, port, transport)
        store.connect_sync(None)
        inbox = store.get_folder_sync("inbox", Camel.StoreGetFolderFlags.NONE, None)
        inbox.refresh_info_sync(None)
        texts = []
        for uid in self._uids(inbox):
            texts.append(_text(inbox.get_message_sync(uid, None)))
            inbox.set_message_flags(uid, Camel.MessageFlags.DELETED, Camel.MessageFlags.DELETED)
        inbox.synchronize_sync(True, None)
        store.disconnect_sync(True, None)
        return texts

    def create(self, parent: str, name: str) -> None:
        self._store.create_folder_sync(parent or None, name, None)

    def rename(self, old: str, new: str) -> None:
        self._store.rename_folder_sync(old, new, None)

    def delete(self, name: str) -> None:
        self._store.delete_folder_sync(name, None)

    def _service(self, name, kind, address, port, transport):
        service = self._session.add_service(name, name, kind)
        settings = service.ref_settings()
        for key, value in {
            "host": "localhost",
            "port": port,
            "user": address,
            "auth-mechanism": "PLAIN",
            "security-method": _SECURITY[transport],
        }.items():
            settings.set_property(key, value)
        if name == "imapx":
            settings.set_property("use-qresync", True)  # not so unless one asks for it
        return service

    def _folder(self, name: str):
        return self._store.get_folder_sync(name, Camel.StoreGetFolderFlags.NONE, None)

    def _uids(self, place) -> list:
        found = _library.camel_folder_get_uids(hash(place))
        try:
            return _strings(found)
        finally:
            _library.camel_folder_free_uids(hash(place), found)

    def _work_off(self) -> None:
        """What Camel's threads left for the main loop."""
        while GLib.MainContext.default().iteration(False):
            pass


def _strings(found) -> list:
    assert found, "Camel gave no list"
    return [found.contents.items[number].decode() for number in range(found.contents.length)]


def _text(message) -> str:
    stream = Camel.StreamMem.new()
    message.write_to_stream_sync(stream, None)
    return bytes(stream.get_byte_array()).decode()


def _message(text: str):
    message = Camel.MimeMessage.new()
    message.construct_from_stream_sync(Camel.StreamMem.new_with_buffer(text.encode()), None)
    return message


def main() -> None:
    """Camel prints what is on the wire, so standard output becomes standard error, the log."""
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        account = Account(sys.argv[1])
        for line in sys.stdin:
            name, arguments = json.loads(line)
            try:
                told = {"value": getattr(account, name)(*arguments)}
            except Exception as error:
                told = {"failed": repr(error)}
            print(json.dumps(told), file=answers, flush=True)


if __name__ == "__main__":
    main()

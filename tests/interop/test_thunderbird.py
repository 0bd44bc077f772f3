"""Thunderbird: an account over TLS, folders by their use, IDLE, moves, marks, a search on the server, mail it sends."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.interop.looking import flags_of, wait_for
from tests.interop.thunderbird import Thunderbird, is_installed

MESSAGES = tuple(
    b"From: carol@example.net\r\nTo: user@example.test\r\nSubject: letter %s\r\n"
    b"Message-ID: <%s@example.net>\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Transfer-Encoding: 8bit\r\n\r\nThe text of \xc3\xa4 %s.\r\n" % (word, word, word)
    for word in (b"alpha", b"beta", b"gamma")
)

_SET_UP = """
Cc["@mozilla.org/security/x509certdb;1"].getService(Ci.nsIX509CertDB).addCertFromBase64(given.ca, "C,C,C");
const incoming = MailServices.accounts.createIncomingServer(given.address, "localhost", "imap");
incoming.port = given.imap;
incoming.socketType = Ci.nsMsgSocketType.SSL;
incoming.authMethod = Ci.nsMsgAuthMethod.passwordCleartext;
incoming.password = given.password;
const outgoing = MailServices.outgoingServer.createServer("smtp");
const smtp = outgoing.QueryInterface(Ci.nsISmtpServer);
smtp.hostname = "localhost";
smtp.port = given.smtp;
outgoing.socketType = Ci.nsMsgSocketType.SSL;
outgoing.authMethod = Ci.nsMsgAuthMethod.passwordCleartext;
outgoing.username = given.address;
outgoing.password = given.password;
const identity = MailServices.accounts.createIdentity();
identity.email = given.address;
identity.smtpServerKey = outgoing.key;
const account = MailServices.accounts.createAccount();
account.addIdentity(identity);
account.incomingServer = incoming;
MailServices.accounts.defaultAccount = account;
incoming.performExpand(null);
await until("the INBOX", () => server().rootFolder.containsChildNamed("INBOX") && folder("INBOX"));
await until("its mail", () => { folder("INBOX").updateFolder(null); return messages("INBOX").length == 3; });
return messages("INBOX").map(each => each.mime2DecodedSubject).sort();
"""

_READ = """
const uri = folder("INBOX").getUriForMsg(named("INBOX", given.subject));
const text = await new Promise((resolve, reject) => {
  let text = "";
  MailServices.messageServiceFromURI(uri).streamMessage(uri, {
    QueryInterface: ChromeUtils.generateQI(["nsIStreamListener"]),
    onStartRequest() {},
    onDataAvailable(request, stream, offset, count) {
      const input = Cc["@mozilla.org/scriptableinputstream;1"].createInstance(Ci.nsIScriptableInputStream);
      input.init(stream);
      text += input.readBytes(count);
    },
    onStopRequest(request, status) { status ? reject(new Error("status " + status)) : resolve(text); },
  }, null, null, false, "", false);
});
folder("INBOX").markMessagesRead([named("INBOX", given.subject)], true);
return text;
"""

_HEARS = """
for (let tries = 0; tries < 80 && !named("INBOX", given.subject); tries++) await sleep(100);
return Boolean(named("INBOX", given.subject));
"""

_LOOKS = """
folder("INBOX").updateFolder(null);
await until("its mail", () => named("INBOX", given.subject));
"""

_FILE = """
const copy = (subject, to, isMove) => finished(listener => MailServices.copy.copyMessages(
  folder("INBOX"), [named("INBOX", subject)], folder(to), isMove, listener, null, false));
server().rootFolder.createSubfolder("Arbeit", null);
await until("the new folder", () => server().rootFolder.containsChildNamed("Arbeit"));
folder("Arbeit").createSubfolder("T\u00e4glich", null);
await until("the folder in it", () => folder("Arbeit").containsChildNamed("T\u00e4glich"));
await copy("letter alpha", "Arbeit/T\u00e4glich", true);
await copy("letter beta", "Arbeit", false);
const inbox = folder("INBOX"), beta = named("INBOX", "letter beta");
inbox.markMessagesFlagged([beta], true);
inbox.addKeywordsToMessages([beta], "$label1");
inbox.deleteMessages([named("INBOX", "letter gamma")], null, false, false, null, true);
await until("the INBOX to have one", () => messages("INBOX").length == 1);
"""

_SEARCH = """
const session = Cc["@mozilla.org/messenger/searchSession;1"].createInstance(Ci.nsIMsgSearchSession);
const term = session.createTerm();
term.attrib = Ci.nsMsgSearchAttrib.Body;
term.op = Ci.nsMsgSearchOp.Contains;
const value = term.value;
value.attrib = term.attrib;
value.str = given.text;
term.value = value;
session.appendTerm(term);
session.addScopeTerm(Ci.nsMsgSearchScope.onlineMail, folder("INBOX"));
const found = [];
await new Promise(resolve => {
  session.registerListener({
    QueryInterface: ChromeUtils.generateQI(["nsIMsgSearchNotify"]),
    onSearchHit(header) { found.push(header.mime2DecodedSubject); },
    onSearchDone() { resolve(); },
    onNewSearch() {},
  });
  session.search(null);
});
return found;
"""

_SEND = """
const { FileUtils } = ChromeUtils.importESModule("resource://gre/modules/FileUtils.sys.mjs");
const path = await IOUtils.createUniqueFile(PathUtils.tempDir, "letter.eml");
await IOUtils.writeUTF8(path, given.message);
const account = MailServices.accounts.accounts[0], identity = account.defaultIdentity;
identity.doFcc = true;
identity.fccFolderURI = folder("Sent").URI;
const fields = Cc["@mozilla.org/messengercompose/composefields;1"].createInstance(Ci.nsIMsgCompFields);
fields.from = fields.to = given.address;
fields.fcc = folder("Sent").URI;
const send = Cc["@mozilla.org/messengercompose/send;1"].createInstance(Ci.nsIMsgSend);
await new Promise((resolve, reject) => send.sendMessageFile(
  identity, account.key, fields, new FileUtils.File(path), true, false, Ci.nsIMsgCompDeliverMode.Now, null, {
    QueryInterface: ChromeUtils.generateQI(["nsIMsgSendListener"]),
    onStartSending() {}, onProgress() {}, onStatus() {}, onGetDraftFolderURI() {},
    onSendNotPerformed() {}, onTransportSecurityError() {},
    onStopSending(id, status) { status ? reject(new Error("status " + status)) : resolve(); },
  }, null, ""));
await until("the letter", () => { folder("INBOX").updateFolder(null); return named("INBOX", given.subject); });
"""


@pytest.fixture
def thunderbird(user, tmp_path: Path) -> Iterator[Thunderbird]:
    """With the account of the user, whose INBOX has MESSAGES."""
    if not is_installed():
        pytest.skip("thunderbird is not installed")
    user.receive(*MESSAGES)
    with Thunderbird(tmp_path) as program:
        subjects = program.run(
            _SET_UP,
            ca="".join(user.ca_file.read_text().split("-----")[2].split()),
            address=user.address,
            password=user.password,
            imap=user.port("imap", "tls"),
            smtp=user.port("smtp", "tls"),
        )
        assert subjects == ["letter alpha", "letter beta", "letter gamma"]
        yield program


def test_thunderbird_knows_folders_and_reads_mail(user, thunderbird: Thunderbird, other) -> None:
    """RFC 6154: what each folder is for. A message that was read is read for everybody."""
    uses = ("Inbox", "Drafts", "SentMail", "Trash", "Junk", "Archive")
    names = thunderbird.run(
        """
        const root = server().rootFolder, flag = use => Ci.nsMsgFolderFlags[use];
        await until("the folders", () => root.getFolderWithFlags(flag("Archive")));
        return given.uses.map(use => root.getFolderWithFlags(flag(use))?.name);
        """,
        uses=uses,
    )
    assert names == ["INBOX", "Drafts", "Sent", "Trash", "Junk", "Archive"]
    text = thunderbird.run(_READ, subject="letter beta")
    assert text.endswith("\r\n\r\nThe text of \u00c3\u00a4 beta.\r\n")  # one character an octet
    wait_for({"alpha": [], "beta": ["\\Seen"], "gamma": []}, lambda: flags_of(other, "INBOX"))


def test_thunderbird_hears_of_what_others_do(user, thunderbird: Thunderbird, other) -> None:
    """It asks for nothing: IDLE tells it (RFC 2177). A message that comes between its own commands it may overlook, and
    it does not always begin to idle; then it looks itself, and must hear of the next."""
    unheard = []
    for word in ("delta", "epsilon", "zeta", "eta"):
        user.receive(MESSAGES[0].replace(b"alpha", word.encode()))
        if thunderbird.run(_HEARS, subject=f"letter {word}"):
            break
        thunderbird.run(_LOOKS, subject=f"letter {word}")
        unheard.append(word)
    else:
        raise AssertionError(f"it never heard of new mail:\n{thunderbird.said_by_imap()}")
    other.select("INBOX")
    other.store("1:2", "+FLAGS", "(\\Answered)")
    other.store("3", "+FLAGS", "(\\Deleted)")
    other.expunge()
    seen = thunderbird.run(
        """
        await until("what was removed", () => !named("INBOX", "letter gamma"));
        const isReplied = header => Boolean(header.flags & Ci.nsMsgMessageFlags.Replied);
        await until("the marks", () => messages("INBOX").filter(isReplied).length == 2);
        return messages("INBOX").map(each => [each.mime2DecodedSubject, isReplied(each)]);
        """
    )
    assert sorted({tuple(each) for each in seen}) == [
        ("letter alpha", True),
        ("letter beta", True),
        *sorted((f"letter {each}", False) for each in (*unheard, word)),
    ]


def test_thunderbird_files_marks_and_deletes(user, thunderbird: Thunderbird, other) -> None:
    thunderbird.run(_FILE)
    wanted = {
        "INBOX": {"beta": ["$label1", "\\Flagged"]},
        "Trash": {"gamma": []},
        "Arbeit": {"beta": []},
        '"Arbeit/T&AOQ-glich"': {"alpha": []},
    }
    for name, letters in wanted.items():
        wait_for(letters, lambda name=name: flags_of(other, name))


def test_thunderbird_searches_on_the_server_and_sends(
    user, thunderbird: Thunderbird, other
) -> None:
    assert thunderbird.run(_SEARCH, text="TEXT OF \u00e4 GAMMA") == ["letter gamma"]
    message = (
        f"From: {user.address}\r\nTo: {user.address}\r\nSubject: a letter of mine\r\n"
        "Message-ID: <mine@example.test>\r\n\r\nHello\r\n"
    )
    thunderbird.run(_SEND, message=message, address=user.address, subject="a letter of mine")
    wait_for(True, lambda: "mine" in flags_of(other, "Sent"))

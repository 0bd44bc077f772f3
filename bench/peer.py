"""Postfix + Dovecot from Debian, configured for speed as their manuals advise, in a folder of their own.

Postfix: in_flow_delay 0 and LMTP concurrency (TUNING_README, qmgr); Dovecot: login processes in performance mode, LMTP
pre-forked, no indexing at delivery (manual, "Performance tuning"). Both sync each message before they answer, as they
do by default, and so does Pillarbox.
"""

import os
import pwd
import shutil
import subprocess
from pathlib import Path

from bench.process import Tree, make_certificate, wait_for_port
from bench.sink import host_address

SMTP_PORT = 12525
IMAP_PORT = 12143
POP3_PORT = 12110
IMAPS_PORT = 12993
SUBMISSION_PORT = 12587
DOMAIN = "example.test"

SINK_PORT = 15025
SINK_DNS_PORT = 15053
"""Of the hosts that relayed mail goes to (bench.sink)."""

_DOVECOT_PARTS = tuple(f"/usr/lib/dovecot/{name}" for name in ("imap", "pop3", "lmtp"))
"""Packages of their own in Debian."""
_FTS = Path("/usr/lib/dovecot/modules/lib21_fts_xapian_plugin.so")
_FTS_SETTINGS = """
mail_plugins = fts fts_xapian
plugin {
  fts = xapian
  fts_xapian = partial=3 full=20
  fts_autoindex = no
  fts_enforced = yes
}
service indexer-worker {
  vsz_limit = 2G
}
"""
"""As its own manual has them."""

SETTINGS = {
    "in_flow_delay": "0",
    "default_process_limit": "100",
    "smtpd_client_connection_count_limit": "0",
    "smtpd_client_connection_rate_limit": "0",
    "smtpd_peername_lookup": "no",
    "lmtp_destination_concurrency_limit": "20",
    "initial_destination_concurrency": "20",
    "lmtp_connection_cache_on_demand": "yes",
    "lmtp_destination_recipient_limit": "1",
    "qmgr_message_active_limit": "50000",
    "smtpd_recipient_restrictions": "reject_unauth_destination",
}
"""What differs from Postfix's defaults for speed; printed with the results."""


class PostfixDovecot:
    """The peer. Needs root, since both change users."""

    name = "Postfix + Dovecot"
    imaps = ("127.0.0.1", IMAPS_PORT)

    def __init__(
        self,
        folder: Path,
        accounts: int,
        mailbox_format: str,
        relay_domains: int = 0,
        *,
        has_fts: bool = False,
    ) -> None:
        """`has_fts`: Dovecot searches by its plugin fts_xapian, which makes an index when it is asked to."""
        if os.getuid() != 0:
            raise SystemExit("the peer needs root: Postfix and Dovecot change users")
        for program in ("postfix", "dovecot", *_DOVECOT_PARTS):
            if shutil.which(program) is None:
                raise SystemExit(
                    f"{program} is not installed; apt-get install postfix dovecot-imapd dovecot-pop3d dovecot-lmtpd"
                )
        self.folder = folder
        self.format = mailbox_format
        self.name = f"Postfix + Dovecot ({mailbox_format})"
        self._has_fts = has_fts
        if has_fts:
            if not _FTS.exists():
                raise SystemExit("dovecot-fts-xapian is not installed")
            self.name += ", fts_xapian"
        self._accounts = accounts
        self._relay_domains = relay_domains
        self._dovecot: subprocess.Popen[bytes] | None = None
        self.smtp = ("127.0.0.1", SMTP_PORT)
        self.submission = ("127.0.0.1", SUBMISSION_PORT)
        self.imap = ("127.0.0.1", IMAP_PORT)
        self.pop3 = ("127.0.0.1", POP3_PORT)

    def start(self) -> None:
        """Writes the configuration and starts both; returns when all ports answer."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        self._write_dovecot()
        self._write_postfix()
        self.start_again()

    def start_again(self) -> None:
        """Both, with what is there."""
        self._start_dovecot()
        self._postfix("start")
        wait_for_port(SMTP_PORT)

    def _start_dovecot(self) -> None:
        self._dovecot = subprocess.Popen(
            ["dovecot", "-F", "-c", str(self.folder / "dovecot.conf")],
            stderr=(self.folder / "dovecot.err").open("wb"),
        )
        for port in (IMAP_PORT, POP3_PORT):
            wait_for_port(port)

    def restart(self) -> None:
        """Dovecot anew, with what is there."""
        self._stop_dovecot()
        self._start_dovecot()

    def stop(self) -> None:
        try:
            self._postfix("stop")
        finally:
            self._stop_dovecot()

    def _stop_dovecot(self) -> None:
        if self._dovecot is not None:
            self._dovecot.terminate()
            self._dovecot.wait(20)

    def trees(self) -> list[Tree]:
        """Whose CPU and memory counts."""
        master = int((self.folder / "spool/pid/master.pid").read_text().strip())
        assert self._dovecot is not None
        return [Tree(master), Tree(self._dovecot.pid)]

    def is_quiet(self) -> bool:
        """Whether the queue is empty."""
        queues = (self.folder / "spool" / name for name in ("incoming", "active", "maildrop"))
        return not any(True for queue in queues for path in queue.rglob("*") if path.is_file())

    def _postfix(self, command: str) -> None:
        subprocess.run(
            ["postfix", "-c", str(self.folder / "postfix"), command],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _write_dovecot(self) -> None:
        conf = self.folder
        owner = pwd.getpwnam("mail")
        homes = conf / "mail"
        homes.mkdir(exist_ok=True)
        os.chown(homes, owner.pw_uid, owner.pw_gid)
        users = [
            f"user{number}@{DOMAIN}:{{PLAIN}}password:{owner.pw_uid}:{owner.pw_gid}::{homes}/user{number}"
            for number in range(self._accounts)
        ]
        (conf / "users").write_text("\n".join(users) + "\n")
        make_certificate(conf)
        location = "maildir:~/Maildir" if self.format == "maildir" else "sdbox:~/sdbox"
        (conf / "dovecot.conf").write_text(f"""
protocols = imap pop3 lmtp
base_dir = {conf}/run
state_dir = {conf}/state
log_path = {conf}/dovecot.log
instance_name = bench
listen = 127.0.0.1
ssl = yes
ssl_cert = <{conf}/cert.pem
ssl_key = <{conf}/key.pem
disable_plaintext_auth = no
mail_location = {location}
mail_uid = {owner.pw_uid}
mail_gid = {owner.pw_gid}
first_valid_uid = 1
first_valid_gid = 1
auth_mechanisms = plain
auth_cache_size = 10M
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {conf}/users
}}
userdb {{
  driver = passwd-file
  args = username_format=%u {conf}/users
}}
mail_max_userip_connections = 0
service imap-login {{
  service_count = 0
  client_limit = 2000
  process_min_avail = 2
  inet_listener imap {{
    port = {IMAP_PORT}
  }}
  inet_listener imaps {{
    port = {IMAPS_PORT}
  }}
}}
service pop3-login {{
  service_count = 0
  client_limit = 2000
  process_min_avail = 2
  inet_listener pop3 {{
    port = {POP3_PORT}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
service imap {{
  process_limit = 2048
  process_min_avail = 2
}}
service anvil {{
  client_limit = 5000
}}
service auth {{
  client_limit = 5000
  unix_listener {conf}/spool/private/auth {{
    mode = 0666
  }}
}}
service lmtp {{
  process_min_avail = 10
  service_count = 0
  unix_listener {conf}/spool/private/dovecot-lmtp {{
    mode = 0666
  }}
}}
protocol lmtp {{
  postmaster_address = postmaster@{DOMAIN}
  auth_username_format = %Lu
}}
""")
        if self._has_fts:
            with (conf / "dovecot.conf").open("a") as main:
                main.write(_FTS_SETTINGS)
        (conf / "spool/private").mkdir(parents=True, exist_ok=True)

    def _write_postfix(self) -> None:
        conf = self.folder / "postfix"
        conf.mkdir(exist_ok=True)
        spool = self.folder / "spool"
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        postfix = pwd.getpwnam("postfix")
        os.chown(data, postfix.pw_uid, postfix.pw_gid)
        os.chown(spool / "private", postfix.pw_uid, 0)
        speed = "\n".join(f"{name} = {value}" for name, value in SETTINGS.items())
        (conf / "main.cf").write_text(f"""
compatibility_level = 3.6
queue_directory = {spool}
data_directory = {data}
maillog_file = {self.folder}/postfix.log
maillog_file_prefixes = {self.folder}
myhostname = mail.{DOMAIN}
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.2/32
virtual_mailbox_domains = {DOMAIN}
virtual_mailbox_maps = texthash:{conf}/mailboxes
virtual_transport = lmtp:unix:private/dovecot-lmtp
alias_maps =
message_size_limit = 10240000
{speed}
""")
        if self._relay_domains:
            (conf / "transport").write_text(
                "".join(
                    f"d{number}.example smtp:[{host_address(number)}]:{SINK_PORT}\n"
                    for number in range(self._relay_domains)
                )
            )
            with (conf / "main.cf").open("a") as main:
                main.write(f"transport_maps = texthash:{conf}/transport\n")
                main.write("mynetworks = 127.0.0.1/32\nsmtp_tls_security_level = may\n")
                main.write("smtpd_recipient_restrictions = permit_mynetworks, reject\n")
        (conf / "mailboxes").write_text(
            "".join(f"user{number}@{DOMAIN} x\n" for number in range(self._accounts))
        )
        stock = Path("/usr/share/postfix/master.cf.dist").read_text()
        lines = []
        for line in stock.splitlines():
            if line.startswith("smtp      inet"):
                line = f"127.0.0.1:{SMTP_PORT} inet n - n - - smtpd"
            elif line.startswith("postlog   unix-dgram"):
                line = "postlog unix-dgram n - n - 1 postlogd"
            elif line and line[0].isalpha() and len(line.split()) >= 8:
                fields = line.split(None, 7)
                fields[4] = "n"  # no chroot
                line = " ".join(fields)
            lines.append(line)
        lines.append(f"127.0.0.1:{SUBMISSION_PORT} inet n - n - - smtpd")
        options = {
            "smtpd_tls_security_level": "encrypt",
            "smtpd_tls_cert_file": f"{self.folder}/cert.pem",
            "smtpd_tls_key_file": f"{self.folder}/key.pem",
            "smtpd_sasl_auth_enable": "yes",
            "smtpd_sasl_type": "dovecot",
            "smtpd_sasl_path": "private/auth",
            "smtpd_recipient_restrictions": "permit_sasl_authenticated,reject",
        }
        lines += [f"  -o {name}={value}" for name, value in options.items()]
        (conf / "master.cf").write_text("\n".join(lines) + "\n")

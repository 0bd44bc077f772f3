"""`pillarbox config example`: all settings with their defaults and what they mean. A test keeps it true."""

EXAMPLE = """\
# Pillarbox. Every setting is shown with its default, but hostname, data_dir and [listen], which you choose.
# Paths are relative to the folder of this file.

# The name of this machine as others know it: it greets with it, and the certificate must have it.
hostname = "mail.example.org"

# Where everything is kept: mail, accounts, keys. Readable by the server's user only.
data_dir = "/var/lib/pillarbox"

# The user of this machine that the server becomes when root starts it; data_dir must be this user's. Commands of root
# act as this user, too. Empty: whoever starts it.
user = ""

# Server processes that share the work; 0: one for each core. One takes the least CPU for a message, and some 40 MB of
# memory; several get more done where many sessions are busy at once.
workers = 1

# What the lines of the log look like: "text", or "json" with a field for each value.
log_format = "text"

# Addresses and ports. A missing or empty list: that service is off.
[listen]
smtp        = ["0.0.0.0:25", "[::]:25"]     # mail from other servers
submission  = ["0.0.0.0:587", "[::]:587"]   # mail from users, STARTTLS
submissions = ["0.0.0.0:465", "[::]:465"]   # mail from users, TLS from the start
lmtp        = []                            # mail for accounts here from a mail server of yours: no login, no relay
imap        = ["0.0.0.0:143", "[::]:143"]   # STARTTLS
imaps       = ["0.0.0.0:993", "[::]:993"]
pop3        = ["0.0.0.0:110", "[::]:110"]   # STLS
pop3s       = ["0.0.0.0:995", "[::]:995"]
metrics     = []                            # /metrics for Prometheus, /healthz, /readyz by HTTP, without a password:
                                            # for this machine only, like "127.0.0.1:9090"

# PEM files, the certificate followed by those that signed it; new ones are taken up within some seconds. All empty:
# a private CA (data_dir/tls/ca.pem) signs a certificate for hostname, localhost, 127.0.0.1 and ::1.
[tls]
certificate = ""
key         = ""
# Further ones, for clients that ask for the names in them; all others get the first. A list like
# [{ certificate = "shop.pem", key = "shop-key.pem" }, { certificate = "club.pem", key = "club-key.pem" }]
certificates = []

# true: the first certificate comes from a CA by ACME (Let's Encrypt, unless another one is named), with whose terms of
# service you agree thereby; it is renewed at two thirds of its lifetime. Until it is there, the private CA's is shown.
acme           = false
acme_names     = []    # that it shall have; empty: the hostname
acme_directory = "https://acme-v02.api.letsencrypt.org/directory"
acme_ca_file   = ""    # PEM: who signed the certificate of a CA of your own
acme_contact   = ""    # a mail address for the CA
# How the CA sees that the names are yours: "http-01" (it asks port 80), "tls-alpn-01" (port 443), both answered only
# during an order, on acme_listen; or "dns-01", for which acme_hook is called with "add" or "remove", the name of a TXT
# record, and its value.
acme_challenge = "http-01"
acme_listen    = []    # empty: port 80 or 443 of all addresses; others if something passes connections on
acme_hook      = ""
acme_dns_wait  = "30s" # from the last "add" until the CA may look
# Who signs client certificates (PEM): then clients may log in by such a one (EXTERNAL), whose subjectAltName has the
# address of their account. Empty: none are asked for.
client_ca   = ""

[smtp]
# Octets of the largest message that is taken in.
max_message_size = 10240000
# Hosts that may send to anybody through port 25 without a login, like printers: "192.0.2.7", "192.0.2.0/24".
trusted_networks = []
# From one address on port 25, trusted ones apart; 0: no limit. More are told to come back later.
connections_per_minute = 0
messages_per_minute    = 0
# Clients (filters, proxies) that may say by XCLIENT for whom they speak.
xclient_from = []
# How long strangers wait for the greeting on port 25; "1s" keeps many spam programs out, since they do not wait.
greeting_delay = "0s"
# From the sixth error of a client on, each answer comes so much later than the one before, at most 5 s; "0s": never.
error_delay = "1s"

# To how many recipients at other hosts one account may send; 0: no limit. What is more is held in the queue for
# you to look at, since it may be a stolen password. `pillarbox account limits` sets others for one account.
[submission]
recipients_per_hour = 500
recipients_per_day  = 2000
# Messages that one account may send in a minute; more are refused for the moment.
messages_per_minute = 0

# Mail to other hosts.
[outbound]
smarthost               = ""    # "host:port"; empty: straight to the recipients' servers
smarthost_username      = ""
smarthost_password_file = ""
mx_port                 = 25    # another value is for test networks

# How long mail waits until its sender is told of the delay ("0s": never), and until it bounces.
warn_after    = "4h"
give_up_after = "5d"
# An address that gets a copy of each bounce, without the text of the message, like "postmaster@example.org".
copy_bounces_to = ""

# Domains whose mail goes another way; "*.example.com" is for all domains below example.com. Examples:
#
# [outbound.routes."example.com"]
# host           = "relay.example.org:587"  # empty: as the DNS says
# protocol       = "smtp"                   # or "lmtp"
# tls            = "verified"               # or "offered" (the default: used where it is offered), "never"
# username       = ""
# password_file  = ""
# from_strangers = false                    # true: take mail for this domain from everybody
[outbound.routes]

[dns]
# "ip:port" of DNS servers; empty: the system's.
servers = []

[security]
# true: passwords may pass unencrypted, on port 25 too. Only for a laboratory: every start warns.
allow_cleartext_login = false
# Addresses and networks, like that of your office, whose failed logins have no consequences, and that are never banned.
never_throttled = []
# Connections that one client address may have at once, over all services.
connections_per_address = 200
# Proxies whose connections begin with a PROXY header (version 1 or 2) that says who the client is.
proxy_protocol_from = []

# Access tokens instead of passwords (OAUTHBEARER, XOAUTH2). `jwks` or `introspection_url` switches them on.
[oauth]
# Who makes the tokens ("iss"), and for whom they must be ("aud").
issuer   = ""
audience = ""
# The issuer's public keys, a file or an https URL; or where it is asked what a token is worth (RFC 7662), and as whom.
jwks               = ""
introspection_url  = ""
client_id          = ""
client_secret_file = ""
# Which claim has the address of the account, and which scope a token must have (empty: none).
user_claim = "email"
scope      = ""
# How far clocks may differ.
clock_skew = "60s"
# Told to clients whose token was refused: the URL of the issuer's OpenID configuration.
configuration_url = ""

# Who verifies passwords: "built-in", "ldap", "http" (a web service of yours), or "python" (a class of yours).
# Accounts stay in the built-in directory: `pillarbox account add` (without a password then), or create_accounts.
[directory]
kind = "built-in"
# Make an account at the first login of somebody whose domain is here. Until then there is no mail for it.
create_accounts = false
# "ldaps://ldap.example.org", or "https://login.example.org/check".
url = ""
# PEM: who signed the certificate of the LDAP server or web service, in place of those whom the machine trusts.
ca_file = ""
# LDAP: encryption, who searches, where, for what, and which attribute has the address of the account.
start_tls          = false
bind_dn            = ""
bind_password_file = ""
base               = ""
filter             = "(mail={user})"
address_attribute  = "mail"
# The web service: a file with the bearer token that it wants from us.
token_file = ""
# A class: "package.module:Class", and what it is given.
class    = ""
settings = {}

[imap]
# What IMAP clients see between the parts of a mailbox name: "/" or ".".
hierarchy_separator = "/"
# "LITERAL+": clients may send messages without asking first; "LITERAL-": only what has at most 4096 octets.
literals            = "LITERAL+"
# false: one connection, one login. For servers behind a proxy that checks logins by itself.
unauthenticate      = true

[pop3]
# How long an account must wait from one login to the next, at most 1d; "0s": not at all.
login_delay = "0s"
# Clients are told that mail is kept for so many days at least; 0: for ever. Pillarbox itself removes nothing.
expire_days = 0
# false: clients are not offered headers in UTF-8, and get them in ASCII. Evolution needs this.
utf8        = true

# `pillarbox sendmail`, for programs on this machine.
[sendmail]
# Where it leaves messages for the server. Empty: within data_dir, for root and the server's user only; for all users
# of the machine, name a folder that they can reach, like "/var/spool/pillarbox".
drop_dir      = ""
# Users who may send as anybody, like "www-data"; root and the server's user always may.
trusted_users = []

# What becomes of each message, refused ones too, for `pillarbox explain`: addresses and replies, never texts.
[explain]
enabled   = true
keep_days = 14
# Octets of the files (data_dir/trace-*.db) together; the oldest goes first.
max_size  = 268435456

[doctor]
# Lists of spam senders that `pillarbox doctor --block-lists` asks about this host's addresses. Nothing else asks them.
block_lists = ["zen.spamhaus.org", "bl.spamcop.net"]
"""

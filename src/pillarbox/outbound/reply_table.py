"""The reply translator's data: causes, advice, and how known servers say it.

Rows of one operator's texts come before general texts. A pattern is searched in lower-case text. Texts are as seen in
2024 to 2026.
"""

from enum import Enum


class Cause(Enum):
    """What is behind a reply, in one sentence for people."""

    NO_MAILBOX = "There is no such mailbox."
    NO_DOMAIN = "The domain of the address does not exist, or takes no mail."
    MAILBOX_DISABLED = "The mailbox exists, but is disabled."
    MAILBOX_FULL = "The mailbox is full."
    TOO_BIG = "The message is too large for the receiving server."
    GREYLISTED = (
        "The receiving server makes strangers wait before it takes their mail (greylisting)."
    )
    RATE_LIMITED = "The receiving server takes no more mail from us for now."
    LISTED = "Our address is on a block list that the receiving server uses."
    BLOCKED = "The receiving server has blocked our address or domain."
    POLICY = "The receiving server refuses the message by rules of its own."
    SPAM = "The receiving server took the message for spam."
    MALWARE = "The receiving server found something dangerous in the message."
    NO_REVERSE_DNS = "Our address has no fitting name in the DNS (PTR record)."
    NOT_AUTHENTICATED = "The message failed the receiver's checks of its sender (SPF, DKIM, DMARC)."
    SENDER_REJECTED = "The receiving server does not accept the sender address."
    RELAY_DENIED = "The receiving server does not think that it serves this domain."
    NOT_ALLOWED = "The recipient does not take mail from this sender."
    AUTH_REQUIRED = "The server wants a login that we did not give, or did not accept ours."
    TLS_REQUIRED = "The server takes mail over encrypted connections only."
    LOOP = "The message goes round in circles between servers."
    CONTENT = "The receiving server does not accept the form of the message."
    NOT_INTERNATIONAL = "The receiving server cannot take mail with non-ASCII addresses."
    TOO_MANY_RECIPIENTS = "The message had more recipients than the server takes at a time."
    SERVER_TROUBLE = "The receiving server has a problem of its own."
    DNS_TROUBLE = "The receiving server, or ours, could not look something up in the DNS."
    UNREACHABLE = "The receiving server could not be reached, or broke off the connection."
    RELAY_UNREACHABLE = "The server that our mail has to pass could not be reached."


class Who(Enum):
    """Who can do something about it."""

    SENDER = "sender"
    RECIPIENT = "recipient"
    ADMIN = "admin"
    """Ours."""
    NOBODY = "nobody"
    """Time will tell: it is tried again."""


ADVICE: dict[Cause, tuple[Who, str]] = {
    Cause.NO_MAILBOX: (
        Who.SENDER,
        "Check the spelling of the address, or ask the recipient for the right one.",
    ),
    Cause.NO_DOMAIN: (Who.SENDER, "Check the spelling of the part of the address behind the @."),
    Cause.MAILBOX_DISABLED: (Who.SENDER, "Reach the recipient in another way."),
    Cause.MAILBOX_FULL: (
        Who.RECIPIENT,
        "Tell the recipient in another way, and send the message again later.",
    ),
    Cause.TOO_BIG: (Who.SENDER, "Send it in smaller parts, or share a link to large files."),
    Cause.GREYLISTED: (Who.NOBODY, "Nothing: the next attempts will get through."),
    Cause.RATE_LIMITED: (
        Who.NOBODY,
        "Nothing: it is tried again, more slowly. If it lasts, the admin should see who sends so much.",
    ),
    Cause.LISTED: (
        Who.ADMIN,
        "The admin should find out why the server is listed (a stolen account?), and then ask the list to remove it.",
    ),
    Cause.BLOCKED: (
        Who.ADMIN,
        "The admin should look for abuse from this server, and then contact the receiver's postmaster.",
    ),
    Cause.POLICY: (
        Who.RECIPIENT,
        "Ask the recipient in another way; the recipient's admin can tell which rule it was.",
    ),
    Cause.SPAM: (
        Who.SENDER,
        "Send a plainer message with fewer links. If all messages are refused, the admin should check SPF, DKIM, DMARC"
        " and the reputation of the server.",
    ),
    Cause.MALWARE: (
        Who.SENDER,
        "Check the computer and the attachments, and share files in another way.",
    ),
    Cause.NO_REVERSE_DNS: (
        Who.ADMIN,
        "The admin should have the provider set a PTR record whose name leads back to the server's address.",
    ),
    Cause.NOT_AUTHENTICATED: (
        Who.ADMIN,
        "The admin should publish the SPF, DKIM and DMARC records that `pillarbox dns show` prints. Forwarded mail may"
        " fail these checks through no fault of the sender.",
    ),
    Cause.SENDER_REJECTED: (
        Who.ADMIN,
        "The admin should check that the sender's domain exists in the DNS and takes mail.",
    ),
    Cause.RELAY_DENIED: (
        Who.RECIPIENT,
        "The recipient's admin should check the MX records; ours, a route that leads there.",
    ),
    Cause.NOT_ALLOWED: (Who.RECIPIENT, "Ask the recipient in another way to allow your address."),
    Cause.AUTH_REQUIRED: (
        Who.ADMIN,
        "The admin should check the smarthost's user name and password, and whether it is the right server and port.",
    ),
    Cause.TLS_REQUIRED: (
        Who.ADMIN,
        "The admin should check the rules for TLS towards this domain.",
    ),
    Cause.LOOP: (
        Who.ADMIN,
        "The admins should check aliases, forwards and MX records of the recipient's domain.",
    ),
    Cause.CONTENT: (
        Who.SENDER,
        "Send it in another form, such as plain text with usual attachments.",
    ),
    Cause.NOT_INTERNATIONAL: (Who.SENDER, "Use an address of plain letters, if there is one."),
    Cause.TOO_MANY_RECIPIENTS: (Who.NOBODY, "Nothing: the others are sent in another go."),
    Cause.SERVER_TROUBLE: (
        Who.NOBODY,
        "Nothing but wait; if it lasts, the recipient's admin can help.",
    ),
    Cause.DNS_TROUBLE: (
        Who.NOBODY,
        "Nothing but wait; if it lasts, both admins should check the DNS.",
    ),
    Cause.UNREACHABLE: (
        Who.NOBODY,
        "Nothing but wait; if it lasts, the recipient's admin can help.",
    ),
    Cause.RELAY_UNREACHABLE: (
        Who.ADMIN,
        "The admin should look whether it runs, and at its name and port in outbound.routes.",
    ),
}

Row = tuple[str, Cause, str]
"""Pattern; cause; advice in place of the usual one for it, or ""."""

_GMAIL_AUTH = (
    "The admin should publish SPF and DKIM records for the sender's domain (`pillarbox dns show` prints them); Gmail"
    " wants one of them to pass at least."
)

GMAIL: tuple[Row, ...] = (
    (r"5\.7\.26.*(?:unauthenticated|authenticat|dmarc)", Cause.NOT_AUTHENTICATED, _GMAIL_AUTH),
    (r"[45]\.7\.(?:26|27|30|32)\b.*g(?:smtp|oogle)", Cause.NOT_AUTHENTICATED, _GMAIL_AUTH),
    (r"[45]\.7\.(?:23|25)\b.*(?:ptr|reverse dns)", Cause.NO_REVERSE_DNS, ""),
    (r"[45]\.7\.29\b.*(?:tls|encrypt)", Cause.TLS_REQUIRED, ""),
    (r"4\.7\.28\b.*unusual rate|unusual rate of unsolicited mail", Cause.RATE_LIMITED, ""),
    (r"likely unsolicited mail|likely suspicious due to the very low reputation", Cause.SPAM, ""),
    (
        r"the email account that you tried to reach is (?:disabled|inactive)",
        Cause.MAILBOX_DISABLED,
        "",
    ),
    (r"the email account that you tried to reach does not exist", Cause.NO_MAILBOX, ""),
    (
        r"(?:inbox|account) (?:that you tried to reach )?is (?:out of storage|over quota)",
        Cause.MAILBOX_FULL,
        "",
    ),
    (r"receiving mail (?:at a rate|too quickly)", Cause.RATE_LIMITED, ""),
    (
        r"message was blocked because its content presents a potential security issue",
        Cause.MALWARE,
        "",
    ),
)

MICROSOFT: tuple[Row, ...] = (
    (r"5\.4\.1 recipient address rejected: access denied", Cause.NO_MAILBOX, ""),
    (r"resolver\.adr\.\w*notfound|5\.1\.10 .*recipient (?:\S+ )?not found", Cause.NO_MAILBOX, ""),
    (r"resolver\.rst\.(?:notauthorized|sendersnotallowed|restricted)", Cause.NOT_ALLOWED, ""),
    (r"5\.7\.(?:124|129|133|134)\b", Cause.NOT_ALLOWED, ""),
    (
        r"5\.7\.(?:509|515)\b",
        Cause.NOT_AUTHENTICATED,
        "The admin should make SPF, DKIM and DMARC of the sender's domain pass: Microsoft demands all three of large"
        " senders, and obeys a DMARC policy of reject.",
    ),
    (r"5\.7\.(?:23|57) .*spf|failed due to spf", Cause.NOT_AUTHENTICATED, ""),
    (
        r"\(s3140\)|\(s3150\)|block list \(s\d+\)|5\.7\.(?:606|607|608|609|610|511)\b|banned sending ip",
        Cause.BLOCKED,
        "The admin should look for abuse, then ask Microsoft to remove the block: https://sender.office.com or, for"
        " Outlook.com and Hotmail, https://olcsupport.office.com.",
    ),
    (r"5\.7\.(?:750|708)\b", Cause.BLOCKED, ""),
    (
        r"4\.7\.(?:500|650)\b|as\(\d+\).*server busy|\(s77[15-9]\)|rate limited.*reputation",
        Cause.RATE_LIMITED,
        "",
    ),
    (
        r"5\.2\.122\b|recipient.*exceeded.*limit of messages|receiving email at a rate",
        Cause.RATE_LIMITED,
        "",
    ),
    (r"hop count exceeded|5\.4\.14\b", Cause.LOOP, ""),
    (r"4\.3\.2 (?:stoppedconnecting|storedrv)|storedrv\.deliver", Cause.SERVER_TROUBLE, ""),
    (
        r"mailbox unavailable or the mailbox has been disabled|storequota|submissionquota",
        Cause.MAILBOX_DISABLED,
        "",
    ),
)

YAHOO: tuple[Row, ...] = (
    (
        r"\[ts0[1-4]\]|temporarily deferred due to (?:unexpected volume|user complaints)",
        Cause.RATE_LIMITED,
        "Nothing at once: it is tried again, more slowly. The admin should see whether users of Yahoo complained, and"
        " join its Complaint Feedback Loop.",
    ),
    (r"\[(?:ph01|bl2[1-3]|iph\d+)\]", Cause.BLOCKED, ""),
    (r"\[(?:gl01|pt\d+)\]", Cause.GREYLISTED, ""),
    (r"554 message not allowed - \[?5\w+|not accepted for policy reasons.*yahoo", Cause.SPAM, ""),
    (
        r"requested mail action not taken: mailbox unavailable|dd (?:this|requested).* mailbox",
        Cause.NO_MAILBOX,
        "",
    ),
    (r"this user doesn't have a \S+ account", Cause.NO_MAILBOX, ""),
)

POSTFIX: tuple[Row, ...] = (
    (r"greylist|grey-list|graylist|try again in \d+ ?(?:s|min)", Cause.GREYLISTED, ""),
    (r"client host rejected: cannot find your (?:reverse )?hostname", Cause.NO_REVERSE_DNS, ""),
    (r"(?:client host|service unavailable).*blocked using|blocked using \S+", Cause.LISTED, ""),
    (r"sender address rejected: domain (?:not found|of sender address)", Cause.SENDER_REJECTED, ""),
    (r"sender address rejected", Cause.SENDER_REJECTED, ""),
    (
        r"helo command rejected: (?:host not found|need fully-qualified)",
        Cause.NO_REVERSE_DNS,
        "The admin should set `hostname` to a full name that leads to the server's address.",
    ),
    (r"recipient address rejected: (?:domain not found|unverified)", Cause.NO_DOMAIN, ""),
    (
        r"recipient address rejected: (?:user unknown|undeliverable)|user unknown in \w+",
        Cause.NO_MAILBOX,
        "",
    ),
    (r"relay access denied", Cause.RELAY_DENIED, ""),
    (r"too many recipients", Cause.TOO_MANY_RECIPIENTS, ""),
    (r"mail for \S+ loops back to myself|too many hops", Cause.LOOP, ""),
    (r"message size \d* ?exceeds|message (?:file )?too big|size limit exceeded", Cause.TOO_BIG, ""),
    (
        r"insufficient system storage|insufficient disk space|queue file write error",
        Cause.SERVER_TROUBLE,
        "",
    ),
    (r"client host rejected: access denied", Cause.BLOCKED, ""),
    (r"must issue a starttls command first", Cause.TLS_REQUIRED, ""),
    (
        r"error: too many (?:connections|messages)|too much mail from",
        Cause.RATE_LIMITED,
        "",
    ),
)

EXIM: tuple[Row, ...] = (
    (r"relay not permitted", Cause.RELAY_DENIED, ""),
    (r"unrouteable address|unroutable address", Cause.NO_MAILBOX, ""),
    (
        r"sender verify (?:failed|fail)|verification failed for|could not complete sender verify",
        Cause.SENDER_REJECTED,
        "",
    ),
    (r"retry timeout exceeded|retry time not reached", Cause.UNREACHABLE, ""),
    (r"administrative prohibition", Cause.BLOCKED, ""),
    (r"lines? (?:is |are )?too long|maximum allowed line length|header syntax", Cause.CONTENT, ""),
    (
        r"synchronization error|temporary local problem|temporarily unable to|local error in processing",
        Cause.SERVER_TROUBLE,
        "",
    ),
)

GENERAL: tuple[Row, ...] = (
    (
        r"spamhaus|barracuda(?:central)?|spamcop|sorbs|uceprotect|dnsbl|rbl\b|blacklist|blocklist|block list",
        Cause.LISTED,
        "",
    ),
    (r"\b(?:ptr|rdns|reverse dns|reverse lookup)\b", Cause.NO_REVERSE_DNS, ""),
    (r"\bdmarc\b|\bspf\b|\bdkim\b", Cause.NOT_AUTHENTICATED, ""),
    (r"virus|malware|phish|infected", Cause.MALWARE, ""),
    (
        r"quota|mailbox (?:is )?full|over the limit|storage exceeded|insufficient space in mailbox",
        Cause.MAILBOX_FULL,
        "",
    ),
    (
        r"(?:account|mailbox|user).{0,40}(?:disabled|suspended|inactive|deactivated|locked)",
        Cause.MAILBOX_DISABLED,
        "",
    ),
    (
        r"(?:no such|unknown|invalid|non-?existent) (?:user|recipient|mailbox|address|account|local part)",
        Cause.NO_MAILBOX,
        "",
    ),
    (
        r"(?:user|recipient|mailbox|address|account).{0,60}(?:unknown|not found|not exist|doesn't exist|no longer)",
        Cause.NO_MAILBOX,
        "",
    ),
    (
        r"does not like recipient|no mailbox here|mailbox not found|not a valid (?:mailbox|recipient)",
        Cause.NO_MAILBOX,
        "",
    ),
    (r"\bspam|unsolicited|junk|bulk mail", Cause.SPAM, ""),
    (
        r"rate limit|too many (?:messages|connections|concurrent)|throttl|slow down|exceeded.{0,30}(?:rate|per hour)",
        Cause.RATE_LIMITED,
        "",
    ),
    (
        r"poor reputation|bad reputation|low reputation|\bblocked\b|\bbanned\b|denied by policy",
        Cause.BLOCKED,
        "",
    ),
    (
        r"relay(?:ing)? (?:is )?(?:denied|prohibited|not allowed)|not (?:a )?local (?:host|domain)",
        Cause.RELAY_DENIED,
        "",
    ),
    (
        r"authentication (?:is )?required|not authenticated|credentials invalid|username and password not accepted",
        Cause.AUTH_REQUIRED,
        "",
    ),
    (r"smtputf8|internationali[sz]ed", Cause.NOT_INTERNATIONAL, ""),
    (
        r"timed? ?out|connection (?:was )?(?:lost|reset|refused)|cannot connect|no route to host",
        Cause.UNREACHABLE,
        "",
    ),
)

_SMARTHOST = (
    "The admin should look whether it runs, and at its name and port in outbound.smarthost."
)

OWN: tuple[Row, ...] = (
    (r"^451 4\.4\.[13] (?:cannot connect to )?the smarthost ", Cause.RELAY_UNREACHABLE, _SMARTHOST),
    (r"^451 4\.4\.[13] (?:cannot connect to )?the configured host ", Cause.RELAY_UNREACHABLE, ""),
    (r"^451 4\.4\.1 cannot connect to ", Cause.UNREACHABLE, ""),
)
"""Our own words, first of all: names of hosts are in them, such as spam.example.com."""

ROWS = (*OWN, *GMAIL, *MICROSOFT, *YAHOO, *POSTFIX, *EXIM, *GENERAL)

BY_CODE: dict[str, Cause] = {
    # RFC 3463 §3.2
    "1.0": Cause.NO_MAILBOX,
    "1.1": Cause.NO_MAILBOX,
    "1.2": Cause.NO_DOMAIN,
    "1.3": Cause.NO_MAILBOX,
    "1.4": Cause.NO_MAILBOX,
    "1.6": Cause.NO_MAILBOX,
    "1.7": Cause.SENDER_REJECTED,
    "1.8": Cause.SENDER_REJECTED,
    "1.10": Cause.NO_DOMAIN,  # RFC 7505 §4.1
    # RFC 3463 §3.3
    "2.1": Cause.MAILBOX_DISABLED,
    "2.2": Cause.MAILBOX_FULL,
    "2.3": Cause.TOO_BIG,
    # RFC 3463 §3.4
    "3.0": Cause.SERVER_TROUBLE,
    "3.1": Cause.SERVER_TROUBLE,
    "3.2": Cause.SERVER_TROUBLE,
    "3.4": Cause.TOO_BIG,
    "3.5": Cause.SERVER_TROUBLE,
    # RFC 3463 §3.5
    "4.0": Cause.UNREACHABLE,
    "4.1": Cause.UNREACHABLE,
    "4.2": Cause.UNREACHABLE,
    "4.3": Cause.DNS_TROUBLE,
    "4.4": Cause.NO_DOMAIN,
    "4.5": Cause.RATE_LIMITED,
    "4.6": Cause.LOOP,
    "4.7": Cause.UNREACHABLE,
    # RFC 3463 §3.6
    "5.3": Cause.TOO_MANY_RECIPIENTS,
    # RFC 3463 §3.7
    "6.0": Cause.CONTENT,
    "6.1": Cause.CONTENT,
    "6.2": Cause.CONTENT,
    "6.3": Cause.CONTENT,
    "6.5": Cause.CONTENT,
    "6.7": Cause.NOT_INTERNATIONAL,  # RFC 6531 §4.1
    # RFC 3463 §3.8
    "7.1": Cause.POLICY,
    "7.2": Cause.NOT_ALLOWED,
    "7.4": Cause.TLS_REQUIRED,
    # RFC 4954 §6
    "7.0": Cause.POLICY,
    "7.8": Cause.AUTH_REQUIRED,
    "7.9": Cause.AUTH_REQUIRED,
    "7.11": Cause.TLS_REQUIRED,
    # RFC 7372 §3
    "7.20": Cause.NOT_AUTHENTICATED,
    "7.21": Cause.NOT_AUTHENTICATED,
    "7.22": Cause.NOT_AUTHENTICATED,
    "7.23": Cause.NOT_AUTHENTICATED,
    "7.24": Cause.NOT_AUTHENTICATED,
    "7.25": Cause.NO_REVERSE_DNS,
    "7.26": Cause.NOT_AUTHENTICATED,
    "7.27": Cause.SENDER_REJECTED,  # RFC 7505 §4.2
}

BY_REPLY: dict[int, Cause] = {
    # RFC 5321 §4.2.3
    421: Cause.SERVER_TROUBLE,
    451: Cause.SERVER_TROUBLE,
    452: Cause.SERVER_TROUBLE,
    530: Cause.AUTH_REQUIRED,
    535: Cause.AUTH_REQUIRED,
    552: Cause.TOO_BIG,
    556: Cause.NO_DOMAIN,
}

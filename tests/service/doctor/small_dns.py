"""A DNS server on loopback, in a thread, with a zone that a test writes."""

import socket
import threading

import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

Zone = dict[tuple[str, str], list[str] | str]


class SmallDns:
    """(name, type) -> texts of records, "SERVFAIL" or "silence" in `zone`; CNAMEs are followed."""

    def __init__(self) -> None:
        self.zone: Zone = {}
        self.questions: list[tuple[str, str]] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            data, peer = self._socket.recvfrom(4096)
            if data == b"end":
                return
            reply = self._answer(dns.message.from_wire(data))
            if reply is not None:
                self._socket.sendto(reply.to_wire(), peer)

    def _answer(self, question: dns.message.Message) -> dns.message.Message | None:
        asked = question.question[0]
        name = asked.name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(asked.rdtype)
        self.questions.append((name, kind))
        reply = dns.message.make_response(question)
        alias = self.zone.get((name, "CNAME"))
        owner = asked.name
        if alias:
            found = dns.rrset.from_text_list(owner, 60, "IN", "CNAME", alias)
            reply.answer.append(found)
            owner = found[0].target
            name = owner.to_text(omit_final_dot=True).lower()
        records = self.zone.get((name, kind))
        if records == "silence":
            return None
        if records == "SERVFAIL":
            reply.set_rcode(dns.rcode.SERVFAIL)
        elif records:
            reply.answer.append(dns.rrset.from_text_list(owner, 60, "IN", kind, records))
        elif not any(known == name for known, _ in self.zone):
            reply.set_rcode(dns.rcode.NXDOMAIN)
        return reply

    def close(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"end", self._socket.getsockname())
        self._thread.join()
        self._socket.close()

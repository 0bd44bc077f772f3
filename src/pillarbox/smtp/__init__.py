"""SMTP as a protocol, without I/O (RFC 5321 and extensions).

`server.SmtpServer` is the engine, `options` what it offers, `events` what it asks, `reply` what it is
answered. A turn of its driver:

    engine.receive(data)
    while not isinstance(event := engine.next_event(), Wait):
        match event:
            case Mail():
                engine.send(SENDER_OK)
            ...
    transport.writelines(engine.data_to_send())
"""

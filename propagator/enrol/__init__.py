"""What a server asks of a Registration Portal: the only door to HTTP (DESIGN §7).

Law: `http` is the only import of httpx, and only those who talk to a portal load it. `way` says how a portal is
reached, `words` reads what it answers, `failure` says why it does not. `device` lets a person approve this server at
the portal (RFC 8628), `watch` asks for later editions. Nothing here changes the record: what a portal signed is handed
on.
"""

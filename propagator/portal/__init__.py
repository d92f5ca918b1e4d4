"""The Registration Portal: the web site where a system is registered or modified, and that signs its registration.

The path of a request in the names of the modules: `app` puts everything together, `door` and `limits` stand at the
door, `web` finds out who asks, `pages` (people) and `api` (servers) ask the services (`systems`, `accounts`, `codes`,
`grants`, …), which ask `rules` who may do what, and `tables` hold what is kept. Default deny: what no rule allows is
refused. Each edit is one transaction: the change, its audit row, the next edition, and the mails that tell of it (R11).
It uses `propagator.core` and nothing else of ours.
"""

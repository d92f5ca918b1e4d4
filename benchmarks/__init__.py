"""The first figures of Propagator: `make bench`, or `python -m benchmarks`.

One change of the lead's registration, until the last shadow's durable report is stored at the lead, in rounds that take
turns with the same durable work done by (a) a bare MQTT client and (b) NATS JetStream KV. Then what one shadow costs at
rest, and what `status` takes. All figures of one run are of one machine under one load: the ratios are what counts.

Law: `site` makes the states on the disk, `children` knows processes, `roster` knows when all are done; `ours`, `floor`
and `nats_kv` are the three arms of the race, `race` runs it; `memory` and `status` measure one process; `report` is how
it looks. What each arm's processes run stands in the same module as the arm, behind `python -m`.
"""

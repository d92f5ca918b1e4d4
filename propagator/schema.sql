-- One server's state. SQLite, WAL, synchronous=FULL; the version of this schema is PRAGMA user_version.
-- Times are RFC 3339 UTC text. Registrations are RFC 8785 text. Signed documents are kept byte for byte.

-- Who this server is. `system_id` is born and dies with this database (DOMAIN: System ID).
CREATE TABLE server (
    one            INTEGER PRIMARY KEY CHECK (one = 1),
    id             TEXT    NOT NULL,
    name           TEXT    NOT NULL,
    kind           TEXT    NOT NULL,
    system_id      TEXT    NOT NULL,
    wants_uplink   INTEGER NOT NULL,
    wants_downlink INTEGER NOT NULL,
    session        INTEGER NOT NULL DEFAULT 0,   -- the number of the last session begun
    created_at     TEXT    NOT NULL
) STRICT;

-- The one local record: the registration that this server believes applies to it.
CREATE TABLE record (
    one           INTEGER PRIMARY KEY CHECK (one = 1),
    origin        TEXT    NOT NULL,              -- own | lead | code | portal | field
    registration  TEXT,                          -- null: none
    hash          TEXT    NOT NULL,
    lead          TEXT,                          -- whose record it is; null: this server's own
    version       TEXT,                          -- the lead's version; null: own content
    path          TEXT    NOT NULL DEFAULT '[]', -- JSON list of [id, identity thumbprint]
    raw           BLOB,                          -- the signed bytes that it came in; null: own content
    stored_at     TEXT    NOT NULL,
    pending       INTEGER NOT NULL DEFAULT 0,    -- own content that the agent has not issued yet
    detached_from TEXT                           -- JSON {lead, version, at}: kept after a detach
) STRICT;

-- What happened to the record. Nothing that was overwritten is ever lost.
CREATE TABLE history (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    at          TEXT NOT NULL,
    event       TEXT NOT NULL,
    origin      TEXT NOT NULL,                   -- of what came in force
    lead        TEXT,
    version     TEXT,
    fingerprint TEXT,                            -- thumbprint of the key that signed it
    before      TEXT,                            -- registration before and after
    after       TEXT,
    replaced    TEXT,                            -- JSON of the record row that was replaced, without its bytes
    raw         BLOB,                            -- the signed bytes, also of what was quarantined
    detail      TEXT NOT NULL DEFAULT ''
) STRICT;

-- The highest record accepted from each lead under its identity key. Never emptied.
CREATE TABLE floor (
    lead       TEXT    NOT NULL,
    identity   TEXT    NOT NULL,
    version    TEXT    NOT NULL,
    hash       TEXT    NOT NULL,
    path       TEXT    NOT NULL,
    registered INTEGER NOT NULL,
    PRIMARY KEY (lead, identity)
) STRICT;

-- What is known of each lead's key and of its heartbeats: the highest (seq, session, counter).
CREATE TABLE trust (
    lead     TEXT    NOT NULL,
    identity TEXT    NOT NULL,
    seq      INTEGER NOT NULL,
    lowest   TEXT,                               -- the version the token was written at
    session  TEXT,
    counter  INTEGER,
    PRIMARY KEY (lead, identity)
) STRICT;

-- How the uplink stood last; the running agent knows it newer.
CREATE TABLE uplink (
    one        INTEGER PRIMARY KEY CHECK (one = 1),
    lead       TEXT    NOT NULL,
    lead_name  TEXT    NOT NULL,
    identity   TEXT    NOT NULL,
    state      TEXT    NOT NULL,
    since      TEXT    NOT NULL,
    address    TEXT,
    last_heard TEXT,
    period_s   REAL    NOT NULL DEFAULT 60,
    refusal    TEXT,                             -- JSON {reason, text, at}: the last one
    finding    TEXT,
    attached_at TEXT   NOT NULL
) STRICT;

-- How often each reason was met, on offered records.
CREATE TABLE refusal (
    reason  TEXT PRIMARY KEY,
    count   INTEGER NOT NULL,
    text    TEXT    NOT NULL,
    last_at TEXT    NOT NULL
) STRICT;

-- Every version that this lead ever signed, as signed. The key makes signing a version twice impossible.
CREATE TABLE issue (
    number    INTEGER PRIMARY KEY AUTOINCREMENT,
    version   TEXT NOT NULL UNIQUE,
    hash      TEXT NOT NULL,
    path      TEXT NOT NULL,                 -- JSON list of [id, identity thumbprint], from the top down to here
    raw       BLOB NOT NULL,
    issued_at TEXT NOT NULL
) STRICT;

-- How the downlink stands. `current` is what the lead announces.
CREATE TABLE downlink (
    one     INTEGER PRIMARY KEY CHECK (one = 1),
    current TEXT REFERENCES issue (version),
    lives   TEXT NOT NULL DEFAULT '[]',
    life    INTEGER NOT NULL DEFAULT 0,          -- the lead session that began the last life
    state   TEXT NOT NULL DEFAULT 'ok',
    broker  TEXT NOT NULL DEFAULT 'embedded',
    finding TEXT
) STRICT;

-- One invitation a device; a newer one replaces it. The secret itself is not kept.
CREATE TABLE invitation (
    device        TEXT PRIMARY KEY,
    token_id      TEXT NOT NULL,
    mac_key       BLOB NOT NULL,
    password_hash TEXT NOT NULL,
    created_at    TEXT NOT NULL,
    expires_at    TEXT NOT NULL,
    used_at       TEXT,
    key           TEXT,                          -- thumbprint of the device key that it was used for
    revoked_at    TEXT
) STRICT;

-- The shadows of this lead: what binds them, and the cache of what they said last.
CREATE TABLE member (
    id            TEXT PRIMARY KEY,
    name          TEXT    NOT NULL,
    kind          TEXT    NOT NULL,
    system_id     TEXT    NOT NULL,
    key           TEXT    NOT NULL,              -- thumbprint of the device key
    password_hash TEXT    NOT NULL,
    serial        TEXT    NOT NULL,
    membership    TEXT    NOT NULL,
    attached_at   TEXT    NOT NULL,
    revoked_at    TEXT,
    session       TEXT,
    counter       INTEGER,
    confirmed     INTEGER NOT NULL DEFAULT 0,
    superseded    TEXT,
    cloned        INTEGER NOT NULL DEFAULT 0,
    report        TEXT,
    reported_at   TEXT,
    online        INTEGER NOT NULL DEFAULT 0,
    presence_session TEXT,
    presence_counter INTEGER,
    last_heard    TEXT,
    told_seq      INTEGER NOT NULL DEFAULT 0       -- the delegation under which it has the membership from us
) STRICT;

-- The serials of memberships that ended; a copy lies beside the keys.
CREATE TABLE revoked (
    serial TEXT PRIMARY KEY,
    at     TEXT NOT NULL
) STRICT;

-- The Registration Portal that this server trusts, and what was taken from it last.
CREATE TABLE portal (
    one         INTEGER PRIMARY KEY CHECK (one = 1),
    key         TEXT NOT NULL,                   -- thumbprint of the key that signs its statements
    name        TEXT NOT NULL,
    url         TEXT,                            -- null: never asked online
    system      TEXT,                            -- its number of the registered system
    edition     INTEGER,
    token       TEXT,                            -- what this server asks with for later editions
    asked_at    TEXT,
    answered_at TEXT,
    finding     TEXT                             -- JSON: why its last answer was none
) STRICT;

-- The serials of the portal's statements that were taken here: each counts once.
CREATE TABLE used_code (
    serial TEXT PRIMARY KEY,
    at     TEXT NOT NULL
) STRICT;

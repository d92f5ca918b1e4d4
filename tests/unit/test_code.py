"""The Registration code: what was written is read again, and whatever a person does to it is found, with its place."""

from __future__ import annotations

import itertools
import re
import zlib
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from propagator.core import code, statement
from propagator.core.errors import InputError, RefusedError
from propagator.core.registration import FILE_LIMIT, from_document
from tests.unit.builders import DOCUMENT, b64, flipped, key, registered
from tests.unit.test_statement import said, sealed

if TYPE_CHECKING:
    from propagator.core.registration import Registration

JWS: Final = sealed()
TEXT: Final = code.write(JWS)
GROUPS: Final = TEXT.split()
MANY: Final = settings(max_examples=400, deadline=None)

places = st.integers(0, len(GROUPS) - 1)
signs = st.sampled_from(code.SIGNS)
texts = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp", "Zs", "Cf"]), min_size=1, max_size=40)


def place(number: int) -> str:
    return f"line {number // 8 + 1}, group {number % 8 + 1}"


def refused(text: str) -> str:
    with pytest.raises(RefusedError) as raised:
        code.read(text)
    assert raised.value.hint
    return str(raised.value)


def named(text: str) -> str:
    """The first place that a refusal names."""
    found = re.search(r"line \d+, group \d+", refused(text))
    assert found, refused(text)
    return found[0]


def put(number: int, group: str) -> str:
    return " ".join([*GROUPS[:number], group, *GROUPS[number + 1 :]])


def full_size() -> Registration:
    """A registration of the largest size, of which little can be squeezed out."""
    filler = "".join(key(str(number)).thumbprint for number in range(700))
    room = FILE_LIMIT - len(registered(more="").canonical)
    content = from_document({**DOCUMENT, "more": filler[:room]})
    assert len(content.canonical) == FILE_LIMIT
    return content


# What was written is read.


def test_code_is_written_in_lines_of_eight_groups_of_six_signs() -> None:
    assert {len(line.split()) for line in TEXT.splitlines()[:-1]} == {8}
    assert {len(group) for group in GROUPS} == {6}
    assert set(TEXT) <= {*code.SIGNS, " ", "\n"}
    assert not set(TEXT) & set("ILOU")


def test_code_is_always_written_the_same_way() -> None:
    """A golden one: forms of codes live on paper, so a change of this one needs another form."""
    assert TEXT.splitlines()[0] == "1008YZ NQ9VPJ 3M2601 C8CR90 FRPW4K 7Y2B80 5JJQ8N N2H048"
    assert TEXT.splitlines()[-1] == "VF7MRH FMAQ70 ZJN1GJ PJ6R3H 79W00E"
    assert len(GROUPS) == 93


def test_code_is_read_again_whatever_white_space_case_and_hyphens_it_has() -> None:
    compact = "".join(GROUPS)
    for text in (TEXT, TEXT.lower(), compact, "-".join(GROUPS), f"\n\t{TEXT}\r\n", " ".join(compact)):
        assert code.read(text) == JWS
    assert code.read("\n".join(compact[start : start + 40] for start in range(0, len(compact), 40))) == JWS


def test_letters_that_look_like_digits_are_read_as_those() -> None:
    assert code.read(TEXT.replace("0", "O").replace("1", "I")) == JWS
    assert code.read(TEXT.replace("0", "o").replace("1", "l")) == JWS


def test_file_with_comments_is_a_code() -> None:
    written = code.commented(TEXT, ["System ID: SYS-1", "Site:  Riverside\n House"])
    assert written.startswith("# System ID: SYS-1\n# Site: Riverside House\n")
    assert code.read(written) == JWS
    assert code.read(f"  # indented\n{TEXT}\n# after it") == JWS


@MANY
@given(texts, texts, st.booleans(), st.dictionaries(texts, texts, max_size=5))
def test_every_registration_comes_back(name: str, company: str, withdrawn: bool, more: dict[str, str]) -> None:  # noqa: FBT001
    content = None if withdrawn else registered(name, more=more, company=company)
    raw = statement.seal(said().model_copy(update={"registration": content}), key("portal"))
    assert code.read(code.write(raw)) == raw


def test_code_of_a_registration_of_full_size_is_read() -> None:
    raw = sealed(content=full_size())
    text = code.write(raw)
    assert code.read(text) == raw
    assert code.read(code.commented(text, ["System ID: SYS-1"])) == raw


def test_a_usual_code_is_short_enough_to_be_typed() -> None:
    assert len(TEXT.splitlines()) <= 12


# A picture.


def test_picture_holds_the_code_without_spaces() -> None:
    compact = code.for_picture(TEXT)
    assert set(compact) <= set(code.SIGNS)
    assert code.read(compact) == JWS


def test_code_that_no_picture_can_hold_is_told() -> None:
    with pytest.raises(InputError, match=rf"a QR picture holds {code.PICTURE_LIMIT}") as raised:
        code.for_picture(code.write(sealed(content=full_size())))
    assert "file" in raised.value.hint
    assert len(code.for_picture("A" * code.PICTURE_LIMIT)) == code.PICTURE_LIMIT


# What a person does to it.


@MANY
@given(places, st.integers(0, 5), signs)
def test_any_single_wrong_sign_is_found_and_its_group_is_named(number: int, at: int, sign: str) -> None:
    group = GROUPS[number]
    if group[at] == sign:
        return
    wrong = f"{group[:at]}{sign}{group[at + 1 :]}"
    text = put(number, wrong)
    assert named(text) == place(number)
    assert named("".join(text.split())) == place(number)
    assert wrong in refused(text)


def test_every_single_wrong_sign_of_one_group_is_found() -> None:
    """And so of every one: the check is a sum, the other groups have no part in it."""
    for at in range(6):
        for sign in set(code.SIGNS) - {GROUPS[5][at]}:
            assert named(put(5, f"{GROUPS[5][:at]}{sign}{GROUPS[5][at + 1 :]}")) == place(5)


@MANY
@given(st.integers(0, 6 * len(GROUPS) - 2))
def test_any_two_neighbours_exchanged_are_found(at: int) -> None:
    flat = "".join(GROUPS)
    if flat[at] == flat[at + 1]:
        return
    text = f"{flat[:at]}{flat[at + 1]}{flat[at]}{flat[at + 2 :]}"
    assert named(text) == place(at // 6)


@MANY
@given(places, st.integers(0, 5), st.integers(0, 5))
def test_any_two_signs_of_a_group_exchanged_are_found(number: int, one: int, other: int) -> None:
    group = list(GROUPS[number])
    if group[one] == group[other]:
        return
    group[one], group[other] = group[other], group[one]
    assert named(put(number, "".join(group))) == place(number)


@MANY
@given(places)
def test_a_lost_group_is_found(number: int) -> None:
    text = " ".join(GROUPS[:number] + GROUPS[number + 1 :])
    assert named(text) == place(number)
    if number:
        assert "1 group is missing" in refused(text)


@MANY
@given(places, st.text(signs, min_size=6, max_size=6))
def test_a_surplus_group_is_found(number: int, group: str) -> None:
    text = " ".join([*GROUPS[: number + 1], group, *GROUPS[number + 1 :]])
    assert "1 group is too many" in refused(text)
    by_chance = code._fault(group, number + 1) is None  # one in 32 fits
    assert by_chance or named(text) == place(number + 1)


@MANY
@given(places)
def test_a_group_typed_twice_is_found(number: int) -> None:
    text = " ".join([*GROUPS[: number + 1], GROUPS[number], *GROUPS[number + 1 :]])
    assert named(text) == place(number + 1)


def test_several_lost_groups_are_counted() -> None:
    assert "2 groups are missing" in refused(" ".join(GROUPS[:-2]))
    assert named(" ".join(GROUPS[:-2])) == place(len(GROUPS) - 2)
    assert "8 groups are missing" in refused("\n".join(TEXT.splitlines()[:2] + TEXT.splitlines()[3:]))
    assert "2 groups are too many" in refused(" ".join([*GROUPS, *GROUPS[-2:]]))


@MANY
@given(st.data())
def test_any_two_lines_exchanged_are_found(data: st.DataObject) -> None:
    lines = TEXT.splitlines()
    one, other = sorted(data.draw(st.lists(st.integers(0, len(lines) - 2), min_size=2, max_size=2, unique=True)))
    lines[one], lines[other] = lines[other], lines[one]
    assert named("\n".join(lines)).startswith(f"line {one + 1},")


def test_two_lines_of_the_longest_code_are_never_taken_for_each_other() -> None:
    marks = [code._mark_of(number) for number in range(1 + -(-8 * code.SIZE_LIMIT // 25))]
    lines = [tuple(marks[start : start + 8]) for start in range(0, len(marks), 8)]
    near = [(one, other) for one in range(len(lines)) for other in range(one + 1, min(one + 256, len(lines)))]
    assert [pair for pair in near if lines[pair[0]] == lines[pair[1]]] == []
    assert all(one != other for one, other in itertools.pairwise(marks)), "neighbours differ"


@pytest.mark.parametrize("number", [1, 7, 8, 30, 31, 32, 92])
def test_a_lost_sign_is_in_the_group_that_lacks_it(number: int) -> None:
    message = refused(put(number, GROUPS[number][:3] + GROUPS[number][4:]))
    assert f"{place(number)}: {GROUPS[number][:3] + GROUPS[number][4:]} (5 signs instead of 6)" in message
    message = refused(put(number, GROUPS[number] + "7"))
    assert f"{place(number)}: {GROUPS[number]}7 (7 signs instead of 6)" in message


def test_a_lost_sign_of_a_code_without_spaces_is_near_the_place_that_is_named() -> None:
    flat = "".join(GROUPS)
    assert "line" in refused(flat[:100] + flat[101:])
    assert "1 sign instead of 6" in refused(flat + "7")


def test_a_sign_that_no_code_has_is_named() -> None:
    message = refused(put(3, "7QU0PT"))
    assert f"{place(3)}: 7QU0PT ('U' is no sign of a code)" in message
    assert "'!'" in refused(put(3, "7Q!0PT"))


def test_several_typing_errors_are_named_at_once_and_no_more_than_three() -> None:
    wrong = list(GROUPS)
    for number in (10, 20, 30, 40, 50):
        wrong[number] = "000000"
    message = refused(" ".join(wrong))
    assert all(f"{place(number)}: 000000" in message for number in (10, 20, 30))
    assert place(40) not in message
    assert message.endswith("; and 2 more.")


# What is no code.


@pytest.mark.parametrize("text", ["", "   \n", "# only a comment\n"], ids=["nothing", "white space", "a comment"])
def test_no_code_at_all_is_told(text: str) -> None:
    assert refused(text) == "There is no code."


@pytest.mark.parametrize("text", ["hello", "propagator1.abc.def", "7QX0PT", "https://portal.example"])
def test_what_is_no_code_is_told(text: str) -> None:
    assert "This is no Registration code" in refused(text)


def with_prefix(data: str, *rest: str) -> str:
    return " ".join([data + code._check_sign(data, 0), *rest])


def test_another_form_is_a_newer_programs() -> None:
    assert "the form 2" in refused(with_prefix("2" + GROUPS[0][1:5], *GROUPS[1:]))


@pytest.mark.parametrize("length", [0, 1, 69])
def test_code_too_short_for_a_signature_is_none(length: int) -> None:
    groups = ["00000"] * -(-8 * length // 25)
    rest = [data + code._check_sign(data, number) for number, data in enumerate(groups, start=1)]
    assert refused(with_prefix("1" + code._base32(length, 4), *rest)) == "This is no Registration code."


def test_code_longer_than_any_is_none() -> None:
    """Its prefix promises a megabyte: it is judged by what is there, before anything is made of it."""
    assert "missing" in refused(with_prefix("1ZZZZ", *GROUPS[1:]))
    length = code.SIZE_LIMIT + 1
    rest = ["00000" + code._check_sign("00000", number) for number in range(1, 1 + -(-8 * length // 25))]
    assert refused(with_prefix("1" + code._base32(length, 4), *rest)) == "This is no Registration code."


def typed(body: bytes) -> str:
    """Write any bytes as a code whose groups fit."""
    data = ["1" + code._base32(len(body), 4), *code._base32_groups(body)]
    return " ".join(group + code._check_sign(group, number) for number, group in enumerate(data))


def packed(inner: bytes, *, after: bytes = b"") -> bytes:
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return squeeze.compress(inner) + squeeze.flush() + after + bytes(64)


def test_wrong_signs_that_the_groups_do_not_see_are_found_by_the_checksum() -> None:
    """Two wrong signs of one group that make up for each other: it is found, and no place can be named."""
    for sign in code.SIGNS:
        data = f"{GROUPS[9][:3]}{sign}{GROUPS[9][4]}"
        text = put(9, data + code._check_sign(data, 9))
        if data != GROUPS[9][:5]:
            assert "its checksum does not fit" in refused(text)


def test_what_is_left_of_the_last_group_is_zero() -> None:
    """One document, one code."""
    data = GROUPS[-1][:4] + code.SIGNS[code.SIGNS.index(GROUPS[-1][4]) ^ 1]
    assert "checksum" in refused(put(len(GROUPS) - 1, data + code._check_sign(data, len(GROUPS) - 1)))


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"\xff" * 10 + bytes(64), id="no deflate"),
        pytest.param(packed(b"\x00" * (code.SIZE_LIMIT + 1)), id="inflates beyond all measure"),
        pytest.param(packed(b"\x00\x02{}", after=b"more"), id="something after it"),
        pytest.param(packed(b"\x00\x02{}")[:-66] + bytes(64), id="cut short"),
    ],
)
def test_code_with_a_good_checksum_that_does_not_inflate_is_refused(body: bytes) -> None:
    assert "does not understand" in refused(typed(body + code._digest(body)))


def test_code_of_no_signed_document_is_read_as_what_it_is() -> None:
    """Whether it counts is for the statement to say: it is unreadable there."""
    body = packed(b"\x00")
    raw = code.read(typed(body + code._digest(body)))
    assert isinstance(statement.read(raw, _here()), statement.Refusal)


def _here() -> statement.Standing:
    from tests.unit.test_statement import HERE  # noqa: PLC0415  of the one test

    return HERE


@MANY
@given(st.binary(max_size=200))
def test_no_bytes_break_it(raw: bytes) -> None:
    for text in (raw.decode("latin-1"), typed(raw + code._digest(raw)), typed(raw)):
        try:
            code.read(text)
        except RefusedError as error:
            assert str(error)  # noqa: PT017  either outcome will do


@MANY
@given(st.text(max_size=60))
def test_no_text_breaks_it(text: str) -> None:
    assert refused(text)


# What can be written.


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"two.parts", id="two parts"),
        pytest.param(b"a.b.c.d", id="four parts"),
        pytest.param(b"!!!!." + b".".join(JWS.split(b".")[1:]), id="no base64url"),
        pytest.param(JWS + b"=", id="padding"),
        pytest.param(flipped(JWS, len(JWS) - 1), id="a last sign with surplus bits"),
        pytest.param(b".".join([*JWS.split(b".")[:2], b64(bytes(63))]), id="a short signature"),
        pytest.param(b".".join([b64(b"{}"), b64(bytes(code.SIZE_LIMIT)), b64(bytes(64))]), id="too much"),
    ],
)
def test_only_a_signed_document_is_written_as_a_code(raw: bytes) -> None:
    with pytest.raises(InputError, match="holds a signed document"):
        code.write(raw)

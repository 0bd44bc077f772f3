"""Trace fields at final delivery (RFC 5321 §4.4, §6.3)."""

import pytest

from pillarbox.delivery.trace import (
    MOST_RECEIVED_FIELDS,
    delivery_fields,
    is_loop,
    remove_return_path,
)


@pytest.mark.parametrize(("count", "expected"), [(0, False), (100, False), (101, True)])
def test_more_than_a_hundred_received_fields_are_a_loop(count: int, expected: bool) -> None:
    assert MOST_RECEIVED_FIELDS == 100
    block = b"RECEIVED: from a by b\r\n\tfor c; now\r\n" * count + b"Subject: x\r\n\r\n"
    assert is_loop(block, []) is expected


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (b"Delivered-To: bob@example.test\r\n\r\n", True),
        (b"Subject: x\r\ndelivered-TO:  Bob@Example.Test \r\n\r\n", True),
        (b"Delivered-To: alice@example.test\r\nDelivered-To: bob@example.test\r\n\r\n", True),
        (b"Delivered-To: notbob@example.test\r\n\r\n", False),
        (b"X-Delivered-To: bob@example.test\r\n\r\n", False),
        (b"Subject: Delivered-To: bob@example.test\r\n\r\n", False),
        (b"", False),
    ],
)
def test_a_delivered_to_of_the_same_recipient_is_a_loop(block: bytes, expected: bool) -> None:
    assert is_loop(block, ["carol@example.test", "bob@example.test"]) is expected


def test_forged_return_path_fields_go_with_their_folded_lines() -> None:
    block = (
        b"Return-Path: <a@b>\r\nSubject: Return-Path: x\r\nRETURN-PATH :\r\n <c@d>\r\n\t(x)\r\n"
        b"X-Return-Path: y\r\n\r\n"
    )
    assert remove_return_path(block) == b"Subject: Return-Path: x\r\nX-Return-Path: y\r\n\r\n"


def test_a_header_without_return_path_stays_the_same_object() -> None:
    block = b"Subject: x\r\n\r\n"
    assert remove_return_path(block) is block


def test_delivery_fields_stand_in_front_with_return_path_first() -> None:
    assert delivery_fields("", "bob@example.test", b"Received: x\r\n") == (
        b"Return-Path: <>\r\nDelivered-To: bob@example.test\r\nReceived: x\r\n"
    )

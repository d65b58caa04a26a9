"""Ports that are taken, equal or impossible are told in one sentence before anything starts."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from devstack.errors import StackError
from devstack.ports import check_ports, free_port


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_free_ports_pass() -> None:
    check_ports({"PORT": free_port()})


def test_a_taken_port_names_port_variable_holder_and_a_way_out(taken_port: int) -> None:
    with pytest.raises(StackError) as caught:
        check_ports({"FLOWER_PORT": taken_port})
    message = str(caught.value)
    assert message.startswith(f"Port {taken_port} is already in use by ")
    assert f"(process {os.getpid()})" in message
    assert "FLOWER_PORT=" in message
    assert "\n" not in message


def test_a_port_bound_on_all_addresses_counts_as_taken() -> None:
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", 0))
        listener.listen()
        with pytest.raises(StackError, match="already in use"):
            check_ports({"PORT": listener.getsockname()[1]})


def test_the_proposed_port_is_free(taken_port: int) -> None:
    with pytest.raises(StackError) as caught:
        check_ports({"PORT": taken_port})
    check_ports({"PORT": int(str(caught.value).rstrip(".").rpartition("=")[2])})


@pytest.mark.parametrize("port", [0, 65536])
def test_numbers_that_are_no_ports_are_refused(port: int) -> None:
    with pytest.raises(StackError, match=f"PORT={port} is not a port"):
        check_ports({"PORT": port})


def test_two_variables_with_one_port_are_refused() -> None:
    port = free_port()
    with pytest.raises(StackError, match=f"PORT and FLOWER_PORT are both {port}"):
        check_ports({"PORT": port, "FLOWER_PORT": port})

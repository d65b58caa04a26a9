"""Passwords."""

from __future__ import annotations

import subprocess
import sys

from argon2 import PasswordHasher, Type, extract_parameters

from service.accounts.passwords import hash_password, is_outdated, make_up_password, verify_password


def test_a_hash_is_argon2id_and_salted():
    first, second = hash_password("correct horse"), hash_password("correct horse")
    assert first != second
    parameters = extract_parameters(first)
    assert parameters.type is Type.ID
    assert (parameters.memory_cost, parameters.time_cost) >= (19_456, 2)


def test_only_the_password_fits():
    password_hash = hash_password("correct horse ü")
    assert verify_password(password_hash, "correct horse ü")
    assert not verify_password(password_hash, "correct horse u")
    assert not verify_password(password_hash, "")
    assert not verify_password("no hash at all", "correct horse ü")
    assert not verify_password(None, "correct horse ü")


def test_a_hash_of_other_parameters_is_outdated():
    assert not is_outdated(hash_password("correct horse"))
    assert is_outdated(PasswordHasher(time_cost=1, memory_cost=8192, parallelism=1).hash("correct horse"))


def test_passwords_made_up_differ():
    assert len({make_up_password() for _ in range(100)}) == 100
    assert len(make_up_password()) == 20


PATCHED = """
import eventlet; eventlet.monkey_patch()
import time
from service.accounts.passwords import hash_password
ticks = 0
def tick():
    global ticks
    while True:
        time.sleep(0.001)
        ticks += 1
eventlet.spawn(tick)
time.sleep(0)
for _ in range(10):
    hash_password("correct horse")
print(ticks)
"""


def test_hashing_does_not_hold_up_green_threads():
    command = [sys.executable, "-W", "ignore", "-c", PATCHED]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    assert int(output) > 20

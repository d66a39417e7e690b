"""The states of a door, as a table with a fake clock."""

from typing import get_args

import pytest

from edge_oneshot_device.door.states import SIGNALS, STATES, TRANSITIONS, Machine, Signal, State

LIMITS: dict[State, float] = {"approaching": 5.0, "challenged": 30.0, "unlocked": 3.0, "refused": 2.0, "held": 60.0}


def machine_in(state):
    machine = Machine(LIMITS)
    machine.state = state
    return machine


def handle(machine, signal, now=0.0):
    change = machine.next(signal)
    if change is not None:
        machine.enter(change, now)
    return change


def test_every_state_and_signal_is_explained():
    assert tuple(STATES) == get_args(State)
    assert tuple(SIGNALS) == get_args(Signal)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("signal", SIGNALS)
def test_a_signal_leads_where_the_table_says_and_nowhere_else(state, signal):
    machine = machine_in(state)
    change = handle(machine, signal)
    wanted = TRANSITIONS.get((state, signal))
    assert machine.state == (wanted or state)
    assert (change is None) == (wanted is None)
    assert change is None or (change.before, change.signal, change.after) == (state, signal, wanted)


def test_only_a_decision_or_somebody_in_charge_opens():
    opening = {signal for (_, signal), after in TRANSITIONS.items() if after in ("unlocked", "held")}
    assert opening == {"accepted", "opened", "held"}
    assert {state for (state, signal), _ in TRANSITIONS.items() if signal == "accepted"} == {
        "approaching",
        "challenged",
        "unlocked",
    }


@pytest.mark.parametrize("state", [state for state in STATES if state != "faulty"])
def test_a_fault_locks_in_every_state(state):
    assert TRANSITIONS[state, "failed"] == "faulty"


def test_every_state_but_idle_and_faulty_ends_by_itself():
    ending = {state for state, signal in TRANSITIONS if signal == "timeout"}
    assert ending == set(STATES) - {"idle", "faulty"} == set(LIMITS)


@pytest.mark.parametrize("state", LIMITS)
def test_a_state_lasts_as_long_as_it_may(state):
    before, signal = next(pair for pair, after in TRANSITIONS.items() if after == state)
    machine = machine_in(before)
    handle(machine, signal, 100.0)
    assert not machine.is_over(100.0 + LIMITS[state] - 0.001)
    assert machine.is_over(100.0 + LIMITS[state])


def test_idle_lasts():
    machine = machine_in("unlocked")
    handle(machine, "timeout")
    assert not machine.is_over(1e9)


def test_a_second_acceptance_renews_the_pulse():
    machine = machine_in("approaching")
    handle(machine, "accepted", 0.0)
    handle(machine, "accepted", 2.0)
    assert not machine.is_over(4.9)
    assert machine.is_over(5.0)

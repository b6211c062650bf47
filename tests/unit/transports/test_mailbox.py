import threading

import pytest

from workers.transports._mailbox import Mailbox, MailboxFailed


def in_thread(function):
    """Starts ``function``; the returned call waits for it and gives its result or error."""
    outcome = []

    def run():
        try:
            outcome.append(function())
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def finish():
        thread.join(10.0)
        return outcome[0]

    return finish


def test_first_in_first_out_and_head_stays():
    mailbox = Mailbox(3)
    for item in "abc":
        mailbox.put(item, 10)
    assert (mailbox.head(), mailbox.get(), mailbox.get(), len(mailbox)) == ("a", "a", "b", 1)


def test_waits_end_with_time():
    mailbox = Mailbox(1)
    with pytest.raises(TimeoutError):
        mailbox.get(0.01)
    mailbox.put("a", 1)
    with pytest.raises(TimeoutError):
        mailbox.put("b", 1, 0.01)
    assert mailbox.get() == "a" and len(mailbox) == 0


def test_waits_end_with_what_they_wait_for():
    mailbox = Mailbox(1)
    got = in_thread(mailbox.get)
    mailbox.put("a", 1)
    assert got() == "a"
    mailbox.put("b", 1)
    has_room, is_empty = in_thread(mailbox.wait_room), in_thread(mailbox.wait_empty)
    second = in_thread(lambda: mailbox.put("c", 1))
    mailbox.drop()
    assert (second(), mailbox.get()) == (None, "c")
    assert (has_room(), is_empty()) == (None, None)


def test_failure_wakes_everybody_and_comes_after_what_is_there():
    mailbox, reason = Mailbox(1), ConnectionResetError("the peer died")
    mailbox.put("a", 1)
    waits = [in_thread(mailbox.wait_room), in_thread(mailbox.wait_empty), in_thread(lambda: mailbox.put("b", 1))]
    mailbox.fail(reason)
    mailbox.fail(ValueError("a later one"))
    for wait in waits:
        assert isinstance(wait(), MailboxFailed)
    with pytest.raises(MailboxFailed) as refused:
        mailbox.put("c", 1)
    assert refused.value.__cause__ is reason
    assert mailbox.get() == "a"
    with pytest.raises(MailboxFailed) as ended:
        mailbox.get()
    assert ended.value.__cause__ is reason and mailbox.failure is reason


def test_peak_bytes_are_of_what_was_held_at_once():
    mailbox = Mailbox(2)
    mailbox.put("a", 100)
    mailbox.put("b", 20)
    mailbox.drop()
    mailbox.put("c", 30)
    assert mailbox.peak_bytes == 120

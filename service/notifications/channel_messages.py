def messages_are_due() -> bool:
    return False


def send_due_messages() -> int:
    return 0

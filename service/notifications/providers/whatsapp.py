"""What the providers of WhatsApp have in common: a letter as one text."""

from __future__ import annotations

from service.notifications.providers.letters import Letter


def whatsapp_text(letter: Letter, limit: int) -> str:
    """The subject in bold and the text; what is longer than `limit` characters ends in an ellipsis."""
    subject = " ".join(letter.subject.split()).replace("*", "")
    text = f"*{subject}*\n{letter.text}".strip() if subject else letter.text
    return text if len(text) <= limit else text[: limit - 1] + "…"

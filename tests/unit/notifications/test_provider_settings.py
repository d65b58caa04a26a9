"""Providers that are half set stop the start, and the message says what is missing."""

from __future__ import annotations

import pytest

from service.settings import Settings, SettingsError


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"WHATSAPP_PROVIDER": "twilio", "TWILIO_FROM": "+1"}, "needs TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN"),
        ({"WHATSAPP_PROVIDER": "waha"}, "WHATSAPP_PROVIDER names waha, which needs WAHA_URL"),
        ({"WHATSAPP_PROVIDER": "waha,cloud", "WAHA_URL": "http://waha:3000"}, "needs WHATSAPP_CLOUD_TOKEN"),
        ({"WHATSAPP_PROVIDER": "pigeon"}, "WHATSAPP_PROVIDER must be some of twilio, waha, cloud"),
        ({"WAHA_URL": "waha:3000"}, "WAHA_URL must"),
        ({"SMTP_URL": "http://mail.example.com"}, "SMTP_URL must"),
        ({"SMTP_URL": "smtp://a,smtp://b:port"}, "SMTP_URL"),
        ({"MAIL_FROM": "Carillon"}, "MAIL_FROM must"),
        ({"PHONE_DEFAULT_REGION": "Germany"}, "PHONE_DEFAULT_REGION must"),
        ({"PUSH_CONTACT": "me@example.com"}, "PUSH_CONTACT must"),
        ({"PUSH_APPRISE_URLS": "ntfy://ntfy.example.com/ok,pigeon://loft"}, "PUSH_APPRISE_URLS: .* at place 2"),
    ],
)
def test_what_is_half_set_stops_the_start(given: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        Settings.from_env(given)


def test_secrets_of_mail_servers_are_not_shown() -> None:
    with pytest.raises(SettingsError) as error:
        Settings.from_env({"SMTP_URL": "smtp://user:hunter2@a,http://user:hunter2@b"})
    assert "hunter2" not in str(error.value)


def test_what_is_whole_is_taken() -> None:
    settings = Settings.from_env(
        {
            "SMTP_URL": "smtp://a.example.com,smtps://u:p@b.example.com:465",
            "WHATSAPP_PROVIDER": "waha, twilio",
            "WAHA_URL": "http://waha:3000/",
            "TWILIO_ACCOUNT_SID": "AC1",
            "TWILIO_AUTH_TOKEN": "t",
            "TWILIO_FROM": "+14155238886",
            "MAIL_FROM": "Carillon <ring@example.com>",
            "PUSH_APPRISE_URLS": "ntfys://ntfy.example.com/{username}",
        }
    )
    assert settings.whatsapp_providers == ("waha", "twilio")
    assert settings.waha_url == "http://waha:3000"
    assert settings.push_contact == "mailto:ring@example.com"

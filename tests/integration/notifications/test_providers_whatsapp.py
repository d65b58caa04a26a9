"""WhatsApp by services that speak the formats which Twilio, WAHA and Meta publish."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from devstack.ports import free_port
from service.ids import new_id
from service.notifications import providers
from service.notifications.providers import Away, Letter, Refused
from tests.factories import stand_ins
from tests.factories.stand_ins import Answer, StandIn, answered, cloud_error, twilio_error

NUMBER = "+491701234567"
Change = Callable[..., None]


@pytest.fixture
def carriers(change_settings: Change) -> Iterator[dict[str, StandIn]]:
    """All three services, set as the application's; which of them are asked is the test's."""
    with ExitStack() as running:
        found = {
            "twilio": running.enter_context(stand_ins.twilio()),
            "waha": running.enter_context(stand_ins.waha()),
            "cloud": running.enter_context(stand_ins.cloud_api()),
        }
        change_settings(
            twilio_account_sid="AC1",
            twilio_auth_token="token",
            twilio_from="+14155238886",
            twilio_url=found["twilio"].url,
            waha_url=found["waha"].url,
            waha_api_key="key",
            whatsapp_cloud_token="cloud-token",
            whatsapp_cloud_phone_id="106540352242922",
            whatsapp_cloud_url=f"{found['cloud'].url}/v25.0",
        )
        yield found


def letter(to: str = NUMBER, **fields: Any) -> Letter:
    return Letter(**{"message_id": new_id(), "to": to, "subject": "Hello", "text": "A word.", **fields})


def test_twilio_gets_its_form(in_app: None, carriers: dict[str, StandIn], change_settings: Change) -> None:
    change_settings(whatsapp_providers=("twilio",))
    sent = providers.send("whatsapp", letter("+49 170 1234567"))
    (post,) = carriers["twilio"].posts
    assert sent == ("twilio", f"SM{1:032x}")
    assert post.path == "/2010-04-01/Accounts/AC1/Messages.json"
    assert post.headers["authorization"] == "Basic " + b64encode(b"AC1:token").decode()
    assert post.form == {
        "To": f"whatsapp:{NUMBER}",
        "From": "whatsapp:+14155238886",
        "Body": "*Hello*\nA word.",
    }


def test_waha_gets_its_json(in_app: None, carriers: dict[str, StandIn], change_settings: Change) -> None:
    change_settings(whatsapp_providers=("waha",))
    sent = providers.send("whatsapp", letter())
    (post,) = carriers["waha"].posts
    assert sent == ("waha", f"true_491701234567@c.us_{1:020X}")
    assert (post.path, post.headers["x-api-key"]) == ("/api/sendText", "key")
    assert post.json == {"session": "default", "chatId": "491701234567@c.us", "text": "*Hello*\nA word."}


@pytest.mark.parametrize(
    ("document", "name"),
    [({"id": {"fromMe": True, "_serialized": "true_1_A"}}, "true_1_A"), ({"key": {"id": "3EB0"}}, "3EB0"), ([], None)],
)
def test_each_engine_of_waha_names_its_messages_in_its_own_way(
    in_app: None, carriers: dict[str, StandIn], change_settings: Change, document: Any, name: str | None
) -> None:
    change_settings(whatsapp_providers=("waha",))
    carriers["waha"].faults = [answered(201, document)]
    assert providers.send("whatsapp", letter()).provider_id == name


def test_the_cloud_api_gets_its_json(in_app: None, carriers: dict[str, StandIn], change_settings: Change) -> None:
    change_settings(whatsapp_providers=("cloud",))
    sent = providers.send("whatsapp", letter(text="x" * 5000))
    (post,) = carriers["cloud"].posts
    assert sent == ("cloud", f"wamid.HBgL{1:030d}")
    assert post.path == "/v25.0/106540352242922/messages"
    assert post.headers["authorization"] == "Bearer cloud-token"
    text = post.json.pop("text") if isinstance(post.json, dict) else {}
    assert (len(text["body"]), text["preview_url"]) == (4096, False)
    assert post.json.items() >= {"messaging_product": "whatsapp", "to": "491701234567", "type": "text"}.items()


@pytest.mark.parametrize(
    ("name", "fault", "reason"),
    [
        ("twilio", twilio_error(400, 21211, "The 'To' number is not a valid phone number."), "bad_address"),
        ("twilio", twilio_error(400, 63003, "Channel could not find To address"), "bad_address"),
        ("twilio", twilio_error(400, 21610, "Attempt to send to unsubscribed recipient"), "opted_out"),
        ("twilio", twilio_error(400, 63016, "Outside the allowed window"), "needs_template"),
        ("twilio", twilio_error(400, 21602, "Message body is required."), "refused"),
        ("waha", answered(400, {"message": "chatId is wrong", "statusCode": 400}), "refused"),
        ("cloud", cloud_error(400, 131026, "Message undeliverable"), "bad_address"),
        ("cloud", cloud_error(400, 131047, "Re-engagement message"), "needs_template"),
        ("cloud", cloud_error(400, 100, "Invalid parameter"), "refused"),
    ],
)
def test_what_will_never_arrive_is_refused(
    in_app: None, carriers: dict[str, StandIn], change_settings: Change, name: str, fault: Answer, reason: str
) -> None:
    change_settings(whatsapp_providers=(name,))
    carriers[name].faults = [fault]
    with pytest.raises(Refused) as refusal:
        providers.send("whatsapp", letter())
    assert refusal.value.reason == reason


@pytest.mark.parametrize(
    ("name", "fault", "said"),
    [
        ("twilio", twilio_error(429, 20429, "Too Many Requests"), "429 20429 Too Many Requests"),
        ("twilio", twilio_error(401, 20003, "Authenticate"), "401 20003 Authenticate"),
        ("twilio", twilio_error(400, 63007, "Could not find a Channel with that From"), "63007"),
        ("twilio", (503, {}, b"<html>"), "503"),
        ("waha", answered(422, {"error": "Session status is not as expected", "status": "STARTING"}), "422 Session"),
        ("waha", answered(401, {"message": "Unauthorized", "statusCode": 401}), "401 Unauthorized"),
        ("cloud", cloud_error(429, 130429, "Rate limit hit"), "Rate limit hit"),
        ("cloud", cloud_error(401, 190, "Access token has expired"), "expired"),
        ("cloud", cloud_error(500, 131000, "Something went wrong"), "500"),
        ("cloud", answered(302, None, Location="http://127.0.0.1:1/"), "302"),
    ],
)
def test_what_may_pass_is_tried_again(
    in_app: None, carriers: dict[str, StandIn], change_settings: Change, name: str, fault: Answer, said: str
) -> None:
    change_settings(whatsapp_providers=(name,))
    carriers[name].faults = [fault]
    with pytest.raises(Away, match=said):
        providers.send("whatsapp", letter())
    assert providers.send("whatsapp", letter()).provider == name


def test_the_next_service_takes_over_until_the_first_is_well(
    in_app: None, carriers: dict[str, StandIn], change_settings: Change
) -> None:
    change_settings(whatsapp_providers=("twilio", "waha"))
    carriers["twilio"].faults = [(500, {}, b"")] * 3
    assert [providers.send("whatsapp", letter()).provider for _ in range(4)] == ["waha"] * 4
    # The fourth did not even ask.
    assert len(carriers["twilio"].posts) == 3


def test_a_service_that_needs_a_template_leaves_it_to_one_that_does_not(
    in_app: None, carriers: dict[str, StandIn], change_settings: Change
) -> None:
    change_settings(whatsapp_providers=("twilio", "cloud", "waha"))
    carriers["twilio"].faults = [twilio_error(400, 63016, "Outside the allowed window")]
    carriers["cloud"].faults = [cloud_error(400, 131047, "Re-engagement message")]
    assert providers.send("whatsapp", letter()).provider == "waha"


def test_a_bad_number_is_not_offered_to_the_next(
    in_app: None, carriers: dict[str, StandIn], change_settings: Change
) -> None:
    change_settings(whatsapp_providers=("twilio", "waha"))
    carriers["twilio"].faults = [twilio_error(400, 63003, "Channel could not find To address")]
    with pytest.raises(Refused):
        providers.send("whatsapp", letter())
    with pytest.raises(Refused):
        providers.send("whatsapp", letter("+49 12"))
    assert len(carriers["twilio"].posts) == 1
    assert carriers["waha"].posts == []


def test_a_service_that_cannot_be_reached_says_no_address(in_app: None, change_settings: Change) -> None:
    place = f"127.0.0.1:{free_port()}"
    change_settings(whatsapp_providers=("waha",), waha_url=f"http://{place}")
    with pytest.raises(Away, match="waha: ConnectionError") as away:
        providers.send("whatsapp", letter())
    assert place not in str(away.value)


def test_without_a_service_the_channel_is_off(in_app: None, change_settings: Change) -> None:
    assert not providers.is_on("whatsapp")
    with pytest.raises(Away, match="No provider"):
        providers.send("whatsapp", letter())
    change_settings(whatsapp_providers=("waha",))
    assert providers.is_on("whatsapp")
    change_settings(email_enabled=False)
    assert not providers.is_on("email")
    assert providers.is_on("push")

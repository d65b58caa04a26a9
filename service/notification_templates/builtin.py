"""What the platform itself says: the templates that hold where a tenant has none of that name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

EMAIL = "email"
CHANNELS = ("in_app", EMAIL, "whatsapp", "push")

# Given to every template: where the platform is.
PUBLIC_URL = "publicUrl"

PASSWORD_RESET = "password_reset"  # noqa: S105 - the name of a template
JOB_COMPLETED, JOB_FAILED = "job_completed", "job_failed"
DIGEST = "digest"
APPROVAL_RESOLVED = "approval_resolved"
FAILURE_ALERT = "failure_alert"
WEBHOOK_FAILING, WEBHOOK_DISABLED = "webhook_failing", "webhook_disabled"


class Builtin(NamedTuple):
    """A message of the platform; of its variables those that are `optional` are null where they are not given."""

    name: str
    description: str
    variables: tuple[str, ...]
    subject: str
    body: str
    html: str
    optional: tuple[str, ...] = ()
    channels: tuple[str, ...] = CHANNELS


_BUTTON = (
    "display:inline-block;padding:10px 18px;border-radius:6px;background:#1f4f8f;color:#ffffff;text-decoration:none"
)


def _page(content: str) -> str:
    """The HTML of a mail around its paragraphs; styles stand in the tags, for mail programs drop all others."""
    return f"""<!DOCTYPE html>
<html>
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"></head>
<body style="margin:0;padding:24px;background:#f4f5f7;font-family:Arial,Helvetica,sans-serif;color:#1c2330">
<div style="max-width:560px;margin:0 auto;padding:24px;background:#ffffff;border-radius:8px;line-height:1.5">
<p>Hello {{{{ username }}}},</p>
{content.strip()}
</div>
</body>
</html>
"""


def _link(url: str, words: str) -> str:
    return f'<p><a href="{{{{ {url} }}}}" style="{_BUTTON}">{words}</a></p>'


# What subject, text and HTML say alike.
_ANSWERED = (
    "{{ 'approved' if resolution == 'approve' else 'rejected' if resolution == 'reject' else 'chose “' ~ label ~ '”' }}"
)
_FAILED = (
    "{{ failures }}{{ ' more' if since else '' }} "
    "{{ 'of your jobs' if isOwn else 'job' if failures == 1 else 'jobs' }} of type {{ jobType }} failed"
)
_IN_WHICH_TIME = "{{ 'since the last alert (' ~ since ~ ')' if since else 'within ' ~ withinSeconds ~ ' s' }}"
_FAILING = (
    "The last {{ failures }} attempts to reach {{ webhookUrl }} have failed. After {{ disablesAt }} in a row, or "
    "after five days, the endpoint is switched off."
)
_DISABLED = (
    "{{ webhookUrl }} {{ 'answered 410 Gone' if reason == 'gone' else 'has failed for too long' }}, so nothing more "
    "is sent to it. What it misses is kept and can be recovered once the endpoint is switched on again."
)


_ALL = (
    Builtin(
        name=PASSWORD_RESET,
        description="The link to set a new password; until is a time of day in timezone",
        variables=("username", "link", "until", "timezone"),
        channels=(EMAIL,),
        subject="Set a new password",
        body="""Hello {{ username }},

somebody, probably you, has asked for a new password for your account.
Set it here, until {{ until }} ({{ timezone }}):

{{ link }}

If it was not you, there is nothing to do: your password stays as it is.
""",
        html=_page(
            f"""
<p>somebody, probably you, has asked for a new password for your account.
Set it here, until {{{{ until }}}} ({{{{ timezone }}}}):</p>
{_link("link", "Set a new password")}
<p>If it was not you, there is nothing to do: your password stays as it is.</p>
"""
        ),
    ),
    Builtin(
        name=JOB_COMPLETED,
        description="A job has completed",
        variables=("username", "jobName", "jobId", "url"),
        subject="{{ jobName }} has completed",
        body="""Hello {{ username }},

{{ jobName }} has completed.

{{ url }}
""",
        html=_page(f"<p>{{{{ jobName }}}} has completed.</p>\n{_link('url', 'Open')}"),
    ),
    Builtin(
        name=JOB_FAILED,
        description="A job has failed for good; error is its last",
        variables=("username", "jobName", "jobId", "error", "url"),
        subject="{{ jobName }} has failed",
        body="""Hello {{ username }},

{{ jobName }} has failed{% if error %}: {{ error|truncate(2000) }}{% else %}.{% endif +%}

{{ url }}
""",
        html=_page(
            f"""
<p>{{{{ jobName }}}} has failed{{% if error %}}:</p>
<p style="white-space:pre-line">{{{{ error|truncate(2000) }}}}</p>
{{% else %}}.</p>
{{% endif %}}
{_link("url", "Open")}
"""
        ),
    ),
    Builtin(
        name=DIGEST,
        description="What was gathered: count of it, the first as items {title, message, createdAt}, how many more; "
        "period is hourly, daily or null",
        variables=("username", "items"),
        optional=("period", "count", "more"),
        subject="{{ count or items|length }} notification{{ 's' if (count or items|length) != 1 else '' }}",
        body="""Hello {{ username }},

your {{ period ~ ' ' if period else '' }}digest:

{% for item in items %}
- {{ item.title }}
  {{ item.message|indent(2) }}
  {{ item.createdAt }}

{% endfor %}
{% if more %}
… and {{ more }} more.

{% endif %}
{{ publicUrl }}
""",
        html=_page(
            f"""
<p>your {{{{ period ~ ' ' if period else '' }}}}digest:</p>
{{% for item in items %}}
<p><strong>{{{{ item.title }}}}</strong><br><span style="white-space:pre-line">{{{{ item.message }}}}</span><br>
<small>{{{{ item.createdAt }}}}</small></p>
{{% endfor %}}
{{% if more %}}
<p>&hellip; and {{{{ more }}}} more.</p>
{{% endif %}}
{_link("publicUrl", "Open")}
"""
        ),
    ),
    Builtin(
        name=APPROVAL_RESOLVED,
        description="Somebody has answered what was sent for approval; resolution is the key of the button that was "
        "pressed, label what stands on it, resolvedBy a username",
        variables=("username", "title", "resolution", "label", "resolvedBy"),
        subject=f"{{{{ resolvedBy }}}} {_ANSWERED}: {{{{ title }}}}",
        body=f"""Hello {{{{ username }}}},

{{{{ resolvedBy }}}} {_ANSWERED}: {{{{ title }}}}

{{{{ publicUrl }}}}
""",
        html=_page(
            f"""
<p>{{{{ resolvedBy }}}} {_ANSWERED}: <strong>{{{{ title }}}}</strong></p>
{_link("publicUrl", "Open")}
"""
        ),
    ),
    Builtin(
        name=FAILURE_ALERT,
        description="Jobs of a type keep failing, the reader's own or those of the organization; since is the time of "
        "the last alert to the same, error is the last job's",
        variables=("username", "jobType", "failures", "isOwn", "withinSeconds", "errorCode", "error", "url"),
        optional=("since",),
        subject=_FAILED,
        body=f"""Hello {{{{ username }}}},

{_FAILED} with {{{{ errorCode }}}} {_IN_WHICH_TIME}\
{{% if error %}}, the last one with: {{{{ error }}}}{{% else %}}.{{% endif +%}}

{{{{ url }}}}
""",
        html=_page(
            f"""
<p>{_FAILED} with {{{{ errorCode }}}} {_IN_WHICH_TIME}{{% if error %}}, the last one with:</p>
<p style="white-space:pre-line">{{{{ error }}}}</p>
{{% else %}}.</p>
{{% endif %}}
{_link("url", "Open")}
"""
        ),
    ),
    Builtin(
        name=WEBHOOK_FAILING,
        description="So many attempts in a row have failed to reach an endpoint; it is switched off at disablesAt",
        variables=("username", "webhookId", "webhookUrl", "failures", "disablesAt"),
        subject="A webhook keeps failing",
        body=f"""Hello {{{{ username }}}},

{_FAILING}

{{{{ publicUrl }}}}
""",
        html=_page(f"<p>{_FAILING}</p>\n{_link('publicUrl', 'Open')}"),
    ),
    Builtin(
        name=WEBHOOK_DISABLED,
        description="An endpoint was switched off; reason is gone, where it answered 410, or failing",
        variables=("username", "webhookId", "webhookUrl", "failures", "reason"),
        subject="A webhook was switched off",
        body=f"""Hello {{{{ username }}}},

{_DISABLED}

{{{{ publicUrl }}}}
""",
        html=_page(f"<p>{_DISABLED}</p>\n{_link('publicUrl', 'Open')}"),
    ),
)

BUILTINS: Mapping[str, Builtin] = {each.name: each for each in _ALL}

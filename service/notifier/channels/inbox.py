"""The inbox: persistent notifications, unless the user, or else his tenant, has muted this type of event."""

from __future__ import annotations

from service.notifications.counts import inbox_json
from service.notifications.representation import COLUMNS, arrival
from service.notifier.channels.base import IS_CRITICAL, FollowUp, Planned

# The id is made of event and recipient: planning the same event again writes nothing. The tenant is asked only where
# the user has said nothing.
_NOTIFICATIONS = f"""
INSERT INTO notifications
    (id, organization_id, user_id, event_id, type, category, title, message, data, actions, created_at)
SELECT derived_id(event.id, event.user_id::text), event.organization_id, event.user_id, event.id,
    event.notification, event.category, event.title, event.message, event.data, event.actions, event.at
FROM event LEFT JOIN notification_preferences AS preference
    ON preference.user_id = event.user_id AND preference.notification_type = event.preference
    AND preference.channel = 'in_app'
WHERE event.tells_inbox AND ({IS_CRITICAL} OR coalesce(preference.enabled,
    (SELECT enabled FROM notification_defaults WHERE organization_id = event.organization_id
        AND notification_type = event.preference AND channel = 'in_app'),
    true))
ON CONFLICT (id) DO NOTHING
RETURNING {", ".join(COLUMNS)}
"""

# In the order of users, so that two who write to the same ones at once do not block each other.
_COUNTS = """
INSERT INTO inboxes (user_id, unread, version)
SELECT user_id, count(*), 1 FROM inbox GROUP BY user_id ORDER BY user_id
ON CONFLICT (user_id) DO UPDATE SET unread = inboxes.unread + excluded.unread, version = inboxes.version + 1
RETURNING user_id, unread, version
"""

PLAN = {"inbox": _NOTIFICATIONS, "inbox_counts": _COUNTS}


def after_commit(planned: Planned) -> FollowUp:
    """The entries that show the new notifications at once."""
    counts = {row["user_id"]: inbox_json(row) for row in planned["inbox_counts"]}
    return FollowUp([arrival(row, counts[row["user_id"]]) for row in planned["inbox"]])

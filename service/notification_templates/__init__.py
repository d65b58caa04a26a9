"""The words of messages: templates with versions, in the languages of a tenant."""

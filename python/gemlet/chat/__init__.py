"""Conversations: turns, chat templates, and the sandbox that renders them."""

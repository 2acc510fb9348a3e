"""Who speaks when, from voices: pure functions over what the networks of `tasks.engines.speakers` return."""

"""What writes code for a project: it serves nobody, and nothing that serves imports it."""

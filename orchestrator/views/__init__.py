"""What people look at: tables, progress, and the JSON that programs read."""

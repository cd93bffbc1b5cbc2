"""Running a saga: events in, commands out, deadlines, everything durable."""

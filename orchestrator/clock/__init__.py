"""What happens at a time: timers, schedules."""

"""What a model may have done for it: functions, and what is checked and kept of each call."""

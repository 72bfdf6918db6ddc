"""What torch computes on: device and precision, CPU threads, oneDNN, memory."""

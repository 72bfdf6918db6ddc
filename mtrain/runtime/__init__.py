"""The runtime of torch: device and precision, CPU threads, oneDNN, memory, environment."""

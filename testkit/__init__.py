"""What tests, benchmarks and the demo share: a real host, real servers, small random models, stand-ins."""

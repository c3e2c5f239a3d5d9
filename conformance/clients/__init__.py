"""Work done the way services do it, through the client libraries they use."""

"""What a client may do, whatever protocol it speaks."""

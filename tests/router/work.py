"""Work that is done when a test says so."""

from collections import deque


class Later:
    """``jobs`` are those submitted and not done."""

    def __init__(self):
        self.jobs = deque()

    def submit(self, job, done):
        self.jobs.append((job, done))

    def step(self):
        """Do the first job, and tell of it."""
        job, done = self.jobs.popleft()
        done(job())

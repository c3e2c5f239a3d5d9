"""Work that is done when a test says so, and a password whose check is such work."""

from collections import deque

from leveret.router.auth import PasswordHash
from leveret.router.auth.passwords import SCRYPT

SLOW = PasswordHash("$scrypt$ln=1,r=1,p=1$c2FsdA$oi7wVndxhKj0C+J1sHSSmUGONEY+Cc+hVT3CAMF8Bt8", SCRYPT)  # "pw"


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

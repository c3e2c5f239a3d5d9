"""Password hashes: RabbitMQ's salted digests, and scrypt, which is slow to guess.

Responsible for the formats, for hashing passwords and for comparing passwords with hashes. Hashing and
comparing take long for scrypt, too long for the event loop; they touch only their arguments.

RabbitMQ's format is base64 of four bytes of salt and the digest of salt and password. scrypt hashes (RFC
7914) are PHC strings: ``$scrypt$ln=15,r=8,p=1$SALT$HASH``, base64 without padding. In the API and in
definitions a scrypt hash is base64 of that string (``exchanged``, ``from_exchanged``): RabbitMQ refuses a
hash that is not base64, and keeps and exports one whose algorithm it does not know.

A hash may be unusable: of an unknown algorithm, or of another length than its algorithm makes. As in RabbitMQ
its user exists and cannot log in with a password.

Source: RabbitMQ, "Credentials and Passwords".
"""

import base64
import binascii
import hashlib
import hmac
import os
import re
from typing import Literal, NamedTuple

Scheme = Literal["scrypt", "sha256", "sha512"]

MD5 = "rabbit_password_hashing_md5"
SHA256 = "rabbit_password_hashing_sha256"
SHA512 = "rabbit_password_hashing_sha512"
SCRYPT = "leveret_password_hashing_scrypt"
ALGORITHMS = {"scrypt": SCRYPT, "sha256": SHA256, "sha512": SHA512}  # by scheme
PASSWORD_AND_HASH = "both_password_and_password_hash_are_provided"  # RabbitMQ's reason of a refusal
_WHITE_SPACE = str.maketrans("", "", " \t\r\n")
_DIGESTS = {MD5: hashlib.md5, SHA256: hashlib.sha256, SHA512: hashlib.sha512}
_SALT = 4  # bytes, in RabbitMQ's format
_TEXT_MAX = 1024  # characters of a hash, or of an algorithm's name, from another program

_SCRYPT_SALT, _SCRYPT_LENGTH = 16, 32  # bytes
_SCRYPT_MEMORY = 1 << 28  # bytes that a hash from outside may need
_SCRYPT_TIMES = 16  # iterations that a hash from outside may need
_SCRYPT_FORM = re.compile(
    r"\$scrypt\$ln=(\d{1,2}),r=(\d{1,3}),p=(\d{1,3})\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)"
)


class _Cost(NamedTuple):
    """Cost of scrypt: 2 ** ``ln`` blocks of 128 * ``r`` bytes, ``p`` times."""

    ln: int = 15
    r: int = 8
    p: int = 1


_COST = _Cost()  # 32 MiB for each new hash


class PasswordHashError(ValueError):
    """An unusable password hash; the text has the reason."""


class PasswordHash(NamedTuple):
    """A stored password hash; an empty one is no password at all and matches none."""

    text: str
    algorithm: str = SHA256

    @property
    def portable(self) -> bool:
        """Return True if RabbitMQ can use the hash as leveret does."""
        return self.algorithm != SCRYPT

    @property
    def quick(self) -> bool:
        """Return True if a comparison is quick enough for the event loop."""
        return self.algorithm != SCRYPT or self.fault is not None

    @property
    def fault(self) -> str | None:
        """Return the reason why the hash is unusable; None for a usable hash, and for no hash at all."""
        try:
            _parse(self)
        except PasswordHashError as error:
            return str(error)
        return None

    @property
    def exchanged(self) -> str:
        """Return the hash as text for other programs: base64, as RabbitMQ expects."""
        return base64.b64encode(self.text.encode()).decode() if self.text.startswith("$") else self.text


NO_PASSWORD = PasswordHash("")


def hash_password(password: str, scheme: Scheme) -> PasswordHash:
    """Hash a password. ``scrypt`` takes some 0.1 s and 32 MiB: do not call it in the event loop."""
    algorithm = ALGORITHMS[scheme]
    if algorithm == SCRYPT:
        salt = os.urandom(_SCRYPT_SALT)
        return _scrypt_hash(salt, _scrypt(password, salt, _COST, _SCRYPT_LENGTH))
    salt = os.urandom(_SALT)
    return PasswordHash(base64.b64encode(salt + _digest(algorithm, salt, password)).decode(), algorithm)


def impossible_hash() -> PasswordHash:
    """Return a hash that takes as long to compare with as a new one, and that no password matches."""
    return _scrypt_hash(os.urandom(_SCRYPT_SALT), os.urandom(_SCRYPT_LENGTH))


def from_exchanged(text: str, algorithm: str | None = SHA256) -> PasswordHash:
    """Parse a hash from another program; a scrypt hash may also be the PHC string itself. White space, such
    as the line break that ``base64`` prints, is ignored, as in RabbitMQ.

    Raises PasswordHashError for text that is not base64, which RabbitMQ refuses too.
    """
    algorithm, text = algorithm or SHA256, text.translate(_WHITE_SPACE)
    if len(text) > _TEXT_MAX or len(algorithm) > _TEXT_MAX:
        raise PasswordHashError(f"password hash or hashing algorithm has more than {_TEXT_MAX} characters")
    if algorithm == SCRYPT and _SCRYPT_FORM.fullmatch(text):
        return PasswordHash(text, SCRYPT)
    raw = _decode(text)
    if algorithm == SCRYPT and raw.isascii() and _SCRYPT_FORM.fullmatch(inner := raw.decode()):
        return PasswordHash(inner, SCRYPT)
    return PasswordHash(text, algorithm)


def matches_password(password_hash: PasswordHash, password: str) -> bool:
    """Return True if the password matches the hash; an empty password, and an empty or unusable hash, never
    match. Takes constant time for usable hashes.
    """
    try:
        parsed = _parse(password_hash)
    except PasswordHashError:
        return False
    return hmac.compare_digest(parsed.digest_of(password), parsed.digest) and bool(password)


class _Parsed(NamedTuple):
    algorithm: str
    salt: bytes
    digest: bytes  # empty: no password matches
    cost: _Cost = _COST  # for scrypt

    def digest_of(self, password: str) -> bytes:
        if self.algorithm == SCRYPT:
            return _scrypt(password, self.salt, self.cost, len(self.digest))
        return _digest(self.algorithm, self.salt, password)


def _parse(password_hash: PasswordHash) -> _Parsed:
    text, algorithm = password_hash
    if not text:
        return _Parsed(SHA256, bytes(_SALT), b"")
    if algorithm == SCRYPT:
        return _parse_scrypt(text)
    if algorithm not in _DIGESTS:
        raise PasswordHashError(f"password hashing algorithm '{algorithm}' is not supported")
    raw = _decode(text)
    if len(raw) != _SALT + _DIGESTS[algorithm]().digest_size:
        raise PasswordHashError(f"password hash has {len(raw)} bytes, wrong for '{algorithm}'")
    return _Parsed(algorithm, raw[:_SALT], raw[_SALT:])


def _parse_scrypt(text: str) -> _Parsed:
    found = _SCRYPT_FORM.fullmatch(text)
    if found is None:
        raise PasswordHashError("password hash is not like $scrypt$ln=..,r=..,p=..$SALT$HASH")
    cost = _Cost(int(found[1]), int(found[2]), int(found[3]))
    if 0 in cost or cost.p > _SCRYPT_TIMES or (128 * cost.r) << cost.ln > _SCRYPT_MEMORY:
        raise PasswordHashError("password hash asks for more work than is allowed, or for none")
    salt, digest = (_decode(part + "=" * (-len(part) % 4)) for part in found.group(4, 5))
    return _Parsed(SCRYPT, salt, digest, cost)


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise PasswordHashError("password hash is not base64") from None


def _bytes(password: str) -> bytes:
    return password.encode("utf-8", "surrogateescape")


def _digest(algorithm: str, salt: bytes, password: str) -> bytes:
    return _DIGESTS[algorithm](salt + _bytes(password)).digest()


def _scrypt(password: str, salt: bytes, cost: _Cost, length: int) -> bytes:
    ln, r, p = cost
    memory = 128 * r * ((1 << ln) + p + 2)
    return hashlib.scrypt(_bytes(password), salt=salt, n=1 << ln, r=r, p=p, maxmem=memory, dklen=length)


def _scrypt_hash(salt: bytes, digest: bytes) -> PasswordHash:
    ln, r, p = _COST
    return PasswordHash(f"$scrypt$ln={ln},r={r},p={p}${_bare(salt)}${_bare(digest)}", SCRYPT)


def _bare(raw: bytes) -> str:
    return base64.b64encode(raw).decode().rstrip("=")

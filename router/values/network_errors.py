"""Plain texts for failed connections, from the errors of the operating system and of TLS.

Responsible for the reasons, and for advice on certificates (``tls_advice``). The caller adds other advice,
which depends on the kind of connection.
"""

import os
import re
import ssl

NOT_PEM = "the file holds no usable PEM data"
NO_TLS = "the other side does not speak TLS"
UNTRUSTED = "its certificate is not trusted"
REFUSED = "the other side does not trust the certificate that was sent to it"

_TLS_REASONS = {  # by OpenSSL's name; several names share a text, since either side may detect a fault
    "WRONG_VERSION_NUMBER": NO_TLS,
    "UNKNOWN_PROTOCOL": NO_TLS,
    "HTTP_REQUEST": NO_TLS,
    "PACKET_LENGTH_TOO_LONG": NO_TLS,
    "RECORD_LAYER_FAILURE": NO_TLS,
    "UNSUPPORTED_PROTOCOL": "the two sides have no TLS version in common",
    "TLSV1_ALERT_PROTOCOL_VERSION": "the two sides have no TLS version in common",
    "NO_SHARED_CIPHER": "the two sides have no cipher in common",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "the two sides have no cipher in common",
    "TLSV1_ALERT_UNKNOWN_CA": REFUSED,
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": REFUSED,
    "SSLV3_ALERT_BAD_CERTIFICATE": REFUSED,
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the certificate that was sent to the other side has expired",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the other side requires a client certificate",
    "KEY_VALUES_MISMATCH": "the key does not belong to the certificate",
    "NO_START_LINE": NOT_PEM,
    "NO_CERTIFICATE_OR_CRL_FOUND": NOT_PEM,
    "PEM_LIB": NOT_PEM,
    "BAD_DECRYPT": "the key is encrypted",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "a client certificate is required, and the client sent none",
}


def explain(error: BaseException) -> str:
    """Return the reason of a failed connection.

    This is the text of the first TLS error of the chain of causes, else of its first system error, else of
    ``error``.
    """
    chain = list(_causes(error))
    for each in chain:
        if isinstance(each, ssl.SSLError):
            return _of_tls(each)
    for each in chain:
        number = getattr(each, "errno", None)
        if isinstance(each, OSError) and (number or each.strerror):
            # Errors of name look-ups have numbers of their own, below 0.
            return os.strerror(number) if number and number > 0 else str(each.strerror)
    return str(error)


def tls_advice(error: BaseException, where: str) -> str:
    """Return the URL parameters that would avoid a certificate error; "" for any other error.

    ``where`` is the name of the option that holds the URL.
    """
    for each in _causes(error):
        if isinstance(each, ssl.SSLCertVerificationError):
            return (
                f"cacertfile=FILE in {where} names the authorities to trust, "
                "and verify=verify_none takes any certificate"
            )
        if isinstance(each, ssl.SSLError) and "CERTIFICATE" in (each.reason or ""):
            return f"certfile=FILE and keyfile=FILE in {where} name the certificate to show"
    return ""


def _causes(error: BaseException | None) -> list[BaseException]:
    """Return an error followed by its chain of causes; for an exception group, its first member
    comes next.
    """
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        group = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else None
        error = group or error.__cause__ or error.__context__
    return found


def _reason_in(error: ssl.SSLError) -> str:
    """Return OpenSSL's reason from an error that has it in its text only: ``[SSL] PEM lib (_ssl.c:4149)``."""
    text = re.sub(r"^\[[^]]*\] *| *\(_ssl\.c:\d+\)$", "", str(error.strerror or error))
    return text.upper().replace(" ", "_")


def _of_tls(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{UNTRUSTED}: {error.verify_message.rstrip('.')}"
    if isinstance(error, ssl.SSLEOFError):
        return "the other side ended the connection without closing TLS"
    reason = error.reason or _reason_in(error)
    return _TLS_REASONS.get(reason, f"TLS failed: {reason.lower().replace('_', ' ')}")
